"""A certificate authority for tests, and certificates that a client should or should not accept."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

_SIGNS_CERTIFICATES = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


@dataclass(frozen=True)
class TlsFiles:
    """Both are PEM."""

    certificate: Path
    key: Path


class Authority:
    def __init__(self, folder: Path, name: str, key: ec.EllipticCurvePrivateKey) -> None:
        self.file = folder / f"{name}.ca.pem"
        self._folder, self._name, self._key = folder, name, key

    @classmethod
    def make(cls, folder: Path, name: str = "tests") -> Self:
        key = ec.generate_private_key(ec.SECP256R1())
        made = cls(folder, name, key)
        builder = made._builder(f"authority {name}", key)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        builder = builder.add_extension(_SIGNS_CERTIFICATES, critical=True)
        made.file.write_bytes(builder.sign(key, SHA256()).public_bytes(Encoding.PEM))
        return made

    def issue(
        self, name: str, *, host: str = "127.0.0.1", expired: bool = False, strict: bool = True
    ) -> TlsFiles:
        """A certificate for this address or host name. Without `strict`, it lacks what Python 3.13 demands."""
        key = ec.generate_private_key(ec.SECP256R1())
        try:
            subject: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
        except ValueError:
            subject = x509.DNSName(host)
        builder = self._builder(name, key, expired=expired, strict=strict)
        builder = builder.add_extension(x509.SubjectAlternativeName([subject]), critical=False)
        files = TlsFiles(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        files.certificate.write_bytes(builder.sign(self._key, SHA256()).public_bytes(Encoding.PEM))
        files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return files

    def _builder(
        self, name: str, key: ec.EllipticCurvePrivateKey, *, expired: bool = False, strict: bool = True
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(_name(f"authority {self._name}"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=30))
            .not_valid_after(now + timedelta(days=-1 if expired else 30))
        )
        if not strict:
            return builder
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        return builder.add_extension(issuer, critical=False).add_extension(own, critical=False)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
