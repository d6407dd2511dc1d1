"""Whoever reaches the admin port may be broken or hostile: the probes are answered all the same."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import resource
import socket
from collections.abc import Iterator

import pytest
import structlog

from daemon.admin import gate as gates
from daemon.admin.gate import OUT_OF_FILES_PAUSE, Gate
from daemon.admin.rendering import RENDERING_SHARE_MAX, Page
from daemon.admin.server import HEADER_BYTES_MAX, LINE_BYTES_MAX, REQUEST_HEADERS_MAX
from tests.unit.admin_clients import (
    LIVEZ,
    METRICS,
    Port,
    answers,
    read_all,
    send_until_refused,
    serving,
    until,
)

BRIEF = 0.2
"""Seconds that a connection may last, where a test waits for its end."""
LONG = 3600.0

# --- connections that are held --------------------------------------------------------------------


async def test_a_probe_is_answered_while_more_connections_are_held_open_than_are_allowed() -> None:
    async with serving(connections_max=20, connection_seconds_max=LONG) as port:
        held = [await port.connect(send=b"GET /liv") for _ in range(100)]
        assert await port.is_live()
        oldest = await asyncio.gather(*(read_all(connection) for connection in held[:79]))
        assert set(oldest) == {b""}, "closed without an answer"
        assert port.open_connections <= 20

        loop = asyncio.get_running_loop()
        await loop.sock_sendall(held[-1], b"ez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b" 200 OK" in await read_all(held[-1]), "the newest were left alone"


async def test_that_connections_were_closed_to_make_room_is_logged_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gates, "_LOOK_EVERY", 0.05)
    with structlog.testing.capture_logs() as lines:
        async with serving(connections_max=5, connection_seconds_max=LONG) as port:
            for _ in range(30):
                await port.connect()
            await until(lambda: lines, "the line")
            for _ in range(30):
                await port.connect()
            assert await port.is_live()
    assert [line["event"] for line in lines] == ["admin.crowded"]
    assert lines[0]["connections_max"] == 5


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"G",
        b"GET /livez HTTP/1.1\r\nHost: x\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Long: " + b"y" * 1000,
        b"POST /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nbegun",
        b"GET /livez HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n",
        LIVEZ,
    ],
    ids=["nothing", "a byte", "half a header", "half a long header", "half a body", "half a chunked body", "a request"],
)  # fmt: skip
async def test_a_connection_has_an_end_whatever_was_sent(
    monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(gates, "_LOOK_EVERY", 0.05)
    async with serving(connection_seconds_max=BRIEF) as port:
        await port.ask(sent)
        await until(lambda: port.open_connections == 0, "the end of the connection")


async def test_a_byte_now_and_then_does_not_keep_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "_LOOK_EVERY", 0.05)
    async with serving(connection_seconds_max=BRIEF) as port:
        slow = await port.connect(send=b"GET /livez HTTP/1.1\r\nX: ")
        await until(lambda: port.open_connections == 1, "the connection")
        await send_until_refused(slow, b"x", every=0.02)


async def test_an_answer_that_nobody_reads_does_not_keep_a_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gates, "_LOOK_EVERY", 0.05)
    more_than_any_buffer = b"# \n" * 10_000_000
    async with serving(lambda: more_than_any_buffer, connection_seconds_max=BRIEF) as port:
        held = [await port.connect(send=METRICS) for _ in range(3)]
        for each in held:
            await send_until_refused(each, b"x", every=0.05)
        await until(lambda: port.open_connections == 0, "their end")


async def test_who_reads_in_time_has_all_of_a_long_answer() -> None:
    long = b"# \n" * 2_000_000
    async with serving(lambda: long) as port:
        received = await port.ask(METRICS)
    assert received.partition(b"\r\n\r\n")[2] == long


async def test_stop_does_not_wait_for_who_does_not_read() -> None:
    more_than_any_buffer = b"# \n" * 10_000_000
    async with serving(lambda: more_than_any_buffer, connection_seconds_max=LONG) as port:
        await port.connect(send=METRICS)
        await until(lambda: port.open_connections == 1, "the connection")
        assert port.server._running is not None
        _, gate = port.server._running
        await port.server.stop()
        await until(lambda: not gate._since, "its end")


async def test_after_stop_every_connection_is_closed() -> None:
    async with serving(connection_seconds_max=LONG) as port:
        held = [await port.connect(send=b"GET ") for _ in range(5)]
        await until(lambda: port.open_connections == 5, "the connections")
        held += [await port.connect() for _ in range(5)]
        await port.server.stop()
        assert await asyncio.gather(*(read_all(connection) for connection in held)) == [b""] * 10


# --- requests -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /livez HTTP/1.0\r\n\r\n", b"HTTP/1.0 200 OK"),
        (b"GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", b"HTTP/1.0 200 OK"),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nx", b"HTTP/1.1 200 OK"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)) * 2, b"HTTP/1.0 400 Bad Request"),
        (b"\x00\xff garbage \x80\r\n\r\n", b"HTTP/1.0 400 Bad Request"),
        (b"\r\n\r\nSSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.0 400 Bad Request"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"HTTP/1.0 400 Bad Request"),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n", b"HTTP/1.0 400 Bad Request"),
        (b"GET /" + b"a" * LINE_BYTES_MAX + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.0 400 Bad Request"),
        (LIVEZ[:-2] + b"X: " + b"a" * (HEADER_BYTES_MAX + 1) + b"\r\n\r\n", b"HTTP/1.0 400 Bad Request"),
        (LIVEZ[:-2] + b"X: a\r\n" * (REQUEST_HEADERS_MAX - 1) + b"\r\n", b"HTTP/1.1 200 OK"),
        (LIVEZ[:-2] + b"X: a\r\n" * REQUEST_HEADERS_MAX + b"\r\n", b"HTTP/1.0 400 Bad Request"),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n\x00\x01", b"HTTP/1.0 400 Bad Request"),
    ],
    ids=["1.0", "1.0 keep-alive", "upgrade", "TLS", "garbage", "SSH", "HTTP/2", "no length", "line", "header",
         "headers", "a header too many", "garbage behind"],
)  # fmt: skip
async def test_what_is_no_ordinary_request_has_an_answer_and_no_log_line(
    caplog: pytest.LogCaptureFixture, sent: bytes, status: bytes
) -> None:
    with structlog.testing.capture_logs() as lines:
        async with serving(connection_seconds_max=LONG) as port:
            received = await port.ask(sent)
            assert next(answers(received)) == status
            assert await port.is_live()
    assert lines == []
    assert [record for record in caplog.records if record.levelname != "DEBUG"] == []


@pytest.mark.parametrize("length", [b"Content-Length: 1000000", b"Transfer-Encoding: chunked"])
async def test_a_body_is_not_waited_for(length: bytes) -> None:
    async with serving(connection_seconds_max=LONG) as port:
        received = await port.ask(b"GET /livez HTTP/1.1\r\nHost: x\r\n" + length + b"\r\n\r\n5\r\nbegun")
        assert next(answers(received)) == b"HTTP/1.1 200 OK"


async def test_a_header_that_never_ends_is_refused_before_it_fills_the_memory() -> None:
    async with serving(connection_seconds_max=LONG) as port:
        flooding = await port.connect(send=b"GET / HTTP/1.1\r\n")
        await send_until_refused(flooding, b"x" * 65536, every=0.0)
        assert await port.is_live()


async def test_a_connection_carries_one_request_and_says_so() -> None:
    """Then pipelining cannot take the loop's time, and nobody's idle connection has to be kept."""
    rendered = 0

    def render() -> bytes:
        nonlocal rendered
        rendered += 1
        return b"# metrics\n"

    async with serving(render) as port:
        pipelining = await port.connect()
        sending = asyncio.create_task(asyncio.get_running_loop().sock_sendall(pipelining, METRICS * 25_000))
        received = await read_all(pipelining)
        with contextlib.suppress(ConnectionError):
            await sending
        assert list(answers(received)) == [b"HTTP/1.1 200 OK"]
        assert b"\r\nConnection: close\r\n" in received
        assert rendered == 1


async def test_connections_that_come_and_go_all_at_once_are_served_and_leave_nothing() -> None:
    async with serving() as port:
        received = await asyncio.gather(*(port.ask(LIVEZ) for _ in range(300)))
        assert [next(answers(one)) for one in received] == [b"HTTP/1.1 200 OK"] * 300
        for _ in range(100):  # gone before they are accepted
            (await port.connect(send=LIVEZ)).close()
        assert await port.is_live()
        await until(lambda: port.open_connections == 0, "the end of all connections")


async def test_who_is_gone_before_it_is_accepted_is_not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """Serving costs thirty times as much as accepting, and a probe waits in the same queue."""
    served = 0
    set_up = Gate._set_up

    async def count(gate: Gate, connection: socket.socket) -> None:
        nonlocal served
        served += 1
        await set_up(gate, connection)

    monkeypatch.setattr(Gate, "_set_up", count)
    async with serving() as port:
        for _ in range(500):  # the kernel takes them; the loop does not run
            socket.create_connection(("127.0.0.1", port.server.port), 30.0).close()
        assert await port.is_live()
        assert served == 1


# --- out of files ---------------------------------------------------------------------------------


@contextlib.contextmanager
def no_file_left() -> Iterator[list[int]]:
    """This process can open nothing more; closing one of these descriptors gives one back."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used: list[int] = [os.open(os.devnull, os.O_RDONLY)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (used[0] + 1, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                used.append(os.open(os.devnull, os.O_RDONLY))
        yield used
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in used:
            os.close(descriptor)


