"""The client of the Kombo API: httpx on aiohttp's transport, with every quirk of that pair kept in here.

What the layers below do, and what this module makes of it:

* Exceptions are named by chance (a connection that was reset after the request is a ``ConnectTimeout``,
  a garbled status line a bare aiohttp error). So no exception type means "not sent", all of them become
  a `NoAnswer`, and the trouble in it is for logs and metrics only (R13).
* No time-out of theirs bounds a reply that drips or a peer that stops reading. One deadline holds for the
  whole call, from waiting for a connection to the last byte.
* A connection that is closed goes on sending what is buffered, so a POST could arrive long after its
  deadline. A call that failed or was cancelled resets its connection instead (R6).
* Cookies are kept and replayed by both layers, redirects followed, proxies taken from the environment,
  bodies decompressed without a bound. All of that is switched off.
* A GET is silently sent again by aiohttp when a kept connection turns out to be closed. A POST is not.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar
from urllib.parse import quote, urlsplit

import aiohttp
import httpx
from aiohttp.client_reqrep import ClientRequest
from aiohttp.connector import Connection
from httpx_aiohttp import AiohttpTransport

from daemon import __version__
from daemon.core.answers import NoAnswer, NoAnswerReason, PollAnswer, Refused, SubmitAnswer
from daemon.core.operation import Operation
from daemon.core.upsert import UPSERT
from daemon.kombo import wire

ANSWER_BYTES_MAX = 8 * 1024 * 1024
"""Largest body read. 16 times the largest submission, so that each of its items may fail at length."""
KEEP_ALIVE_SECONDS = 15.0
"""Shorter than any usual server's, so that it is we who close an idle connection: a POST into one that the
server is just closing has unknown fate.
"""
_SECRET_CHARS_MIN = 8
"""A shorter key is a developer's; cutting it out of answers would cut out words."""
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)

Observe = Callable[[str, str, float], None]
"""Endpoint (``submit``, ``poll``), status (``2xx`` … ``5xx``, ``429`` or a `NoAnswerReason`), seconds."""

_Answer = TypeVar("_Answer", SubmitAnswer, PollAnswer)
_Raw = tuple[int, Mapping[str, str], bytes]


class KomboSetupError(Exception):
    """The client cannot be made from these settings. The message says which, and what to do."""


class _Call(NamedTuple):
    endpoint: str
    method: str
    url: str
    integration_id: str
    content: bytes | None


class ApiKeySource(Protocol):
    def current(self) -> str:
        """The key to use from now on."""
        ...


class KomboClient:
    """`KomboApi` over HTTP. Use it inside one event loop; `close` it in the end.

    Args:
        base_url: with the version, for example ``https://api.kombo.dev/v1``.
        api_key_source: asked before each call.
        deadline: seconds for a whole call.
        in_flight_max: connections at most; a call beyond waits for one, within its deadline.
        proxy: ``http://[user:password@]host:port``. Those of the environment are ignored.
        ca_file: PEM file of the authorities to trust instead of the bundled ones.
        observe: told about every call that ended (not about one that was cancelled).

    Raises:
        KomboSetupError: `ca_file` cannot be used.
    """

    def __init__(
        self,
        base_url: str,
        api_key_source: ApiKeySource,
        deadline: float,
        in_flight_max: int,
        *,
        proxy: str | None = None,
        ca_file: Path | None = None,
        observe: Observe | None = None,
    ) -> None:
        self._bulk_url = f"{base_url.rstrip('/')}/lms/courses/bulk"
        self._url_of = {UPSERT.name: self._bulk_url}
        self._api_key = api_key_source
        self._deadline = deadline
        self._in_flight_max = in_flight_max
        self._proxy = proxy
        self._proxy_password = urlsplit(proxy).password if proxy else None
        self._tls = _tls(ca_file)
        self._observe = observe
        self._http = httpx.AsyncClient(
            transport=AiohttpTransport(client=self._open_session, verify=self._tls, trust_env=False),
            headers={
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                "User-Agent": f"course-sync-daemon/{__version__}",
            },
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            timeout=None,  # noqa: S113 - the deadline of `_exchange` holds for the whole call
            follow_redirects=False,
            trust_env=False,
        )

    async def submit(self, operation: Operation, integration_id: str, body: bytes) -> SubmitAnswer:
        """POST exactly these bytes, once."""

        def understand(raw: _Raw) -> SubmitAnswer:
            return wire.parse_submit(*raw, now=_wall_clock())

        return await self._call(
            _Call("submit", "POST", self._url_of[operation.name], integration_id, body), understand
        )

    async def poll(self, integration_id: str, task_id: str) -> PollAnswer:
        """GET the task; twice where a kept connection was closed under the first one."""

        def understand(raw: _Raw) -> PollAnswer:
            return wire.parse_poll(task_id, *raw, now=_wall_clock())

        # What is no Unicode text (a lone surrogate) cannot be a task's id: let the API say so.
        url = f"{self._bulk_url}/{quote(task_id, safe='', errors='replace')}"
        return await self._call(_Call("poll", "GET", url, integration_id, None), understand)

    async def close(self) -> None:
        """Close all connections; calls in flight end with `NoAnswer`. Idempotent."""
        await self._http.aclose()

    async def _call(self, call: _Call, understand: Callable[[_Raw], _Answer]) -> _Answer | NoAnswer:
        started = time.monotonic()
        key = self._api_key.current()
        answer: _Answer | NoAnswer
        try:
            answer = understand(await self._exchange(call, key))
        except TimeoutError:
            answer = NoAnswer(NoAnswerReason.TIMEOUT, f"no whole answer within {self._deadline:g} s")
        except Exception as error:
            # Whatever it was, there is no answer; nobody above could make more of the exception.
            answer = NoAnswer(_no_answer_reason(error), self._without_secrets(_describe(error), key))
        if self._observe is not None:
            self._observe(call.endpoint, _status_label(answer), time.monotonic() - started)
        return answer

    async def _exchange(self, call: _Call, key: str) -> _Raw:
        headers = [
            (b"Authorization", b"Bearer " + key.encode("ascii")),
            (b"X-Integration-Id", call.integration_id.encode("utf-8", "replace")),
        ]
        if call.content is not None:
            headers.append((b"Content-Type", b"application/json"))
        request = self._http.build_request(call.method, call.url, headers=headers, content=call.content)
        with _reset_on_failure():
            async with asyncio.timeout(self._deadline):
                response = await self._http.send(request, stream=True)
                try:
                    body = await _read(response)
                finally:
                    await response.aclose()
                    # It and its stream know each other: without this they wait for the collector of garbage.
                    del response.stream
        return response.status_code, response.headers, self._without_key(body, key)

    def _open_session(self) -> aiohttp.ClientSession:
        """Called by the transport at the first request, inside the loop."""
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._in_flight_max,
                keepalive_timeout=KEEP_ALIVE_SECONDS,
                ssl=self._tls,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            request_class=_NotedRequest,
            proxy=self._proxy,
            trust_env=False,
        )

    def _without_key(self, body: bytes, key: str) -> bytes:
        """A proxy's error page may quote our header; what we read of it is logged and published."""
        return body.replace(key.encode("ascii"), b"[key]") if len(key) >= _SECRET_CHARS_MIN else body

    def _without_secrets(self, text: str, key: str) -> str:
        for secret in (key, self._proxy_password):
            if secret:
                text = text.replace(secret, "[secret]")
        return text

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._bulk_url!r})"


