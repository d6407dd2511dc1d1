"""The endpoints of the admin port.

They are served in the daemon's own event loop on purpose: if the loop hangs, the liveness probe fails. All endpoints are
read-only. None needs a secret, and none shows secrets or the ids of tasks, courses and integrations, not even in the message
of an error.

A request is answered only under a name that no attacker can own: see `host_names`.

A client may be faulty or hostile, so its use of resources is bounded: `gate` bounds connections, `rendering` bounds expensive
pages, and aiohttp's parser bounds the size of a request. A request body is never read.
"""

from __future__ import annotations

import asyncio
import html
from collections.abc import Awaitable, Callable, Collection
from typing import Any

import msgspec
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from daemon import __version__
from daemon.admin.gate import CONNECTION_SECONDS_MAX, CONNECTIONS_MAX, Gate
from daemon.admin.host_names import UNKNOWN_HOST, is_known, names_of
from daemon.admin.rendering import Page
from daemon.codec.times import iso_ms
from daemon.telemetry.health import Health, Probe
from daemon.telemetry.metrics import CONTENT_TYPE, Metrics

STOP_TIMEOUT_S = 2.0
"""How long `AdminServer.stop` waits for answers that are being sent."""
LINE_BYTES_MAX = 2048
"""Size of the request line."""
HEADER_BYTES_MAX = 4096
"""Size of one header field. A browser may also send its cookies for other programs on the same host."""
REQUEST_HEADERS_MAX = 64
SERVER = "coursesyncd"
"""Instead of aiohttp's header, which names the versions of Python and aiohttp."""
BACK_OFFS_MAX = 50
"""Number of reasons for back-offs that the state page lists; those that end last."""

ENDPOINTS = {
    "/metrics": "metrics in the Prometheus text format",
    "/livez": "liveness: every loop of the process makes progress",
    "/readyz": "readiness: joined the consumer group, restored its first partitions, not draining, not halted",
    "/startupz": "startup: every loop of the process has started",
    "/state": "state of partitions, tasks and integrations, for people (JSON; the format may change)",
}