async def test_a_probe_is_answered_when_the_process_has_no_file_left() -> None:
    with structlog.testing.capture_logs() as lines:
        async with serving(connection_seconds_max=LONG) as port:
            for _ in range(2):
                probes = [port.new_socket() for _ in range(3)]
                with no_file_left():
                    for probe in probes:
                        assert await port.is_live(probe)
                assert await port.is_live()
    assert [line["event"] for line in lines] == ["admin.accept_failed"]


async def test_with_no_file_left_who_holds_a_connection_has_to_give_way() -> None:
    async with serving(connection_seconds_max=LONG) as port:
        holding, probe = port.new_socket(), port.new_socket()
        with no_file_left():
            await port.connect(by=holding)
            assert await port.is_live(probe)
            assert await read_all(holding) == b""


async def test_accepting_pauses_while_nothing_can_be_opened_and_goes_on_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried: list[float] = []
    loop = asyncio.get_running_loop()
    fail = Gate._out_of_files

    def count(gate: Gate, listening: socket.socket, error: OSError) -> None:
        tried.append(loop.time())
        fail(gate, listening, error)

    monkeypatch.setattr(Gate, "_out_of_files", count)
    async with serving(connection_seconds_max=LONG) as port:
        probe = port.new_socket()
        with no_file_left() as used:
            assert _without_reserve(port)
            used.append(os.open(os.devnull, os.O_RDONLY))
            asking = asyncio.create_task(port.is_live(probe))
            await until(lambda: len(tried) >= 4, "attempts")
            assert not asking.done()
        assert all(later - sooner >= OUT_OF_FILES_PAUSE / 2 for sooner, later in itertools.pairwise(tried))
        assert await asking