class AnswerTooLargeError(Exception):
    """The body is longer than `ANSWER_BYTES_MAX`."""


async def _read(response: httpx.Response) -> bytes:
    """The body as it came over the wire: not decompressed, so the bound is on what memory it takes."""
    parts: list[bytes] = []
    size = 0
    async for part in response.aiter_raw():
        size += len(part)
        if size > ANSWER_BYTES_MAX:
            raise AnswerTooLargeError(
                f"HTTP {response.status_code} with a body of more than {ANSWER_BYTES_MAX} bytes"
            )
        parts.append(part)
    return b"".join(parts)


# --- connections ----------------------------------------------------------------------------------

_used: ContextVar[list[tuple[Connection, asyncio.Transport]]] = ContextVar("used")
"""The connections that the current call has been written to."""


class _NotedRequest(ClientRequest):
    """Notes which connection a request goes out on; aiohttp itself tells only once it was answered."""

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        if isinstance(conn.transport, asyncio.Transport):
            _used.get().append((conn, conn.transport))
        return await super().send(conn)


@contextlib.contextmanager
def _reset_on_failure() -> Iterator[None]:
    """Whatever ends the call early drops its connection, with all that is buffered here and in the kernel."""
    used: list[tuple[Connection, asyncio.Transport]] = []
    token = _used.set(used)
    try:
        yield
    except BaseException:
        for connection, transport in used:
            back_in_pool = connection.closed and not transport.is_closing()
            if not back_in_pool:
                _reset(transport)
        raise
    finally:
        _used.reset(token)


def _reset(transport: asyncio.Transport) -> None:
    sock = transport.get_extra_info("socket")
    with contextlib.suppress(OSError):  # closed already
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    transport.abort()


def _tls(ca_file: Path | None) -> ssl.SSLContext:
    if ca_file is None:
        return httpx.create_ssl_context(trust_env=False)
    try:
        return ssl.create_default_context(cafile=str(ca_file))
    except (OSError, ssl.SSLError) as error:
        raise KomboSetupError(
            f"kombo.ca_file: {ca_file} cannot be used as a bundle of certificates ({error}); "
            "name a PEM file with the certificate of your authority"
        ) from None


# --- what went wrong, for logs and metrics --------------------------------------------------------


def _cause(error: BaseException) -> BaseException:
    """The exception of aiohttp where the transport has put httpx's nearest one around it."""
    cause = error.__cause__
    return cause if isinstance(error, httpx.HTTPError) and cause is not None else error


def _no_answer_reason(error: BaseException) -> NoAnswerReason:
    cause = _cause(error)
    if isinstance(cause, TimeoutError):
        return NoAnswerReason.TIMEOUT
    if isinstance(cause, aiohttp.ClientConnectorError | aiohttp.ClientHttpProxyError):
        return NoAnswerReason.CONNECT_ERROR
    return NoAnswerReason.PROTOCOL_ERROR


def _describe(error: BaseException) -> str:
    """Never the repr: aiohttp's shows the request's headers."""
    cause = _cause(error)
    text = f"{type(cause).__name__}: {cause}" if str(cause) else type(cause).__name__
    return text[: wire.DETAIL_CHARS_MAX]


def _status_label(answer: SubmitAnswer | PollAnswer) -> str:
    match answer:
        case NoAnswer(reason=reason):
            return reason.value
        case Refused(status=429):
            return "429"
        case Refused(status=status):
            return f"{status // 100}xx"
        case _:
            return "2xx"


def _wall_clock() -> int:
    return time.time_ns() // 1_000_000
