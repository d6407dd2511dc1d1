"""The client of the Kombo API, on aiohttp. All workarounds for this library are here.

What the library does, and how this module handles it:

* No type of an exception proves that the request was not sent. All of them become a `NoAnswer`; its `reason` is for logs
  and metrics only (R13).
* None of their time-outs bounds a reply that arrives in small pieces, or a peer that stops reading. One
  deadline bounds the whole call, from waiting for a connection to the last byte.
* A large answer takes long to parse. A thread does it, so that the calls of other integrations do not wait.
* A closed connection goes on sending its buffer, so a POST could arrive long after its deadline. A call that
  failed or was cancelled resets its connection instead (R6).
* Whatever arrives on a connection answers its next request. `daemon.kombo.connection` accepts one answer for each
  request, and only after the request was written.
* It keeps and replays cookies, follows redirects, and decompresses bodies without a bound. All of that is disabled;
  `daemon.kombo.content_encoding` decompresses with a bound.
* It silently repeats a GET if a pooled connection turns out to be closed. It does not repeat a POST.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar
from urllib.parse import quote, urlsplit

import aiohttp
import httpx

from daemon import __version__
from daemon.core.answers import NoAnswer, NoAnswerReason, PollAnswer, Refused, SubmitAnswer
from daemon.core.operation import Operation
from daemon.kombo import wire
from daemon.kombo.connection import GatedConnector, GatedRequest, reset_on_failure
from daemon.kombo.content_encoding import AnswerTooLargeError, decoded
from daemon.kombo.redaction import Redactor, redactor

_SMALL_BYTES = 256 * 1024
"""An answer up to this size is parsed by the event loop, within a few milliseconds."""

Observe = Callable[[str, str, float], None]
"""Arguments: endpoint (``submit``, ``poll``), status (``2xx`` … ``5xx``, ``429`` or a `NoAnswerReason`), seconds."""

_Answer = TypeVar("_Answer", SubmitAnswer, PollAnswer)
_Raw = tuple[int, Mapping[str, str], bytes]
"""Status, fields with lower-case names, and body."""


class KomboSetupError(Exception):
    """The client cannot be created from these settings. The message names the setting and the remedy."""


class _Call(NamedTuple):
    endpoint: str
    method: str
    url: str
    integration_id: str
    content: bytes | None
    answer_bytes_max: int


class ApiKeySource(Protocol):
    def current(self) -> str:
        """The key for the next call."""
        ...


class KomboClient:
    """`KomboApi` over HTTP. Use it inside one event loop; `close` it at the end.

    Args:
        base_url: with the version, for example ``https://api.kombo.dev/v1``.
        api_key_source: read before each call.
        deadline: seconds for a whole call.
        in_flight_max: maximum number of connections. A further call waits for one, within its deadline.
        proxy: ``http://[user@]host:port``. Proxies of the environment are ignored.
        proxy_password: password of the user in `proxy`.
        ca_file: PEM file of the certificate authorities to trust instead of the bundled ones.
        observe: called after every call that ended, but not after a call that was cancelled.

    Raises:
        KomboSetupError: `ca_file` or `proxy_password` cannot be used.
    """

    def __init__(
        self,
        base_url: str,
        api_key_source: ApiKeySource,
        deadline: float,
        in_flight_max: int,
        *,
        proxy: str | None = None,
        proxy_password: str | None = None,
        ca_file: Path | None = None,
        observe: Observe | None = None,
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._api_key = api_key_source
        self._deadline = deadline
        self._in_flight_max = in_flight_max
        self._proxy = _with_password(proxy, proxy_password)
        self._proxy_password = proxy_password
        self._tls = _tls(ca_file)
        self._observe = observe
        # One thread: the interpreter lock would let a second one only delay the event loop further.
        self._parsing = ThreadPoolExecutor(1, "large answer")
        self._session: aiohttp.ClientSession | None = None
        """Opened by the first call, inside the event loop."""
        self._is_closed = False

    async def submit(self, operation: Operation, integration_id: str, body: bytes) -> SubmitAnswer:
        """Make the call of this body, once."""

        def parse(raw: _Raw, redact: Redactor) -> SubmitAnswer:
            of_operation = wire.parse_submit if operation.makes_task else wire.parse_done
            return of_operation(*raw, now=wall_clock(), redact=redact)

        path, content = operation.call(body)
        bytes_max = wire.SUBMIT_ANSWER_BYTES_MAX if operation.makes_task else wire.COURSE_ANSWER_BYTES_MAX
        return await self._call(
            _Call("submit", "POST", self._url(*path), integration_id, content, bytes_max), parse
        )

    async def poll(self, integration_id: str, task_id: str, items: int) -> PollAnswer:
        """GET the task. The GET is sent twice if a pooled connection was closed during the first one."""

        def parse(raw: _Raw, redact: Redactor) -> PollAnswer:
            return wire.parse_poll(task_id, *raw, now=wall_clock(), redact=redact)

        url = self._url("lms", "courses", "bulk", task_id)
        return await self._call(
            _Call("poll", "GET", url, integration_id, None, wire.poll_answer_bytes_max(items)), parse
        )

    def _url(self, *path: str) -> str:
        """`path`: its segments. A text that is not valid Unicode (a lone surrogate) cannot be an id: the API answers that."""
        return "/".join([self._base_url, *(quote(segment, safe=":", errors="replace") for segment in path)])

    async def close(self) -> None:
        """Close all connections. Calls in flight end with `NoAnswer`. Idempotent."""
        self._is_closed = True
        if self._session is not None:
            await self._session.close()
        self._parsing.shutdown(wait=False)

    async def _call(self, call: _Call, parse: Callable[[_Raw, Redactor], _Answer]) -> _Answer | NoAnswer:
        started = time.monotonic()
        key = self._api_key.current()
        redact = redactor(key, self._proxy_password or "")
        answer: _Answer | NoAnswer
        try:
            raw = await self._exchange(call, key)

            def parsed() -> _Answer:
                return parse(_decoded(raw, call.answer_bytes_max), redact)

            if _is_small(raw):
                answer = parsed()
            else:
                answer = await asyncio.get_running_loop().run_in_executor(self._parsing, parsed)
        except TimeoutError:
            answer = NoAnswer(NoAnswerReason.TIMEOUT, f"no complete answer within {self._deadline:g} s")
        except Exception as error:
            # Whatever failed, there is no answer, and no caller could use the exception.
            answer = NoAnswer(_no_answer_reason(error), redact(_detail(error), wire.DETAIL_CHARS_MAX))
        if self._observe is not None:
            self._observe(call.endpoint, _status_label(answer), time.monotonic() - started)
        return answer

    async def _exchange(self, call: _Call, key: str) -> _Raw:
        if self._session is None:
            self._session = self._open_session()
        headers = {
            "Authorization": f"Bearer {key}",
            "X-Integration-Id": call.integration_id.encode("utf-8", "replace").decode(),
        }
        if call.content is not None:
            headers["Content-Type"] = "application/json"
        with reset_on_failure():
            async with (
                asyncio.timeout(self._deadline),
                self._session.request(
                    call.method, call.url, headers=headers, data=call.content, allow_redirects=False
                ) as response,
            ):
                body = await _read(response, call.answer_bytes_max)
        return response.status, _fields(response), body

    def _open_session(self) -> aiohttp.ClientSession:
        if self._is_closed:
            raise RuntimeError("the client is closed")
        return aiohttp.ClientSession(
            connector=GatedConnector(self._in_flight_max, self._tls),
            headers={
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                "User-Agent": f"course-sync-daemon/{__version__}",
            },
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(),  # none: the deadline in `_exchange` bounds the whole call
            request_class=GatedRequest,
            proxy=self._proxy,
            trust_env=False,
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._base_url!r})"


def _fields(response: aiohttp.ClientResponse) -> dict[str, str]:
    """By lower-case names. A field that occurs more than once is the list of its values (RFC 9110, 5.3)."""
    fields: dict[str, str] = {}
    for raw_name, raw_value in response.raw_headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("utf-8", "replace")
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return fields


async def _read(response: aiohttp.ClientResponse, bytes_max: int) -> bytes:
    """The body as received. It is not decompressed, so the bound applies to the memory that it takes."""
    parts: list[bytes] = []
    size = 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > bytes_max:
            raise AnswerTooLargeError(response.status, bytes_max)
        parts.append(part)
    return b"".join(parts)


def _is_small(raw: _Raw) -> bool:
    _, fields, body = raw
    return len(body) <= _SMALL_BYTES and "content-encoding" not in fields


def _decoded(raw: _Raw, bytes_max: int) -> _Raw:
    status, fields, body = raw
    return status, fields, decoded(status, fields.get("content-encoding", ""), body, bytes_max)


def _with_password(proxy: str | None, password: str | None) -> str | None:
    if proxy is None or password is None:
        return proxy
    if not password.isprintable() or not password.isascii():
        raise KomboSetupError(
            "kombo.proxy_password_file: the password must be one line of ASCII characters; write it into the file, and "
            "nothing else"
        )
    url = urlsplit(proxy)
    user, _, host = url.netloc.rpartition("@")
    return url._replace(netloc=f"{user}:{quote(password, safe='')}@{host}").geturl()


def _tls(ca_file: Path | None) -> ssl.SSLContext:
    if ca_file is None:
        return httpx.create_ssl_context(trust_env=False)
    try:
        return ssl.create_default_context(cafile=str(ca_file))
    except (OSError, ssl.SSLError) as error:
        raise KomboSetupError(
            f"kombo.ca_file: {ca_file} cannot be used as a certificate bundle ({error}); "
            "set it to a PEM file with the certificate of your certificate authority"
        ) from None


# --- reasons, for logs and metrics ----------------------------------------------------------------


def _no_answer_reason(error: BaseException) -> NoAnswerReason:
    if isinstance(error, TimeoutError):
        return NoAnswerReason.TIMEOUT
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ClientHttpProxyError):
        return NoAnswerReason.CONNECT_ERROR
    return NoAnswerReason.PROTOCOL_ERROR


def _detail(error: BaseException) -> str:
    """Never uses the repr, because aiohttp's shows the headers of the request."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


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


def wall_clock() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000
