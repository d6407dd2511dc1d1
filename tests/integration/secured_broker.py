"""A broker with listeners of every security protocol, whose certificates a client should or should not accept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from tests.sandbox.broker import Broker
from tests.sandbox.ports import free_ports
from tests.tls_files import Authority, TlsFiles

USER, PASSWORD = "course-sync", "correct horse"


class SecuredBroker(Broker):
    """`bootstrap` is its plain listener; `address` has the others by name. Certificates are for 127.0.0.1."""

    def __init__(
        self,
        authority: Authority,
        listeners: Mapping[str, tuple[str, Mapping[str, str]]],
        jvm: tuple[str, ...] = (),
        *,
        advertised: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """`listeners` has protocol and settings by name, in lower case. `advertised` has the addresses that clients are sent
        to, where these are not the listener's own."""
        super().__init__(session_timeout=60.0)
        self._jvm += jvm
        self.address = {
            name: f"127.0.0.1:{port}"
            for name, port in zip(listeners, free_ports(len(listeners)), strict=True)
        }
        own = self._settings
        for name, (protocol, settings) in listeners.items():
            own["listeners"] += f",{name.upper()}://{self.address[name]}"
            own["advertised.listeners"] += f",{name.upper()}://{advertised.get(name, self.address[name])}"
            own["listener.security.protocol.map"] += f",{name.upper()}:{protocol}"
            if protocol.endswith("SSL"):
                own |= _prefixed(name, keystore(authority.issue(name)))
            own |= _prefixed(name, settings)


def _prefixed(listener: str, settings: Mapping[str, str]) -> dict[str, str]:
    return {f"listener.name.{listener}.{name}": value for name, value in settings.items()}


def keystore(files: TlsFiles) -> dict[str, str]:
    return {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.certificate.chain": _one_line(files.certificate),
        "ssl.keystore.key": _one_line(files.key),
    }


def client_certificates_of(authority: Authority) -> dict[str, str]:
    """Settings of a listener that requires them."""
    return {
        "ssl.client.auth": "required",
        "ssl.truststore.type": "PEM",
        "ssl.truststore.certificates": _one_line(authority.file),
    }


def logins_with_password() -> dict[str, str]:
    module = "org.apache.kafka.common.security.plain.PlainLoginModule"
    return {
        "sasl.enabled.mechanisms": "PLAIN",
        "plain.sasl.jaas.config": f'{module} required user_{USER}="{PASSWORD}";',
    }


def _one_line(file: Path) -> str:
    return file.read_text().replace("\n", "\\n")
