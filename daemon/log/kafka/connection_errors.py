"""Why no connection to Kafka could be made, and what to do about it.

The library's errors name neither the server nor the setting to change. All programs use the sentences of this module:
the daemon for its log, the commands for their output.
"""

from __future__ import annotations

import errno
import ssl
from collections.abc import Iterator, Mapping

from kafka.errors import (
    IllegalSaslStateError,
    KafkaProtocolError,
    RetriableError,
    SaslAuthenticationFailedError,
    UnsupportedSaslMechanismError,
)

from daemon.codec.texts import describe
from daemon.log.kafka.cures.connecting import HANDSHAKE_FAILED, HANDSHAKE_TIMED_OUT, is_timeout
from daemon.log.kafka.tokens import TokenError

_EXPIRED, _NOT_YET_VALID = 10, 9
_OTHER_NAME = (62, 64)
"""Numbers of OpenSSL (``X509_V_ERR_…``): the certificate is for another host name or address."""
_NOT_STRICT = range(79, 95)
"""The certificate, or that of an authority, is not as RFC 5280 demands. Python checks this from 3.13 on."""

_ENDED = ("disconnected", "reset", "broken pipe")
_PROTOCOL = "kafka.security_protocol"


class UnreachableError(RetriableError):  # type: ignore[misc]
    """No bootstrap server could be used. The message names each with the reason and the remedy."""

    def __str__(self) -> str:
        return str(self.args[0])


def described(error: BaseException) -> str:
    """An error of Kafka's client as a message: the sentence of this module, else type and text."""
    return str(error) if isinstance(error, UnreachableError) else describe(error)


def unreachable(failures: Mapping[str, BaseException], protocol: str, login: str) -> UnreachableError:
    """`failures` has the last failure of each address. `protocol` and `login` are those of the settings."""
    servers: dict[str, list[str]] = {}
    for address, error in failures.items():
        servers.setdefault(_reason(error, protocol, login), []).append(address)
    return UnreachableError(
        "; ".join(f"Kafka at {', '.join(names)} {reason}" for reason, names in servers.items())
    )


def _reason(error: BaseException, protocol: str, login: str) -> str:
    """How the sentence about this server goes on."""
    set_to = f"{_PROTOCOL} is {protocol}"
    tls = next((cause for cause in _causes(error) if isinstance(cause, ssl.SSLError)), None)
    text = str(error.args[0]) if error.args else ""
    if isinstance(tls, ssl.SSLCertVerificationError):
        return f"has a certificate that is not accepted: {tls.verify_message.rstrip('.')}; {_renewal(tls.verify_code)}"
    if tls is not None and "ALERT" in (tls.reason or "").upper():
        return (
            f"refused the TLS connection ({_text(tls)}): it may require a client certificate, or not trust the one that it "
            "got; check kafka.tls_certificate_file and kafka.tls_key_file"
        )
    if text.startswith(HANDSHAKE_FAILED):
        plain = "PLAINTEXT" if protocol == "SSL" else "SASL_PLAINTEXT"
        why = _text(tls) if tls is not None else text
        return f"does not speak TLS at this port ({why}), but {set_to}; use the port of a TLS listener, or {plain}"
    if text == HANDSHAKE_TIMED_OUT:
        return (
            "accepted the connection and did not answer the TLS handshake in time: check that the port is a TLS listener of "
            "Kafka, and that no proxy is in between"
        )
    if isinstance(error, TokenError):
        return f"was not asked for the login {login}: {error}"
    if isinstance(error, SaslAuthenticationFailedError):
        return f"refused the login {login}: {text}; check the settings kafka.sasl_… and the user's credentials at Kafka"
    if isinstance(error, UnsupportedSaslMechanismError):
        return (
            f"does not offer the login {login}; set kafka.sasl_mechanism to one that the listener has enabled"
        )
    if isinstance(error, IllegalSaslStateError):
        return (
            f"does not accept a login at this port, but {set_to}; use the port of a {protocol} listener, or "
            f"{protocol.removeprefix('SASL_')}"
        )
    if text == "DNS Resolution failure":
        return (
            "has a host name that cannot be resolved; check kafka.bootstrap_servers, the broker's advertised.listeners and "
            "the DNS of this host"
        )
    if text.startswith(f"{errno.ECONNREFUSED} "):
        return (
            "refuses connections: nothing listens there; check host and port, and that the broker is running"
        )
    if is_timeout(error):
        return (
            "did not answer in time; check host and port, whether a firewall or network policy drops the packets, and "
            f"whether the listener expects another protocol: {set_to}"
        )
    if isinstance(error, KafkaProtocolError) or any(sign in text.lower() for sign in _ENDED):
        return (
            f"ended the connection, or answered in another protocol; {set_to}: check which of PLAINTEXT, SSL, SASL_PLAINTEXT "
            "and SASL_SSL the listener expects"
        )
    return f"could not be used: {describe(error)}; check host and port, the network and {_PROTOCOL}"


def _renewal(verify_code: int) -> str:
    if verify_code in _OTHER_NAME:
        return "use a name in kafka.bootstrap_servers and in the broker's advertised.listeners that the certificate contains"
    if verify_code in (_EXPIRED, _NOT_YET_VALID):
        return "renew the certificate of the broker, or correct the clock of this host"
    if verify_code in _NOT_STRICT:
        return "issue it, or that of its authority, anew as RFC 5280 demands: Python 3.13, which the image has, accepts no other"
    return "add the certificate authority of the brokers to kafka.tls_ca_file"


def _text(error: ssl.SSLError) -> str:
    return (error.reason or str(error.args[-1] if error.args else error)).lower().replace("_", " ")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, what it was raised from, and an error that it only has as its argument."""
    found: BaseException | None = error
    while found is not None:
        yield found
        inner = found.args[0] if found.args else None
        found = found.__cause__ or (inner if isinstance(inner, BaseException) else None)