def _without_reserve(port: Port) -> bool:
    assert port.server._running is not None
    return port.server._running[1]._release_reserve()


# --- pages ----------------------------------------------------------------------------------------


def test_a_page_is_rendered_anew_as_often_as_its_share_of_the_time_allows() -> None:
    now = [0.0]
    rendered: list[float] = []

    def render() -> bytes:
        rendered.append(now[0])
        now[0] += 0.01
        return str(len(rendered)).encode()

    page = Page(render, lambda: now[0])
    assert page() == b"1"
    for _ in range(25_000):
        assert page() == b"1"
    now[0] += 0.01 / RENDERING_SHARE_MAX + 0.001
    assert page() == b"2"
    assert len(rendered) == 2


def test_a_page_that_costs_nothing_is_always_fresh() -> None:
    now = [0.0]
    contents = iter([b"1", b"2", b"3"])
    page = Page(lambda: next(contents), lambda: now[0])
    assert [page(), page(), page()] == [b"1", b"2", b"3"]


def test_a_failed_rendering_does_not_bring_back_an_old_page() -> None:
    now = [0.0]

    def render() -> bytes:
        now[0] += 1.0
        if now[0] > 1.0:
            raise ValueError("no figures")
        return b"old"

    page = Page(render, lambda: now[0])
    assert page() == b"old"
    now[0] = 100.0
    for _ in range(2):
        with pytest.raises(ValueError, match="no figures"):
            page()