class AdminServer:
    """Serves `ENDPOINTS` and a page that lists them."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        metrics: Metrics,
        health: Health,
        host_names: Collection[str] = (),
        connections_max: int = CONNECTIONS_MAX,
        connection_seconds_max: float = CONNECTION_SECONDS_MAX,
    ) -> None:
        """With port 0 the system chooses a port. See `port`. `host_names` are further names under which clients reach it."""
        self._host_names = names_of(host, host_names)
        self._host = host
        self._port = port
        self._metrics = metrics
        self._health = health
        self._connections_max = connections_max
        self._connection_seconds_max = connection_seconds_max
        self._metrics_text = Page(metrics.exposition)
        self._state_text = Page(lambda: _encoded(state(health, metrics)))
        self._running: tuple[web.AppRunner, Gate] | None = None

    async def start(self) -> None:
        """Start to listen.

        Raises:
            OSError: the address cannot be used (in use, not an address of this machine, not permitted).
        """
        app = web.Application(middlewares=[self._known_host])
        app.router.add_get("/", self._index)
        app.router.add_get("/metrics", self._metrics_page)
        app.router.add_get("/livez", _probe_handler(self._health.live))
        app.router.add_get("/readyz", _probe_handler(self._health.ready))
        app.router.add_get("/startupz", _probe_handler(self._health.startup))
        app.router.add_get("/state", self._state)
        app.on_response_prepare.append(complete)
        runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=STOP_TIMEOUT_S)
        await runner.setup()
        gate = Gate(
            lambda: Connection(runner, gate),
            connections_max=self._connections_max,
            seconds_max=self._connection_seconds_max,
        )
        try:
            await gate.listen(self._host, self._port)
        except OSError:
            await runner.cleanup()
            raise
        self._running = (runner, gate)

    @property
    def port(self) -> int:
        """The port on which the server listens.

        Raises:
            RuntimeError: the server is not running.
        """
        if self._running is None:
            raise RuntimeError("the admin server is not running")
        _, gate = self._running
        return gate.port

    async def stop(self) -> None:
        """Stop listening. Idempotent."""
        running, self._running = self._running, None
        if running is not None:
            runner, gate = running
            gate.stop_listening()
            await runner.cleanup()
            gate.abort()

    @web.middleware
    async def _known_host(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if is_known(request.headers.get(hdrs.HOST, ""), self._host_names):
            return await handler(request)
        return web.Response(
            status=421,
            text=UNKNOWN_HOST,
        )

    async def _index(self, _: web.Request) -> web.Response:
        rows = "\n".join(
            f'<li><a href="{path}">{path}</a> {html.escape(meaning)}</li>'
            for path, meaning in ENDPOINTS.items()
        )
        text = (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>coursesyncd</title></head>\n'
            f"<body><h1>coursesyncd {html.escape(__version__)}</h1>\n<ul>\n{rows}\n</ul></body></html>\n"
        )
        return web.Response(text=text, content_type="text/html")

    async def _metrics_page(self, _: web.Request) -> web.Response:
        return web.Response(body=self._metrics_text(), headers={"Content-Type": CONTENT_TYPE})

    async def _state(self, _: web.Request) -> web.Response:
        return _json(self._state_text())


class Connection(web.RequestHandler):
    """aiohttp's protocol, which also reports to the gate. The server of the console uses it, too."""

    def __init__(self, runner: web.AppRunner, gate: Gate, line_bytes_max: int = LINE_BYTES_MAX) -> None:
        assert runner.server is not None, "it has been set up"
        super().__init__(
            runner.server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # no access log
            max_line_size=line_bytes_max,
            max_field_size=HEADER_BYTES_MAX,
            max_headers=REQUEST_HEADERS_MAX,
            lingering_time=0.0,  # a request body is not read
            auto_decompress=False,
        )
        self._gate = gate
        self._made: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._made = transport
        super().connection_made(transport)
        self._gate.opened(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._made is not None:
            self._gate.closed(self._made)
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Input that is not HTTP (a port scan, TLS) is not an error of the daemon, so it is not logged."""
        if status >= 500:
            response = super().handle_error(request, status, exc, message)
        else:
            response = web.Response(status=status, text="This port speaks HTTP/1.1 without TLS.\n")
            response.force_close()
        response.headers[hdrs.SERVER] = SERVER
        return response


async def complete(_: web.BaseRequest, response: web.StreamResponse) -> None:
    """Allow one request per connection: see `gate`. aiohttp has already built the headers, so the header is set too."""
    response.force_close()
    response.headers[hdrs.CONNECTION] = "close"
    response.headers[hdrs.SERVER] = SERVER


def state(health: Health, metrics: Metrics) -> dict[str, Any]:
    """The state of the process, for people. Partition numbers are strings because JSON keys have to be."""
    snapshot = metrics.snapshot()
    created_ms = list(snapshot.pending_created_ms)
    partitions: dict[str, Any] = {}
    for number, partition in health.partitions.items():
        lag = snapshot.lag.get(number)
        partitions[str(number)] = {
            "state": partition.state,
            "reason": partition.reason,
            "warning": partition.warning,
            "lag_records": lag and lag.records,
            "last_record": lag and _time(lag.last_record_ms),
            "imbalance": snapshot.imbalance.get(number),
        }
    return {
        "version": __version__,
        "lifecycle": health.lifecycle,
        "halted_reason": health.halt_reason,
        "kafka_last_answer": _time(health.kafka_answered_ms),
        "partitions": partitions,
        "pending": {
            "tasks": len(created_ms),
            "items": snapshot.pending_items,
            "oldest_created": _time(min(created_ms, default=None)),
            "blind_tasks": snapshot.blind_tasks,
            "blind_since": _time(snapshot.blind_since_ms),
        },
        "waiting": {
            reason: {"changes": waits.changes, "oldest_consumed": _time(waits.oldest)}
            for reason, waits in snapshot.waiting.items()
        },
        "http_in_flight": dict(snapshot.http_in_flight),
        "integrations": snapshot.integrations_by_state(halted=health.halt_reason is not None),
        "back_offs": [
            {
                "state": group.state,
                "reason": group.reason,
                "integrations": group.integrations,
                "first_until": _time(group.first_until_ms),
                "last_until": _time(group.last_until_ms),
            }
            for group in snapshot.back_offs[:BACK_OFFS_MAX]
        ],
        "loops_silent_s": {loop: round(seconds, 3) for loop, seconds in health.silence_s().items()},
    }


def _probe_handler(ask: Callable[[], Probe]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(_: web.Request) -> web.Response:
        probe = ask()
        body = {"probe": probe.name, "passed": probe.passed, "reasons": probe.reasons}
        return _json(_encoded(body), status=200 if probe.passed else 503)

    return handle


def _encoded(value: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


def _json(body: bytes, status: int = 200) -> web.Response:
    return web.Response(
        body=body, status=status, content_type="application/json", headers={"Cache-Control": "no-store"}
    )


def _time(at_ms: int | None) -> str | None:
    return None if at_ms is None else iso_ms(at_ms)
