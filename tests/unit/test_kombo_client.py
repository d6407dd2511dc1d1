"""The client against a server that misbehaves: always an answer, never a second POST, nothing leaked."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import gzip
import html
import json
import logging
import re
import socket
import ssl
import threading
import zlib
from base64 import b64decode, b64encode, urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

import aiohttp
import msgspec
import pytest

from daemon.commands.connections import kombo_client
from daemon.config import Settings
from daemon.config.table import KomboSettings
from daemon.core import deactivate
from daemon.core.answers import Done, NoAnswer, NoAnswerReason, Refused
from daemon.core.deactivate import DEACTIVATE
from daemon.core.upsert import UPSERT
from daemon.kombo import wire
from daemon.kombo.api_key import ApiKeyFile
from daemon.kombo.client import KomboClient, KomboSetupError
from daemon.kombo.redaction import redactor
from daemon.kombo.wire import SUBMIT_ANSWER_BYTES_MAX, poll_answer_bytes_max
from tests.unit.kombo_world import (
    BODY,
    CANARY,
    ENDPOINTS,
    GOOD,
    INTEGRATION,
    ITEMS,
    PATIENT,
    TASK,
    TASK_ANSWER,
    Clock,
    call,
    certificate,
    client,
    is_good,
    key,
)
from tests.unit.misbehaving_server import (
    Behaviour,
    answers,
    is_silent,
    repeats,
    sends,
    serving,
)

__all__ = ["certificate", "key"]  # fixtures


class Row(NamedTuple):
    name: str
    behaviour: Behaviour
    trouble: NoAnswerReason
    says: str = ""


CONTENT = json.dumps(TASK_ANSWER).encode()


def bomb() -> bytes:
    """Twice the largest answer in a few kilobytes; were it expanded, it would be a good answer."""
    return gzip.compress(CONTENT + b" " * (2 * poll_answer_bytes_max(ITEMS)))


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
SIZE = f"{0x10000:x}\r\n".encode()

MISBEHAVIOUR = [
    Row("closes after the request", sends(b"", then="close"), NoAnswerReason.PROTOCOL_ERROR),
    Row("resets after the request", sends(b"", then="reset"), NoAnswerReason.PROTOCOL_ERROR),
    Row("cuts the headers", sends(OK + b"Content-Le", then="close"), NoAnswerReason.PROTOCOL_ERROR),
    Row("cuts the body", sends(OK + b"Content-Length: 900\r\n\r\n{", then="close"), NoAnswerReason.PROTOCOL_ERROR),
    Row("resets in the body", sends(OK + b"Content-Length: 900\r\n\r\n{", then="reset"), NoAnswerReason.PROTOCOL_ERROR),
    Row("garbage for a status line", sends(b"\x00\xff nonsense\r\n\r\n"), NoAnswerReason.PROTOCOL_ERROR),
    Row("status that is no number", sends(b"HTTP/1.1 OK 200\r\n\r\n"), NoAnswerReason.PROTOCOL_ERROR),
    Row("status beyond HTTP", answers(999, TASK_ANSWER), NoAnswerReason.PROTOCOL_ERROR),
    Row("switches protocols", sends(b"HTTP/1.1 101 Up\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", then="close"),
        NoAnswerReason.PROTOCOL_ERROR),
    Row("reason that is no text", sends(b"HTTP/1.1 200 \xff\xfe\r\nContent-Length: 2\r\n\r\n{}"), NoAnswerReason.PROTOCOL_ERROR),
    Row("bad chunk", sends(CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n"), NoAnswerReason.PROTOCOL_ERROR),
    Row("cut chunk", sends(CHUNKED + b"ff\r\n{", then="close"), NoAnswerReason.PROTOCOL_ERROR),
    Row("huge header", sends(OK + b"X: " + b"x" * 20_000 + b"\r\nContent-Length: 2\r\n\r\n{}"), NoAnswerReason.PROTOCOL_ERROR),
    Row("two lengths", sends(OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}"), NoAnswerReason.PROTOCOL_ERROR),
    Row("never answers", is_silent, NoAnswerReason.TIMEOUT),
    Row("drips the headers", repeats(OK, b"X: x\r\n", 0.02), NoAnswerReason.TIMEOUT),
    Row("drips the body", repeats(CHUNKED, b"1\r\n \r\n", 0.02), NoAnswerReason.TIMEOUT),
    Row("body without end", repeats(CHUNKED, SIZE + b" " * 0x10000 + b"\r\n"), NoAnswerReason.PROTOCOL_ERROR,
        says="more than"),
    Row("large body", repeats(OK + b"Content-Length: 999999999\r\n\r\n", b" " * 0x10000), NoAnswerReason.PROTOCOL_ERROR,
        says="more than"),
    Row("gzip bomb", answers(200, bomb(), Content_Encoding="gzip"), NoAnswerReason.PROTOCOL_ERROR, says="more than"),
    Row("deflate bomb", answers(200, zlib.compress(b" " * 10**8), Content_Encoding="deflate"), NoAnswerReason.PROTOCOL_ERROR,
        says="more than"),
    Row("bomb in a bomb", answers(200, gzip.compress(gzip.compress(b" " * 10**8)), Content_Encoding="gzip, gzip"),
        NoAnswerReason.PROTOCOL_ERROR, says="more than"),
    Row("cut gzip", answers(200, gzip.compress(CONTENT)[:-9], Content_Encoding="gzip"), NoAnswerReason.PROTOCOL_ERROR,
        says="'gzip', but the body is damaged: it is truncated"),
    Row("gzip that goes on", answers(200, zlib.compress(CONTENT) + b"x", Content_Encoding="deflate"), NoAnswerReason.PROTOCOL_ERROR,
        says="'deflate', but the body is damaged: it goes on"),
    Row("wrong checksum", answers(200, gzip.compress(CONTENT)[:-8] + bytes(8), Content_Encoding="gzip"),
        NoAnswerReason.PROTOCOL_ERROR, says="'gzip', but the body is damaged"),
    Row("no gzip", answers(200, TASK_ANSWER, Content_Encoding="gzip"), NoAnswerReason.PROTOCOL_ERROR, says="'gzip', but"),
    Row("empty gzip", answers(200, b"", Content_Encoding="gzip"), NoAnswerReason.PROTOCOL_ERROR, says="'gzip', but"),
    Row("brotli", answers(200, CONTENT, Content_Encoding="br"), NoAnswerReason.PROTOCOL_ERROR,
        says="content encoding 'br', which cannot be decoded"),
    Row("gzip in brotli", answers(503, CONTENT, Content_Encoding="gzip, br"), NoAnswerReason.PROTOCOL_ERROR, says="'br'"),
    Row("four encodings", answers(200, CONTENT, Content_Encoding="gzip, gzip, gzip, gzip"), NoAnswerReason.PROTOCOL_ERROR,
        says="4 content encodings"),
    Row("page instead of JSON", answers(200, b"<html>Log in to the hotel's network</html>"), NoAnswerReason.PROTOCOL_ERROR),
    Row("error in a 200", answers(200, {"status": "error", "error": {"code": None, "message": "no"}}),
        NoAnswerReason.PROTOCOL_ERROR),
]  # fmt: skip


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("row", MISBEHAVIOUR, ids=lambda row: row.name)
async def test_misbehaviour_is_no_answer_and_no_second_post(row: Row, endpoint: str, key: ApiKeyFile) -> None:
    told: list[tuple[str, str, float]] = []
    async with (
        serving(row.behaviour) as server,
        client(server.address, key, observe=lambda *seen: told.append(seen)) as api,
    ):
        calling = asyncio.create_task(call(api, endpoint))
        if row.trouble is NoAnswerReason.TIMEOUT:
            clock = Clock()
            await server.until_requests(1)
            await clock.run_on(calling)
        said = await calling

        assert isinstance(said, NoAnswer), said
        assert said.reason is row.trouble, said
        assert row.says in said.detail
        assert CANARY not in said.detail
        assert [(e, status) for e, status, _ in told] == [(endpoint, row.trouble)]
        assert server.count("POST") == (endpoint == "submit")

        server.behave = [GOOD]
        assert is_good(endpoint, await call(api, endpoint)), "the connection was not given back"


def raw_deflate(content: bytes) -> bytes:
    return zlib.compress(content, wbits=-15)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize(
    ("encoding", "content"),
    [
        ("gzip", gzip.compress(CONTENT)),
        ("GZIP", gzip.compress(CONTENT)),
        ("x-gzip", gzip.compress(CONTENT[:9]) + gzip.compress(CONTENT[9:]) + bytes(7)),
        ("identity, gzip", gzip.compress(CONTENT)),
        ("deflate", zlib.compress(CONTENT)),
        ("deflate", raw_deflate(CONTENT)),
        ("deflate, gzip", gzip.compress(zlib.compress(CONTENT))),
        ("identity", CONTENT),
        ("", CONTENT),
    ],
)
async def test_an_encoded_answer_is_understood(
    encoding: str, content: bytes, endpoint: str, key: ApiKeyFile
) -> None:
    async with (
        serving(answers(200, content, Content_Encoding=encoding)) as server,
        client(server.address, key) as api,
    ):
        assert is_good(endpoint, await call(api, endpoint))


async def test_a_field_in_two_lines_is_a_list(key: ApiKeyFile) -> None:
    """RFC 9110, 5.3."""
    content = gzip.compress(zlib.compress(CONTENT))
    head = OK + b"Content-Encoding: deflate\r\ncontent-encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(
        content
    )
    async with serving(sends(head + content)) as server, client(server.address, key) as api:
        assert is_good("poll", await call(api, "poll"))


async def test_an_encoded_refusal_has_its_code(key: ApiKeyFile) -> None:
    refusal = gzip.compress(b'{"status":"error","error":{"code":"PLATFORM.INPUT_INVALID","message":"no"}}')
    async with (
        serving(answers(400, refusal, Content_Encoding="gzip")) as server,
        client(server.address, key) as api,
    ):
        said = await call(api, "submit")
    assert isinstance(said, Refused)
    assert said.error.code == "PLATFORM.INPUT_INVALID"


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
async def test_how_large_an_answer_may_be_follows_from_the_items(encoding: str, key: ApiKeyFile) -> None:
    def padded(size: int) -> Behaviour:
        content = CONTENT.ljust(size)
        body = gzip.compress(content) if encoding == "gzip" else content
        return answers(200, body, Content_Encoding=encoding)

    async with serving(GOOD) as server, client(server.address, key) as api:
        for items in (1, 100, 1000):
            server.behave = [padded(poll_answer_bytes_max(items))]
            assert is_good("poll", await api.poll(INTEGRATION, TASK, items))
            server.behave = [padded(poll_answer_bytes_max(items) + 1)]
            said = await api.poll(INTEGRATION, TASK, items)
            assert isinstance(said, NoAnswer)
            assert "more than" in said.detail
        server.behave = [padded(SUBMIT_ANSWER_BYTES_MAX)]
        assert is_good("submit", await call(api, "submit"))
        server.behave = [padded(SUBMIT_ANSWER_BYTES_MAX + 1)]
        assert isinstance(await call(api, "submit"), NoAnswer)


async def test_a_thread_parses_what_takes_long(key: ApiKeyFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """48 answers at a time kept the event loop from everything else for half a minute."""
    parse, threads = wire.parse_poll, []

    def watched(*answer: Any, **more: Any) -> Any:
        threads.append(threading.current_thread() is threading.main_thread())
        return parse(*answer, **more)

    monkeypatch.setattr(wire, "parse_poll", watched)
    large = answers(200, CONTENT.ljust(1024 * 1024))
    packed = answers(200, gzip.compress(CONTENT.ljust(1024 * 1024)), Content_Encoding="gzip")
    async with serving(GOOD, large, packed) as server, client(server.address, key) as api:
        for _ in range(3):
            assert is_good("poll", await call(api, "poll"))
    assert threads == [True, False, False]


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_nobody_listens(endpoint: str, key: ApiKeyFile) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # so that nobody else can listen there
        async with client(f"http://127.0.0.1:{bound.getsockname()[1]}", key) as api:
            said = await call(api, endpoint)
    assert isinstance(said, NoAnswer)
    assert said.reason is NoAnswerReason.CONNECT_ERROR


async def test_a_host_without_an_address(key: ApiKeyFile) -> None:
    # No label may be longer than 63 characters, so no resolver has to be asked.
    async with client(f"http://{'x' * 64}.invalid", key) as api:
        said = await call(api, "poll")
    assert isinstance(said, NoAnswer)


@pytest.mark.parametrize("course_id", ["26vafvWSRmbhNcxJYqjCzuJg", "remote:32", "remote:a/b ?#%ü+"])
async def test_a_deactivation_names_its_course_in_the_path(course_id: str, key: ApiKeyFile) -> None:
    answer = answers(200, {"status": "success", "data": {"id": "K1"}}, Concurrency_Remaining="7")
    async with serving(answer) as server, client(server.address, key) as api:
        found = await api.submit(DEACTIVATE, INTEGRATION, deactivate.item(course_id))
    assert found == Done("K1", concurrency_remaining=7, api_time=getattr(found, "api_time", None))
    (request,) = server.requests
    segment = request.target.removeprefix("/v1/lms/courses/").removesuffix("/deactivate")
    assert "/" not in segment
    assert unquote(segment) == course_id
    assert (request.method, request.body) == ("POST", b"{}")
    assert request.headers["x-integration-id"] == INTEGRATION


async def test_a_course_may_be_described_at_length(key: ApiKeyFile) -> None:
    course = {"id": "K1", "remote_data": "x" * 500_000}
    async with (
        serving(answers(200, {"status": "success", "data": course})) as server,
        client(server.address, key) as api,
    ):
        assert isinstance(await api.submit(DEACTIVATE, INTEGRATION, deactivate.item("K1")), Done)


async def test_a_good_call_sends_exactly_what_was_given(key: ApiKeyFile) -> None:
    async with serving(GOOD) as server, client(server.address, key) as api:
        assert is_good("submit", await api.submit(UPSERT, INTEGRATION, BODY))
        assert is_good("poll", await api.poll(INTEGRATION, TASK, ITEMS))
    post, get = server.requests
    assert (post.method, post.target, post.body) == ("POST", "/v1/lms/courses/bulk", BODY)
    assert (get.method, get.target, get.body) == ("GET", f"/v1/lms/courses/bulk/{TASK}", b"")
    for request in (post, get):
        assert request.headers["authorization"] == f"Bearer {CANARY}"
        assert request.headers["x-integration-id"] == INTEGRATION
        assert request.headers["accept-encoding"] == "identity"
    assert post.headers["content-type"] == "application/json"
    assert "content-type" not in get.headers
    assert server.connections == 1, "the connection is kept"


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_a_call_leaves_nothing_behind_for_the_collector_of_garbage(
    endpoint: str, key: ApiKeyFile
) -> None:
    """Which comes rarely: ten megabytes of ended calls waited for it."""
    async with serving(GOOD) as server, client(server.address, key) as api:
        gc.collect()
        gc.disable()
        try:
            for _ in range(3):
                assert is_good(endpoint, await call(api, endpoint))
            left = [thing for thing in gc.get_objects() if isinstance(thing, aiohttp.ClientResponse)]
        finally:
            gc.enable()
    assert left == []


# Of aiohttp, about a body larger than any that the daemon sends.
@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
async def test_nothing_of_a_post_is_delivered_after_its_deadline(key: ApiKeyFile) -> None:
    """R6: a peer that stops reading, and goes on when the call has long ended, must not get the request."""
    body = b"x" * (16 * 1024 * 1024)  # more than the kernel keeps on both sides
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        loop = asyncio.get_running_loop()
        clock = Clock()
        async with client(f"http://127.0.0.1:{listener.getsockname()[1]}", key) as api:
            posting = asyncio.create_task(api.submit(UPSERT, INTEGRATION, body))
            async with asyncio.timeout(60):
                peer, _ = await loop.sock_accept(listener)
            with peer:
                received = len(await loop.sock_recv(peer, 1))
                await clock.run_on(posting)
                said = await posting
                assert isinstance(said, NoAnswer)
                assert said.reason is NoAnswerReason.TIMEOUT
                with contextlib.suppress(ConnectionResetError):
                    async with asyncio.timeout(60):
                        while data := await loop.sock_recv(peer, 1 << 20):
                            received += len(data)
    assert received < len(body)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_a_redirect_is_a_refusal_and_nobody_follows_it(endpoint: str, key: ApiKeyFile) -> None:
    async with (
        serving(GOOD) as other,
        serving(answers(307, b"", Location=other.address)) as server,
        client(server.address, key) as api,
    ):
        said = await call(api, endpoint)
    assert isinstance(said, Refused)
    assert (said.status, said.error.code) == (307, None)
    assert not other.requests
    assert len(server.requests) == 1


async def test_cookies_are_not_sent_back(key: ApiKeyFile) -> None:
    async with (
        serving(answers(200, TASK_ANSWER, Set_Cookie="sticky=1; Path=/")) as server,
        # By name: no jar keeps cookies of an address.
        client(server.address.replace("127.0.0.1", "localhost"), key) as api,
    ):
        for endpoint in [*ENDPOINTS, *ENDPOINTS]:
            assert is_good(endpoint, await call(api, endpoint))
    assert len(server.requests) == 4
    assert not any("cookie" in request.headers for request in server.requests)


async def test_a_kept_connection_that_closes_under_a_post_is_unknown_fate(key: ApiKeyFile) -> None:
    async with serving(GOOD, sends(b"", then="close"), GOOD) as server, client(server.address, key) as api:
        assert is_good("poll", await call(api, "poll"))
        said = await call(api, "submit")
        assert isinstance(said, NoAnswer)
        assert server.count("POST") == 1


async def test_a_kept_connection_that_closes_under_a_get_costs_a_second_get(key: ApiKeyFile) -> None:
    async with serving(GOOD, sends(b"", then="close"), GOOD) as server, client(server.address, key) as api:
        assert is_good("submit", await call(api, "submit"))
        assert is_good("poll", await call(api, "poll"))
        assert server.count("GET") == 2


async def test_a_call_that_gets_no_connection_within_its_deadline(key: ApiKeyFile) -> None:
    async with serving(is_silent) as server, client(server.address, key) as api:
        clock = Clock()
        first = asyncio.create_task(call(api, "poll"))
        await server.until_requests(1)
        second = asyncio.create_task(call(api, "submit"))
        await clock.run_on(first, second)
        for said in await asyncio.gather(first, second):
            assert isinstance(said, NoAnswer)
            assert said.reason is NoAnswerReason.TIMEOUT


async def test_calls_share_the_connections_that_the_settings_allow(key: ApiKeyFile) -> None:
    everybody = asyncio.Event()

    async def waits(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await everybody.wait()
        await GOOD(reader, writer)

    async with serving(waits) as server, client(server.address, key) as api:
        calls = [asyncio.create_task(call(api, "poll")) for _ in range(5)]
        await server.until_requests(1)
        everybody.set()
        assert all(is_good("poll", said) for said in await asyncio.gather(*calls))
        assert server.connections == 1


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_cancellation_passes_through_and_frees_the_connection(endpoint: str, key: ApiKeyFile) -> None:
    told: list[str] = []
    async with (
        serving(is_silent, GOOD) as server,
        client(server.address, key, observe=lambda _, status, __: told.append(status)) as api,
    ):
        task = asyncio.create_task(call(api, endpoint))
        await server.until_requests(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert is_good(endpoint, await call(api, endpoint))
    assert told == ["2xx"]


@pytest.mark.parametrize(
    ("integration_id", "task_id", "segment"),
    [
        (INTEGRATION, "a/b?c#d", "a%2Fb%3Fc%23d"),
        (INTEGRATION, "50%2F", "50%252F"),
        (INTEGRATION, "a\r\nX-Evil: 1", "a%0D%0AX-Evil:%201"),
        (INTEGRATION, "kürs", "k%C3%BCrs"),
        ("wörkday:1", TASK, TASK),
        ("a\r\nX-Evil: 1", TASK, None),
        ("a\nb", TASK, None),
        ("a\0b", TASK, None),
    ],
)  # fmt: skip
async def test_no_id_breaks_out_of_its_place(
    integration_id: str, task_id: str, segment: str | None, key: ApiKeyFile
) -> None:
    refusal = answers(404, {"status": "error", "error": {"code": None, "message": "No such task."}})
    async with serving(refusal) as server, client(server.address, key) as api:
        said = await api.poll(integration_id, task_id, ITEMS)
        if segment is None:
            assert isinstance(said, NoAnswer)
            assert not server.requests
        else:
            assert isinstance(said, Refused)
            assert server.requests[0].target == f"/v1/lms/courses/bulk/{segment}"
            assert server.requests[0].headers["x-integration-id"] == integration_id
        assert not any("x-evil" in request.headers for request in server.requests)
        assert isinstance(await api.poll(INTEGRATION, TASK, ITEMS), Refused)


@pytest.mark.parametrize("text", ["\ud800", "", ".", "..", "x" * 100_000])
async def test_ids_that_cannot_be_are_answered_all_the_same(text: str, key: ApiKeyFile) -> None:
    async with serving(answers(404, b"")) as server, client(server.address, key) as api:
        for said in (
            await api.poll(INTEGRATION, text, ITEMS),
            await api.poll(text, TASK, ITEMS),
            await api.submit(UPSERT, text, BODY),
        ):
            assert isinstance(said, Refused | NoAnswer)
        assert server.count("POST") <= 1


async def test_calls_after_close_are_no_answer(key: ApiKeyFile) -> None:
    async with serving(GOOD) as server:
        async with client(server.address, key) as api:
            assert is_good("poll", await call(api, "poll"))
            await api.close()
            assert isinstance(await call(api, "submit"), NoAnswer)
        assert server.count("POST") == 0


# --- proxy, TLS -----------------------------------------------------------------------------------


async def test_proxies_of_the_environment_are_ignored(
    key: ApiKeyFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(GOOD) as proxy, serving(GOOD) as server:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.address)
        async with client(server.address, key) as api:
            assert is_good("poll", await call(api, "poll"))
        assert len(server.requests) == 1
        assert not proxy.requests


async def test_the_proxy_of_the_settings_is_used_and_its_password_stays_secret(key: ApiKeyFile) -> None:
    async with serving(GOOD, sends(b"\x00\xff\r\n\r\n")) as proxy:
        address = proxy.address.replace("//", "//daemon@")
        async with client(
            "http://kombo.invalid", key, proxy=address, proxy_password="swordfish:/@%25 proxy"
        ) as api:
            assert is_good("poll", await call(api, "poll"))
            said = await call(api, "submit")
            assert isinstance(said, NoAnswer)
            assert "swordfish" not in f"{said!r}{api!r}"
    assert proxy.requests[0].target == f"http://kombo.invalid/v1/lms/courses/bulk/{TASK}"
    scheme, _, credentials = proxy.requests[0].headers["proxy-authorization"].partition(" ")
    assert (scheme, b64decode(credentials)) == ("Basic", b"daemon:swordfish:/@%25 proxy")


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
async def test_the_password_of_the_proxy_comes_from_its_file(
    ending: str, key: ApiKeyFile, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    file.write_bytes(f"swordfish{ending}".encode())
    async with serving(GOOD) as proxy:
        kombo = KomboSettings(
            base_url="http://kombo.invalid/v1",
            api_key_file=key.path,
            proxy=proxy.address.replace("//", "//daemon@"),
            proxy_password_file=file,
        )
        api = kombo_client(Settings(kombo=kombo), key, in_flight_max=1)
        assert is_good("poll", await call(api, "poll"))
        await api.close()
    assert b64decode(proxy.requests[0].headers["proxy-authorization"].split()[1]) == b"daemon:swordfish"
    file.unlink()
    with pytest.raises(KomboSetupError, match=r"kombo\.proxy_password_file: .*password' cannot be read"):
        kombo_client(Settings(kombo=kombo), key, in_flight_max=1)


@pytest.mark.parametrize("password", ["two\nlines", "schlüssel", "\x00"])
async def test_a_password_that_no_header_can_carry_is_refused(password: str, key: ApiKeyFile) -> None:
    with pytest.raises(KomboSetupError, match=r"kombo\.proxy_password_file") as refused:
        KomboClient(
            "https://kombo.invalid", key, PATIENT, 1, proxy="http://u@proxy:3128", proxy_password=password
        )
    assert password not in str(refused.value)


async def test_a_proxy_that_refuses_the_tunnel(key: ApiKeyFile) -> None:
    async with (
        serving(answers(407, b"")) as proxy,
        client("https://kombo.invalid", key, proxy=proxy.address) as api,
    ):
        said = await call(api, "submit")
    assert isinstance(said, NoAnswer)
    assert said.reason is NoAnswerReason.CONNECT_ERROR
    assert [request.method for request in proxy.requests] == ["CONNECT"]
    assert CANARY not in str(proxy.requests)


async def test_tls_trusts_the_given_authority_only(key: ApiKeyFile, certificate: tuple[Path, Path]) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    async with serving(GOOD, tls=context) as server:
        async with client(server.address, key) as api:
            said = await call(api, "submit")
            assert isinstance(said, NoAnswer)
            assert said.reason is NoAnswerReason.CONNECT_ERROR
        assert not server.requests
        async with client(server.address, key, ca_file=certificate[0]) as api:
            assert is_good("submit", await call(api, "submit"))
            assert is_good("poll", await call(api, "poll"))


async def test_a_bundle_that_cannot_be_used_is_named(key: ApiKeyFile, tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("no certificate")
    for name in ("empty.pem", "missing.pem"):
        with pytest.raises(KomboSetupError, match=f"kombo.ca_file: .*{name}"):
            KomboClient("https://kombo.invalid", key, PATIENT, 1, ca_file=tmp_path / name)


# --- the key --------------------------------------------------------------------------------------


async def test_a_new_key_is_used_from_the_next_call_on(key: ApiKeyFile) -> None:
    async with serving(GOOD) as server, client(server.address, key) as api:
        await call(api, "poll")
        key.path.write_text("another-key-of-the-same-owner")
        await call(api, "poll")
        assert key.changed()
        await call(api, "poll")
    sent = [request.headers["authorization"] for request in server.requests]
    assert sent == [f"Bearer {CANARY}", f"Bearer {CANARY}", "Bearer another-key-of-the-same-owner"]


def escaped(text: str) -> str:
    return "".join(f"\\u{ord(char):04X}" for char in text)


def percent(text: str) -> str:
    return "".join(f"%{ord(char):02x}" for char in text)


ODD_KEY = "kombo/live+7f3a&9b1c=Z"
"""With all characters that encodings change."""
IN_JSON = {
    "as it is": ODD_KEY,
    "solidus escaped": ODD_KEY.replace("/", r"\/"),
    "one letter escaped": ODD_KEY.replace("l", r"\u006c"),
    "all escaped": escaped(ODD_KEY),
    "percent-encoded": quote(ODD_KEY, safe=""),
    "percent-encoded in small letters": percent(ODD_KEY),
    "JSON in JSON": ODD_KEY.replace("/", r"\\/").replace("k", r"\\u006B"),
    "HTML": html.escape(ODD_KEY),
    "HTML in numbers": "".join(f"&#x{ord(char):x};" for char in ODD_KEY),
    **{
        f"Base64 after {len(before)}": b64encode(f"{before}{ODD_KEY}, and more".encode()).decode()
        for before in ("", "B", "Be", "Bearer ")
    },
    "Base64 for URLs": quote(urlsafe_b64encode(f"Bearer {ODD_KEY}".encode())),
}
"""What stands between the quotes of a JSON text."""


def shows(text: str, secret: str) -> bool:
    """An independent reading: would a person find the secret, or most of it, in this text?"""
    ways = [text, text.replace("\\", ""), unquote(text), html.unescape(text)]
    ways.append(re.sub(r"\\+u([0-9a-fA-F]{4})", lambda match: chr(int(match[1], 16)), text).replace("\\", ""))
    for word in re.findall(r"[\w+/=-]{12,}", unquote(text)):
        for start in range(4):
            piece = word[start : start + (len(word) - start) // 4 * 4]
            with contextlib.suppress(ValueError):
                ways.append(b64decode(piece.replace("-", "+").replace("_", "/")).decode("latin-1"))
    pieces = [secret[start : start + 8] for start in range(len(secret) - 7)]
    return any(piece in way for piece in pieces for way in ways)


@pytest.mark.parametrize("written", IN_JSON.values(), ids=IN_JSON)
@pytest.mark.parametrize("before", [0, 200, 990, 3000], ids="after_{}".format)
async def test_no_text_of_an_answer_shows_the_key(written: str, before: int, key: ApiKeyFile) -> None:
    key.path.write_text(ODD_KEY)
    assert key.changed()
    assert shows(json.loads(f'"{written}"'), ODD_KEY)
    text = "x" * before + " " + written + " " + written
    error = f'{{"code":"{text}","title":"{text}","message":"{text}","log_url":"https://x/{text}"}}'
    task = f'"task_id":"{TASK}","created_at":"2025-03-12T14:30:00.000Z"'
    items = f'{{"origin_id":"a","status":"FAILED","error":{error}}},{{"origin_id":"b","status":"{text}"}}'
    course = f'{{"origin_id":"c","status":"SUCCEEDED","data":{{"id":"{text}"}}}}'
    bodies = {
        "submit": [
            (400, f'{{"status":"error","error":{error}}}'),
            (
                200,
                f'{{"status":"success","data":{{"task_id":"{TASK}"}},"warnings":[{{"message":"{text}"}}]}}',
            ),
            (200, f'{{"status":"success","data":{{"task_id":"{text}"}}}}'),
            (200, f'{{"status":"{text}","data":{{"task_id":"{TASK}"}}}}'),
        ],
        "poll": [
            (404, f'{{"status":"error","error":{error}}}'),
            (200, f'{{"status":"success","data":{{{task},"status":"FAILED","error":{error}}}}}'),
            (200, f'{{"status":"success","data":{{{task},"status":"COMPLETED","data":[{items},{course}]}}}}'),
            (200, f'{{"status":"success","data":{{{task},"status":"{text}"}}}}'),
        ],
    }
    async with serving(GOOD) as server, client(server.address, key) as api:
        for endpoint, answers_of_it in bodies.items():
            for status, body in answers_of_it:
                server.behave = [answers(status, body.encode())]
                said = await call(api, endpoint)
                assert all(not shows(text, ODD_KEY) for text in texts_of(said)), said


def texts_of(value: Any) -> Iterator[str]:
    """All texts anywhere in an answer."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, msgspec.Struct):
        yield from texts_of(msgspec.structs.astuple(value))
    elif isinstance(value, tuple):
        for each in value:
            yield from texts_of(each)


