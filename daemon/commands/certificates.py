"""When a certificate of ours ends: read from the file itself.

Python's `ssl` tells it of the other side's certificates only, and a library for one date would be a dependency for
one date. So the few bytes of X.509 that lead to it (RFC 5280, section 4.1) are walked here.
"""

from __future__ import annotations

import re
import ssl
from datetime import UTC, datetime
from pathlib import Path

_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_VERSION, _SEQUENCE, _UTC_TIME, _GENERALIZED_TIME = 0xA0, 0x30, 0x17, 0x18
"""Tags of DER."""


class CertificateError(Exception):
    """The file holds no certificate that can be read. The message is for people."""


def not_after(file: Path) -> float:
    """When the first of the chain's certificates ends, in seconds since the epoch.

    Raises:
        CertificateError: it can not be told.
    """
    try:
        found = _CERTIFICATE.findall(file.read_text(encoding="ascii", errors="replace"))
        if not found:
            raise CertificateError(f"{file} holds no certificate in PEM form")
        return min(_not_after(ssl.PEM_cert_to_DER_cert(pem)) for pem in found)
    except (OSError, ValueError, IndexError) as error:
        raise CertificateError(f"{file}: its certificate can not be read: {error!r}") from error


def _not_after(der: bytes) -> float:
    """Certificate → tbsCertificate → validity → notAfter."""
    _, certificate, _ = _element(der)
    _, signed, _ = _element(certificate)
    tag, _, rest = _element(signed)
    if tag == _VERSION:  # optional
        _, _, rest = _element(rest)
    _, _, rest = _element(rest)  # the signature's algorithm, after the serial number
    _, _, rest = _element(rest)  # the issuer
    tag, validity, _ = _element(rest)
    if tag != _SEQUENCE:
        raise ValueError("no period of validity where X.509 has it")
    _, _, rest = _element(validity)  # notBefore
    tag, text, _ = _element(rest)
    return _time(tag, text.decode("ascii"))


def _element(der: bytes) -> tuple[int, bytes, bytes]:
    """The first element's tag and content, and what comes after it."""
    tag, length, start = der[0], der[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(der[2:start], "big")
    if len(der) < start + length:
        raise ValueError("an element is longer than what holds it")
    return tag, der[start : start + length], der[start + length :]


def _time(tag: int, text: str) -> float:
    if tag == _UTC_TIME:  # two digits of the year: 1950 to 2049
        text = f"{'19' if text >= '5' else '20'}{text}"
    elif tag != _GENERALIZED_TIME:
        raise ValueError(f"no time, but an element of type {tag}")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()
