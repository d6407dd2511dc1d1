"""Why Kafka cannot be reached, in one sentence for the daemon and all commands. The servers are real sockets."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from kafka import KafkaAdminClient
from kafka.errors import KafkaError
from kafka.net.selector import NetworkSelector
from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport

from daemon.log.errors import LogError
from daemon.log.kafka.admin import Admin
from daemon.log.kafka.clients import _EVERY_CLIENT, Clients, KafkaConnection
from daemon.log.kafka.log import KafkaLog
from daemon.log.port import Topics
from tests.sandbox.ports import free_ports
from tests.tls_files import Authority, TlsFiles


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """For failures that are tried again until the time is over."""
    monkeypatch.setitem(_EVERY_CLIENT, "bootstrap_timeout_ms", 1_000)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """As before, but a busy machine too has time to try two servers, which the client takes in a random order."""
    monkeypatch.setitem(_EVERY_CLIENT, "bootstrap_timeout_ms", 5_000)


@contextmanager
def serving(answer: Callable[[socket.socket], object]) -> Iterator[str]:
    """The address of a server that treats each connection in this way, and then closes it."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection, suppress(OSError):
                    answer(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
    thread.join()


def with_tls(files: TlsFiles) -> Callable[[socket.socket], object]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.certificate, files.key)
    return lambda connection: context.wrap_socket(connection, server_side=True).recv(1)


def refused(connection: KafkaConnection) -> str:
    with pytest.raises(LogError) as caught:
        Admin(Clients(connection)).ask(lambda _: None)
    return str(caught.value)


# --- certificates: no retry helps, so the answer comes at once --------------------------------------


def test_a_broker_of_another_authority_is_not_trusted(authority: Authority, tmp_path: Path) -> None:
    other = Authority.make(tmp_path, "other")
    with serving(with_tls(authority.issue("good"))) as address:
        told = refused(KafkaConnection((address,), "SSL", tls_ca_file=str(other.file)))
        assert told.startswith(f"Kafka at {address} has a certificate that is not accepted: ")
        assert told.endswith("add the certificate authority of the brokers to kafka.tls_ca_file")
        told = refused(KafkaConnection((address,), "SSL"))
        assert "unable to get local issuer certificate; add the certificate authority" in told


def test_an_expired_certificate_is_named(authority: Authority) -> None:
    with serving(with_tls(authority.issue("expired", expired=True))) as address:
        told = refused(KafkaConnection((address,), "SSL", tls_ca_file=str(authority.file)))
    assert "certificate has expired; renew the certificate of the broker" in told


@pytest.mark.parametrize("host", ["kafka.example.com", "127.0.0.2"])
def test_a_certificate_for_another_name_is_named(authority: Authority, host: str) -> None:
    with serving(with_tls(authority.issue("elsewhere", host=host))) as address:
        told = refused(KafkaConnection((address,), "SSL", tls_ca_file=str(authority.file)))
    assert "certificate is not valid for '127.0.0.1'; use a name in kafka.bootstrap_servers" in told