@pytest.mark.parametrize("secret", [CANARY, ODD_KEY, "secret"])
def test_a_text_that_is_nothing_but_the_secret_quotes_it(secret: str) -> None:
    assert redactor(secret).quotes(secret)
    assert not redactor(secret).quotes(secret[1:])


async def test_texts_without_secrets_are_not_changed(key: ApiKeyFile) -> None:
    message = "100 % of \\u0041 &amp; C:\\temp\\x: https://x/?q=a%20b canary-2f7d1c9be0a8445"
    refusal = answers(400, {"status": "error", "error": {"code": "LMS.X", "message": message}})
    async with serving(refusal) as server, client(server.address, key) as api:
        said = await call(api, "submit")
    assert isinstance(said, Refused)
    assert said.error.message == message


async def test_the_key_is_in_no_log_answer_or_repr(key: ApiKeyFile, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    echo = f"you sent Bearer {CANARY}"
    behaviours = [
        answers(
            401, {"status": "error", "error": {"code": "PLATFORM.AUTHENTICATION_INVALID", "message": echo}}
        ),
        answers(200, {**TASK_ANSWER, "data": {**TASK_ANSWER["data"], "status": echo}}),
        answers(200, {**TASK_ANSWER, "warnings": [{"message": echo}]}),
        sends(f"HTTP/1.1 200 OK\r\n{echo}\r\n\r\n".encode()),
        sends(f"{echo}\r\n\r\n".encode()),
        sends(b"", then="close"),
    ]
    async with serving(*behaviours) as server, client(server.address, key) as api:
        for _ in behaviours:
            said = await call(api, "submit")
            assert CANARY not in f"{said!r} {api!r} {key!r}"
    assert len(server.requests) == len(behaviours)
    assert CANARY not in caplog.text
