"""A client that cannot connect does not say why, and a TLS handshake has no time limit.

Defects, cured together because both are in the part that opens connections:

1. The reason of each failed attempt is only logged. The constructor raises "Unable to bootstrap from …" after
   ``bootstrap_timeout_ms``, also for failures that no retry can mend. A refused login is meant to end the attempts
   (`maybe_raise_auth_failure`), but is never noted, because `KafkaConnection.initialize` does not raise.
2. A server that accepts connections and then sends nothing blocks a TLS handshake without end, and so the constructor.
3. What is read together with the end of a connection is dropped. A broker that refuses a login sends the refusal and closes, and
   a busy client only learns that the connection was lost.

`FailuresAreNoted` notes the last failure of each address until a connection to it succeeds. It ends the bootstrap early when every
address has failed for good.

Upstream: not reported.
Versions: 3.0.12.
Remove when: tests/unit/test_kafka_connecting.py::test_the_library_still_hides_why_it_cannot_connect,
    tests/unit/test_kafka_connecting.py::test_a_handshake_still_has_no_time_limit and
    tests/unit/test_kafka_connecting.py::test_what_is_read_with_the_end_of_a_connection_is_still_dropped fail.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from functools import partial
from typing import Any

from kafka.errors import (
    IllegalSaslStateError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    RequestTimedOutError,
    SaslAuthenticationFailedError,
    UnsupportedSaslMechanismError,
)
from kafka.net.inet import create_connection
from kafka.net.manager import KafkaConnectionManager
from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport

_FINAL = (
    IllegalSaslStateError,
    SaslAuthenticationFailedError,
    UnsupportedSaslMechanismError,
    ssl.SSLCertVerificationError,
)


HANDSHAKE_FAILED = "the TLS handshake failed"
HANDSHAKE_TIMED_OUT = "the TLS handshake timed out"
_TIMED_OUT = (HANDSHAKE_TIMED_OUT, "Connection timed out")


class CannotConnectError(KafkaError):  # type: ignore[misc]
    """No server of the cluster could be used. `failures` has the last failure of each address (``host:port``)."""

    def __init__(self, failures: Mapping[str, BaseException]) -> None:
        super().__init__("; ".join(f"{address}: {error}" for address, error in failures.items()))
        self.failures = failures


class _LastBytesAreRead:
    """The end of the connection is reported only when all that came before it was delivered."""

    _end: BaseException | None = None

    def _sock_recv(self) -> tuple[bytes, BaseException | None]:
        if self._end is not None:
            return b"", self._end
        received, self._end = super()._sock_recv()  # type: ignore[misc]
        return received, None if received else self._end


class _PlainTransport(_LastBytesAreRead, KafkaTCPTransport):  # type: ignore[misc]
    pass


class _TlsTransport(_LastBytesAreRead, KafkaSSLTransport):  # type: ignore[misc]
    timeout_at: float | None = None

    async def handshake(self) -> None:
        while True:
            try:
                self._sock.do_handshake()
                return
            except ssl.SSLWantReadError:
                await self._net.wait_read(self._sock, timeout_at=self.timeout_at)
            except ssl.SSLWantWriteError:
                await self._net.wait_write(self._sock, timeout_at=self.timeout_at)


class FailuresAreNoted(KafkaConnectionManager):  # type: ignore[misc]
    """Methods run on the client's I/O thread, except the constructor."""

    config: dict[str, Any]
    cluster: Any
    _net: Any

    def __init__(self, net: Any, **configs: Any) -> None:
        super().__init__(net, **configs)
        self.failures: dict[str, BaseException] = {}

    def get_connection(self, *args: Any, **kwargs: Any) -> Any:
        if not self.bootstrapped and (failure := self._final_failure()):
            raise failure
        return super().get_connection(*args, **kwargs)

    async def _connect(self, node: Any, conn: Any, **kwargs: Any) -> None:
        address = f"{node.host}:{node.port}"
        note = partial(self._note, address)
        conn.init_future.add_callback(lambda _: self.failures.pop(address, None))
        conn.init_future.add_errback(note)
        conn.close_future.add_errback(note)  # a server may refuse the first request after that
        await super()._connect(node, conn, **kwargs)

    async def _build_transport(self, node: Any, timeout_at: float | None = None) -> Any:
        sock = await create_connection(
            self._net, node.host, node.port, self.config["socket_options"], timeout_at=timeout_at
        )
        if not self.ssl_enabled:
            return _PlainTransport(self._net, sock, host=node.host)
        transport = _TlsTransport(self._net, sock, host=node.host, ssl_context=self.config["ssl_context"])
        transport.timeout_at = timeout_at
        try:
            await transport.handshake()
        except KafkaTimeoutError:
            transport.close()
            raise KafkaConnectionError(HANDSHAKE_TIMED_OUT) from None
        except Exception as error:
            transport.close()
            raise KafkaConnectionError(f"{HANDSHAKE_FAILED}: {error}") from error
        return transport

    def _note(self, address: str, error: BaseException) -> None:
        # The last attempt of a bootstrap may have too little time left, and a server may close a connection before it has
        # refused the login, which says less than what came before.
        before = self.failures.get(address)
        if before is None or _is_final(error) or not (is_timeout(error) or _is_final(before)):
            self.failures[address] = error

    def _final_failure(self) -> BaseException | None:
        """A failure that no retry can mend, if no bootstrap server has another one."""
        failures = [
            self.failures.get(f"{node.host}:{node.port}") for node in self.cluster.bootstrap_brokers()
        ]
        final = [error for error in failures if error is not None and _is_final(error)]
        return final[0] if final and len(final) == len(failures) else None


def _is_final(error: BaseException) -> bool:
    """Whether no retry can mend it."""
    return isinstance(error, _FINAL) or is_about_certificate(error)


def is_about_certificate(error: BaseException | None) -> bool:
    """Whether the server's certificate was not accepted."""
    return error is not None and isinstance(error.__cause__, ssl.SSLCertVerificationError)


def is_timeout(error: BaseException) -> bool:
    """Whether the server did not answer in time."""
    return isinstance(error, KafkaTimeoutError | RequestTimedOutError) or (
        isinstance(error, KafkaConnectionError) and error.args[:1] in [(text,) for text in _TIMED_OUT]
    )


def failures_of(client: Any) -> Mapping[str, BaseException]:
    """The addresses that the admin client could not use in its last attempt, with the reasons."""
    return dict(client._manager.failures)  # noqa: SLF001
