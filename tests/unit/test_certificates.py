"""When the client's certificate ends: as OpenSSL says it, and as a scrape of the daemon does."""

from __future__ import annotations

import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest

from daemon.commands.certificates import CertificateError, not_after
from tests.sandbox.local_http import get
from tests.sandbox.ports import free_ports
from tests.sandbox.process import Child

DEADLINE = 60.0
COURSESYNCD = str(Path(sys.executable).with_name("coursesyncd"))


def openssl(*words: object) -> str:
    return subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, text=True).stdout


def make(folder: Path, days: int, subject: str = "/CN=replica") -> tuple[Path, Path]:
    """A certificate that signs itself, and its key."""
    certificate, key = folder / f"{days}.pem", folder / f"{days}.key"
    openssl(
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
        "-keyout", key, "-out", certificate, "-days", days, "-subj", subject,
    )  # fmt: skip
    return certificate, key


def end_of(certificate: Path) -> float:
    """As OpenSSL reads it."""
    said = openssl("x509", "-noout", "-enddate", "-in", certificate)
    return ssl.cert_time_to_seconds(said.strip().removeprefix("notAfter="))


@pytest.mark.parametrize("days", [1, 90, 3650, 36_500])
def test_it_is_what_openssl_says(tmp_path: Path, days: int) -> None:
    """The last of them ends after 2049, which X.509 writes in another way."""
    certificate, _ = make(tmp_path, days)
    assert not_after(certificate) == end_of(certificate)


def test_long_names_and_text_around_it_do_not_matter(tmp_path: Path) -> None:
    certificate, _ = make(tmp_path, 30, "/O=" + "x" * 60 + "/OU=" + "y" * 60 + "/CN=" + "z" * 60)
    end = end_of(certificate)
    certificate.write_text("Bag Attributes\n    friendlyName: replica é\n" + certificate.read_text())
    assert not_after(certificate) == end


def test_a_certificate_of_the_first_version_is_read(tmp_path: Path) -> None:
    _, key = make(tmp_path, 3)
    request, certificate = tmp_path / "request.pem", tmp_path / "v1.pem"
    openssl("req", "-new", "-key", key, "-subj", "/CN=old", "-out", request)
    openssl("x509", "-req", "-in", request, "-signkey", key, "-days", 5, "-out", certificate)
    assert "Version: 1" in openssl("x509", "-noout", "-text", "-in", certificate)
    assert not_after(certificate) == end_of(certificate)


def test_a_chain_ends_with_the_first_of_its_certificates(tmp_path: Path) -> None:
    (leaf, _), (authority, _) = make(tmp_path, 90), make(tmp_path, 7)
    chain = tmp_path / "chain.pem"
    chain.write_text(leaf.read_text() + authority.read_text())
    assert not_after(chain) == end_of(authority)


@pytest.mark.parametrize(
    "content",
    [
        "no certificate",
        "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIB\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
    ],
)
def test_what_can_not_be_read_is_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "cert.pem"
    file.write_text(content)
    with pytest.raises(CertificateError, match=r"cert\.pem"):
        not_after(file)
    with pytest.raises(CertificateError, match=r"missing\.pem"):
        not_after(tmp_path / "missing.pem")


def test_a_scrape_tells_it_though_kafka_is_away(tmp_path: Path) -> None:
    certificate, key = make(tmp_path, 20)
    api_key = tmp_path / "api-key"
    port, nowhere = free_ports(2)
    api_key.write_text("key\n")
    environment = {
        "COURSESYNC_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{nowhere}",
        "COURSESYNC_KAFKA_SECURITY_PROTOCOL": "SSL",
        "COURSESYNC_KAFKA_TLS_CERTIFICATE_FILE": str(certificate),
        "COURSESYNC_KAFKA_TLS_KEY_FILE": str(key),
        "COURSESYNC_KOMBO_API_KEY_FILE": str(api_key),
        "COURSESYNC_ADMIN_HOST": "127.0.0.1",
        "COURSESYNC_ADMIN_PORT": str(port),
    }
    child = Child.start("run", [COURSESYNCD, "run"], log=tmp_path / "log", env=environment)
    try:
        name = 'coursesync_tls_certificate_not_after_timestamp_seconds{usage="kafka_client"}'
        deadline, told = time.monotonic() + DEADLINE, 0.0
        while not told:
            assert time.monotonic() < deadline, child.output()
            time.sleep(0.05)
            told = scraped(port, name)
        assert told == end_of(certificate)
    finally:
        child.terminate()
        child.wait(DEADLINE)


def scraped(port: int, name: str) -> float:
    """0 while nobody listens."""
    try:
        lines = get(f"http://127.0.0.1:{port}/metrics").decode().splitlines()
    except OSError:
        return 0.0
    (value,) = [line.rsplit(" ", 1)[1] for line in lines if line.startswith(name)]
    return float(value)
