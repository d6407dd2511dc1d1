"""When the client certificate expires, read from its file.

Python's `ssl` reports the dates of certificate authorities and of the peer only, so `cryptography` reads the file.
"""

from __future__ import annotations

from pathlib import Path


class CertificateError(Exception):
    """The file contains no certificate that can be read. The message says why."""


def not_after(file: Path) -> float:
    """When the first certificate of the chain expires, in seconds since the epoch.

    Raises:
        CertificateError: the file cannot be read, or contains no certificate.
    """
    # Costs 11 MiB and about 0.1 s, for replicas with a client certificate only.
    from cryptography import x509  # noqa: PLC0415

    try:
        chain = x509.load_pem_x509_certificates(file.read_bytes())
        return min(certificate.not_valid_after_utc for certificate in chain).timestamp()
    except (OSError, ValueError) as error:
        raise CertificateError(f"{file}: the certificate cannot be read: {error}") from error
