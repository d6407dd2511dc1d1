"""Each answer belongs to the request before it: bytes that nobody asked for answer nothing."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import pairwise
from pathlib import Path

import pytest

from daemon.core.answers import NoAnswer, NoAnswerReason, Refused
from daemon.core.upsert import UPSERT
from daemon.kombo.api_key import ApiKeyFile
from tests.unit.kombo_world import (
    ENDPOINTS,
    GOOD,
    INTEGRATION,
    TASK_ANSWER,
    Clock,
    call,
    certificate,
    client,
    is_good,
    key,
)
from tests.unit.misbehaving_server import answer, answers, sends, serving

__all__ = ["certificate", "key"]  # fixtures

REFUSAL = answer(400, {"status": "error", "error": {"code": "PLATFORM.INPUT_INVALID", "message": "no"}})
COMPLETED = answer(
    200,
    {
        **TASK_ANSWER,
        "data": {
            **TASK_ANSWER["data"],
            "status": "COMPLETED",
            "data": [{"origin_id": "a", "status": "SUCCEEDED", "data": {"id": "1"}}],
        },
    },
)
UNASKED = {
    "a refusal": REFUSAL,
    "a completed task": COMPLETED,
    "two answers": COMPLETED + REFUSAL,
    "half a head": REFUSAL[:20],
    "all but the last byte": REFUSAL[:-1],
    "an interim answer": b"HTTP/1.1 100 Continue\r\n\r\n",
    "a line break": b"\r\n",
    "no HTTP": b"\x00",
}
unasked = pytest.mark.parametrize("unasked", UNASKED.values(), ids=UNASKED)
endpoints = pytest.mark.parametrize("endpoint", ENDPOINTS)
over = pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])


def server_side(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    return context


async def turns_of_the_loop() -> None:
    """So many that the event loop has read what has arrived."""
    for _ in range(10):
        await asyncio.sleep(0)


# --- on an idle connection ------------------------------------------------------------------------


@over
@endpoints
@unasked
async def test_a_connection_on_which_something_arrives_while_idle_ends(
    unasked: bytes, endpoint: str, tls: bool, key: ApiKeyFile, certificate: tuple[Path, Path]
) -> None:
    async with (
        serving(GOOD, tls=server_side(certificate) if tls else None) as server,
        client(server.address, key, ca_file=certificate[0]) as api,
    ):
        assert is_good("submit", await call(api, "submit"))
        server.writers[0].write(unasked)  # on the loopback interface it has arrived when this returns
        await turns_of_the_loop()
        assert is_good(endpoint, await call(api, endpoint))
        assert server.connections == 2
        assert len(server.requests) == 2


@over
@endpoints
@unasked
async def test_bytes_that_the_event_loop_has_not_read_yet_answer_nothing(
    unasked: bytes, endpoint: str, tls: bool, key: ApiKeyFile, certificate: tuple[Path, Path]
) -> None:
    async with (
        serving(GOOD, tls=server_side(certificate) if tls else None) as server,
        client(server.address, key, ca_file=certificate[0]) as api,
    ):
        assert is_good("submit", await call(api, "submit"))
        server.writers[0].write(unasked)
        assert is_good(endpoint, await call(api, endpoint))
        assert server.connections == 2
        assert len(server.requests) == 2


@endpoints
async def test_a_rest_that_comes_after_the_next_request_completes_nothing(
    endpoint: str, key: ApiKeyFile
) -> None:
    """The beginning of an unasked answer arrives while the connection is idle, its end after the next request."""
    async with (
        serving(GOOD, sends(REFUSAL[20:])) as server,
        client(server.address, key) as api,
    ):
        assert is_good("submit", await call(api, "submit"))
        server.writers[0].write(REFUSAL[:20])
        await turns_of_the_loop()
        server.behave = [GOOD]
        assert is_good(endpoint, await call(api, endpoint))


@endpoints
async def test_a_get_that_is_sent_again_takes_no_connection_with_unasked_bytes(
    endpoint: str, key: ApiKeyFile
) -> None:
    both = asyncio.Barrier(2)

    async def together(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await both.wait()
        await GOOD(reader, writer)

    async def spoils_the_other(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (other,) = (each for each in server.writers if each is not writer)
        other.write(COMPLETED)
        writer.close()

    async with (
        serving(together, together, spoils_the_other, GOOD) as server,
        client(server.address, key, in_flight_max=2) as api,
    ):
        await asyncio.gather(call(api, endpoint), call(api, endpoint))
        assert server.connections == 2
        assert is_good("poll", await call(api, "poll"))
        assert server.connections == 3


# --- before and after the answer ------------------------------------------------------------------


@endpoints
async def test_a_server_that_speaks_first_is_not_understood(endpoint: str, key: ApiKeyFile) -> None:
    async def greets(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(COMPLETED)

    async with listening(greets) as address, client(address, key) as api:
        said = await call(api, endpoint)
    assert isinstance(said, NoAnswer)
    assert said.reason is NoAnswerReason.PROTOCOL_ERROR


@pytest.mark.parametrize("surplus", [REFUSAL, REFUSAL[:20], COMPLETED + REFUSAL[:9], b"\r\n", b"x"])
@pytest.mark.parametrize("pieces", [1, 2, 3])
@endpoints
async def test_what_is_glued_to_an_answer_answers_nothing(
    surplus: bytes, pieces: int, endpoint: str, key: ApiKeyFile
) -> None:
    good = answer(200, TASK_ANSWER)
    cuts = [len(good) * n // pieces for n in range(pieces)] + [len(good) + len(surplus)]

    async def glued(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for start, end in pairwise(cuts):
            writer.write((good + surplus)[start:end])
            await asyncio.sleep(0)

    async with serving(glued, GOOD) as server, client(server.address, key) as api:
        assert is_good("submit", await call(api, "submit"))
        assert is_good(endpoint, await call(api, endpoint))
        assert server.connections == 2


async def test_a_chunked_answer_with_something_glued_to_it(key: ApiKeyFile) -> None:
    content = answer(200, TASK_ANSWER).partition(b"\r\n\r\n")[2]
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (
        len(content),
        content,
    )
    async with (
        serving(sends(chunked + REFUSAL[:30]), sends(chunked), GOOD) as server,
        client(server.address, key) as api,
    ):
        for _ in range(3):
            assert is_good("submit", await call(api, "submit"))
        assert server.connections == 2, "the connection of an answer without surplus is kept"


async def test_answers_of_every_framing_keep_their_connection(key: ApiKeyFile) -> None:
    content = answer(200, TASK_ANSWER).partition(b"\r\n\r\n")[2]
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

    async def in_bytes(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for byte in answer(200, TASK_ANSWER):
            writer.write(bytes([byte]))
            await asyncio.sleep(0)

    framings = [
        GOOD,
        in_bytes,
        sends(b"HTTP/1.1 103 Early Hints\r\n\r\n" + answer(200, TASK_ANSWER)),
        sends(head + b"".join(b"1\r\n%c\r\n" % byte for byte in content) + b"0\r\nA: trailer\r\n\r\n"),
        GOOD,
    ]
    async with serving(*framings) as server, client(server.address, key) as api:
        for _ in framings:
            assert is_good("poll", await call(api, "poll"))
        refusals = [answers(204, b""), answers(304, b""), answers(503, b""), GOOD]
        server.behave = [*framings, *refusals]
        for _ in refusals:
            await call(api, "submit")
        assert server.connections == 1


async def test_a_late_answer_answers_no_other_call(key: ApiKeyFile) -> None:
    deadline_passed = asyncio.Event()

    async def is_late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await deadline_passed.wait()
        writer.write(COMPLETED)

    async with serving(is_late, GOOD) as server, client(server.address, key) as api:
        polling = asyncio.create_task(call(api, "poll"))
        await server.until_requests(1)
        await Clock().run_on(polling)
        said = await polling
        assert isinstance(said, NoAnswer)
        assert said.reason is NoAnswerReason.TIMEOUT
        deadline_passed.set()
        assert is_good("poll", await call(api, "poll"))


# --- while the request is written -----------------------------------------------------------------


@contextlib.asynccontextmanager
async def listening(
    handle: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[str]:
    """The address of a server whose connections are in the hands of the test from their first byte on."""
    writers = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await handle(reader, writer)

    async with await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls) as listener:
        try:
            yield f"{'https' if tls else 'http'}://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        finally:
            for writer in writers:
                writer.transport.abort()


LARGE = b"x" * (16 * 1024 * 1024)
"""More than the kernel keeps on both sides."""


# Of aiohttp, about a body larger than any that the daemon sends.
@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
@pytest.mark.parametrize("early", [REFUSAL, COMPLETED, b"HTTP"], ids=["refusal", "task", "beginning"])
@over
async def test_an_answer_before_the_end_of_the_request_is_no_answer(
    early: bytes, tls: bool, key: ApiKeyFile, certificate: tuple[Path, Path]
) -> None:
    async def answers_early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(early)

    async with (
        listening(answers_early, server_side(certificate) if tls else None) as address,
        client(address, key, ca_file=certificate[0]) as api,
    ):
        said = await api.submit(UPSERT, INTEGRATION, LARGE)
    assert isinstance(said, NoAnswer)
    assert said.reason is NoAnswerReason.PROTOCOL_ERROR
    assert "before the request was written" in said.detail


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
@over
async def test_an_answer_after_the_end_of_a_large_request_is_one(
    tls: bool, key: ApiKeyFile, certificate: tuple[Path, Path]
) -> None:
    async def reads_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(len(LARGE))
        writer.write(REFUSAL)

    async with (
        listening(reads_all, server_side(certificate) if tls else None) as address,
        client(address, key, ca_file=certificate[0]) as api,
    ):
        assert isinstance(await api.submit(UPSERT, INTEGRATION, LARGE), Refused)


# --- in the tunnel of a proxy ---------------------------------------------------------------------


async def opens_a_tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    """A proxy that answers CONNECT and then copies in both directions."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
    far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)

    async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65536):
                target.write(data)
        target.close()

    await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer))


@unasked
@endpoints
async def test_unasked_bytes_in_the_tunnel_of_a_proxy(
    unasked: bytes, endpoint: str, key: ApiKeyFile, certificate: tuple[Path, Path]
) -> None:
    async with serving(GOOD, tls=server_side(certificate)) as server:
        port = int(server.address.rpartition(":")[2])
        async with (
            listening(lambda reader, writer: opens_a_tunnel(reader, writer, port)) as proxy,
            client(server.address, key, ca_file=certificate[0], proxy=proxy) as api,
        ):
            for _ in range(2):
                assert is_good("submit", await call(api, "submit"))
            assert server.connections == 1, "the tunnel is kept"
            server.writers[0].write(unasked)
            await turns_of_the_loop()
            assert is_good(endpoint, await call(api, endpoint))
            assert server.connections == 2
            assert len(server.requests) == 3
