"""A running daemon whose admin port is flooded: its probes are answered, and changes go on.

Started with 1,024 open files, once so that it can raise that, and once so that it cannot.
"""

from __future__ import annotations

import contextlib
import resource
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon.admin.gate import CONNECTIONS_MAX
from tests.integration.daemon_world import (
    DEADLINE,
    UNHURRIED,
    await_results,
    good,
    log_lines,
    probe,
    publish,
    wait_until,
)
from tests.sandbox.stack import Stack

pytestmark = [pytest.mark.endurance, pytest.mark.kafka]

FILES = 1024
LOG_BYTES_MAX = 64 * 1024
"""More than the daemon's own lines of a test, and less than a hundred tracebacks."""
SCRAPE = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"


class Flooded:
    """The daemon, and the connections that a test holds open."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.address = ("127.0.0.1", int(stack.addresses.admin_url.rpartition(":")[2]))
        self.published = 0

    def hold(self, cleanup: contextlib.ExitStack, count: int, sent: bytes = b"") -> list[socket.socket]:
        """So many connections on which this was sent, and nothing more will be."""
        held = []
        for _ in range(count):
            connection = socket.create_connection(self.address, timeout=DEADLINE)
            held.append(cleanup.enter_context(connection))
            with contextlib.suppress(OSError):  # closed already
                connection.sendall(sent)
        return held

    def assert_works(self) -> None:
        """The kubelet finds it well, and a change gets its result."""
        for name in ("livez", "readyz", "state"):
            assert probe(self.stack.addresses.admin_url, name)[0] == 200, name
        publish(self.stack, good(self.published))
        self.published += 1
        await_results(self.stack, self.published)
        assert probe(self.stack.addresses.admin_url, "livez")[0] == 200

    def await_closed(self, connections: list[socket.socket]) -> None:
        """All of them have been closed by the daemon, in order or not."""
        with selectors.DefaultSelector() as selector:
            for opened in connections:
                opened.setblocking(False)
                selector.register(opened, selectors.EVENT_READ)
            deadline = time.monotonic() + DEADLINE
            while selector.get_map():
                assert time.monotonic() < deadline, f"{len(selector.get_map())} connections are still open"
                for key, _ in selector.select(1.0):
                    connection = key.fileobj
                    assert isinstance(connection, socket.socket)
                    with contextlib.suppress(ConnectionError):
                        if connection.recv(1 << 20):
                            continue
                    selector.unregister(connection)


@pytest.fixture(scope="module", params=["soft", "hard"])
def flooded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, kafka_bootstrap: str
) -> Iterator[Flooded]:
    """One daemon for all tests: what one of them leaves behind would hurt the next."""
    with our_own_files(3 * FILES), _stack(tmp_path_factory.mktemp("flooded"), kafka_bootstrap) as stack:
        option = {"soft": "-S", "hard": ""}[request.param]
        limited = ["sh", "-c", f'ulimit {option} -n {FILES}; exec "$@"', "sh"]
        stack.daemon._command[:0] = limited
        stack.start_daemon()
        stack.await_ready()
        yield Flooded(stack)


def _stack(directory: Path, kafka: str) -> Stack:
    return Stack(
        directory, faults="none", seed=1, say=print, kafka=kafka, task_seconds=0.2, settings=UNHURRIED
    )


@contextlib.contextmanager
def our_own_files(wanted: int) -> Iterator[None]:
    """The tests hold as many connections as the daemon is flooded with."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"this process may open {hard} files, and needs {wanted}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(autouse=True)
def quiet_log(flooded: Flooded) -> Iterator[None]:
    """No flood fills the log, and no library of the server has anything to say. On a busy machine Kafka's client may."""

    def by_libraries() -> list[dict[str, Any]]:
        events = [line for line in log_lines(flooded.stack) if line["event"].startswith("library.")]
        return [line for line in events if line["event"] != "library.kafka"]

    log = flooded.stack.daemon.log
    before, earlier = log.stat().st_size, len(by_libraries())
    yield
    assert log.stat().st_size - before < LOG_BYTES_MAX
    assert by_libraries()[earlier:] == []


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Never: end",
        b"POST /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nbegun",
        SCRAPE,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
    ids=["idle", "half a header", "half a body", "answers that nobody reads", "TLS"],
)
def test_connections_that_are_held_open_hold_up_nobody_and_are_closed(flooded: Flooded, sent: bytes) -> None:
    with contextlib.ExitStack() as cleanup:
        held = flooded.hold(cleanup, 1200, sent)
        flooded.assert_works()
        flooded.await_closed(held)
        flooded.assert_works()


def test_connections_that_send_a_byte_now_and_then_hold_up_nobody_and_are_closed(flooded: Flooded) -> None:
    def drip() -> bool:
        """Whether all of them have been refused."""
        for connection in list(dripping):
            try:
                connection.send(b"x")
            except OSError:
                dripping.remove(connection)
        return not dripping

    with contextlib.ExitStack() as cleanup:
        dripping = flooded.hold(cleanup, CONNECTIONS_MAX // 2, b"GET /livez HTTP/1.1\r\nX: ")
        flooded.assert_works()
        wait_until(drip, "they are closed")


def test_pipelined_scrapes_hold_up_nobody(flooded: Flooded) -> None:
    with socket.create_connection(flooded.address, timeout=DEADLINE) as connection:

        def send() -> None:
            with contextlib.suppress(OSError):
                connection.sendall(SCRAPE * 25_000)

        with meanwhile(send):
            flooded.assert_works()
        flooded.await_closed([connection])


def test_connections_that_come_and_go_hold_up_nobody(flooded: Flooded) -> None:
    over = threading.Event()
    answered = 0

    def scrape() -> None:
        nonlocal answered
        while not over.is_set():
            with (
                contextlib.suppress(OSError),
                socket.create_connection(flooded.address, timeout=DEADLINE) as connection,
            ):
                connection.sendall(SCRAPE)
                if connection.recv(12) == b"HTTP/1.1 200":
                    answered += 1

    def come_and_go() -> None:
        while not over.is_set():
            with contextlib.suppress(OSError):
                socket.create_connection(flooded.address, timeout=DEADLINE).close()

    with contextlib.ExitStack() as cleanup:
        for work in [scrape] * 20 + [come_and_go] * 5:
            cleanup.enter_context(meanwhile(work))
        cleanup.callback(over.set)
        flooded.assert_works()
        wait_until(lambda: answered >= 1000, "scrapes")
        flooded.assert_works()


@contextlib.contextmanager
def meanwhile(work: Callable[[], None]) -> Iterator[None]:
    """In a thread of its own, whose end is waited for."""
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        thread.join(DEADLINE)
        assert not thread.is_alive()