def test_a_certificate_that_only_newer_pythons_refuse_is_named(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the image's Python does by default."""

    def strict(cafile: str | None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=cafile)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr("daemon.log.kafka.clients.ssl", SimpleNamespace(create_default_context=strict))
    with serving(with_tls(authority.issue("lax", strict=False))) as address:
        told = refused(KafkaConnection((address,), "SSL", tls_ca_file=str(authority.file)))
    assert "Missing Authority Key Identifier; issue it, or that of its authority, anew" in told


def test_one_bad_server_of_two_does_not_end_the_attempts(authority: Authority, patient: None) -> None:
    with serving(with_tls(authority.issue("late", expired=True))) as bad:
        closed = f"127.0.0.1:{free_ports(1)[0]}"
        told = refused(KafkaConnection((bad, closed), "SSL", tls_ca_file=str(authority.file)))
    assert f"Kafka at {bad} has a certificate that is not accepted" in told
    assert f"Kafka at {closed} refuses connections" in told


# --- transient errors ----------------------------------------------------------------------------------


def test_a_closed_port_is_told_by_the_commands_and_by_the_daemon(impatient: None) -> None:
    address = f"127.0.0.1:{free_ports(1)[0]}"
    assert refused(KafkaConnection((address,))) == (
        f"Kafka at {address} refuses connections: nothing listens there; check host and port, and that the broker is running"
    )


async def test_the_daemon_says_the_same_as_the_commands(impatient: None) -> None:
    connection = KafkaConnection((f"127.0.0.1:{free_ports(1)[0]}",))
    log = KafkaLog(connection, Topics(), "group", None, 6.0)
    try:
        with pytest.raises(LogError) as caught:
            await log.start()
    finally:
        await log.stop()
    assert str(caught.value) == refused(connection)


def test_servers_with_the_same_trouble_share_a_sentence(patient: None) -> None:
    first, second = (f"127.0.0.1:{port}" for port in free_ports(2))
    told = refused(KafkaConnection((first, second)))
    assert told.count("refuses connections") == 1
    assert first in told
    assert second in told


def test_a_name_that_cannot_be_resolved_is_named(impatient: None) -> None:
    told = refused(KafkaConnection(("kafka.invalid:9092",)))
    assert told.startswith("Kafka at kafka.invalid:9092 has a host name that cannot be resolved")


@pytest.mark.parametrize("protocol", ["PLAINTEXT", "SSL", "SASL_SSL"])
def test_a_server_that_stays_silent_does_not_hold_up_the_client(protocol: str, impatient: None) -> None:
    held = threading.Event()
    with serving(lambda _: held.wait()) as address:
        told = refused(KafkaConnection((address,), protocol, "PLAIN", "user", "password"))
        held.set()
    expected = (
        "did not answer in time" if protocol == "PLAINTEXT" else "did not answer the TLS handshake in time"
    )
    assert expected in told


def test_a_server_that_closes_the_connection_may_expect_another_protocol(impatient: None) -> None:
    with serving(lambda connection: connection.recv(1)) as address:
        assert "kafka.security_protocol is PLAINTEXT: check which" in refused(KafkaConnection((address,)))
        told = refused(KafkaConnection((address,), "SSL"))
    assert "does not speak TLS at this port" in told
    assert "kafka.security_protocol is SSL; use the port of a TLS listener, or PLAINTEXT" in told


def test_a_server_that_answers_in_another_protocol_is_no_listener_of_kafka(impatient: None) -> None:
    def answer(connection: socket.socket) -> None:
        connection.sendall(bytes.fromhex("15030300020246"))  # an alert of TLS
        while connection.recv(1_000_000):
            pass

    with serving(answer) as address:
        assert "answered in another protocol" in refused(KafkaConnection((address,)))


def test_a_server_of_another_protocol_does_not_speak_tls(impatient: None) -> None:
    with serving(lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as address:
        assert "does not speak TLS at this port" in refused(KafkaConnection((address,), "SSL"))


# --- the defects of the library that `cures.connecting` cures --------------------------------------


def test_the_library_still_hides_why_it_cannot_connect() -> None:
    with pytest.raises(KafkaError, match="Unable to bootstrap") as caught:
        KafkaAdminClient(bootstrap_servers=f"127.0.0.1:{free_ports(1)[0]}", bootstrap_timeout_ms=50)
    assert "REFUSED" not in str(caught.value)


def test_a_handshake_still_has_no_time_limit() -> None:
    assert "timeout_at" not in KafkaSSLTransport.handshake.__code__.co_names
    assert "timeout" not in "".join(KafkaSSLTransport.handshake.__code__.co_varnames)


def test_what_is_read_with_the_end_of_a_connection_is_still_dropped() -> None:
    """The caller, `_read_from_sock`, looks at the error first."""
    ours, theirs = socket.socketpair()
    with ours:
        theirs.sendall(b"refused")
        theirs.close()
        received, error = KafkaTCPTransport(NetworkSelector(), ours)._sock_recv()
    assert received == b"refused"
    assert error is not None
