"""The daemon's HTTP endpoints: metrics for Prometheus, probes for Kubernetes, the state for people.

Served inside the daemon's own event loop, on purpose: a loop that hangs fails its liveness probe. Nothing
here changes anything, nothing needs a secret and nothing shows one; ids of tasks, courses and
integrations do not appear either.
"""

from __future__ import annotations

import html
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web

from daemon import __version__
from daemon.codec.times import iso_ms
from daemon.telemetry.health import Health, Probe
from daemon.telemetry.metrics import CONTENT_TYPE, Metrics

STOP_TIMEOUT_S = 2.0
"""How long `AdminServer.stop` waits for answers that are under way."""

ENDPOINTS = {
    "/metrics": "metrics in the Prometheus text format",
    "/livez": "every loop of the process goes round",
    "/readyz": "joined the consumer group and restored what it was given first; not draining, not halted",
    "/startupz": "the loops have come up",
    "/state": "what the process holds, for people (JSON; its form may change)",
}


class AdminServer:
    """Serves `ENDPOINTS` and a page that lists them."""

    def __init__(self, host: str, port: int, *, metrics: Metrics, health: Health) -> None:
        """Port 0 lets the system choose; see `port`."""
        self._host = host
        self._port = port
        self._metrics = metrics
        self._health = health
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the address cannot be used (taken, not of this machine, not permitted).
        """
        app = web.Application()
        app.router.add_get("/", self._index)
        app.router.add_get("/metrics", self._metrics_page)
        app.router.add_get("/livez", _probe_handler(self._health.live))
        app.router.add_get("/readyz", _probe_handler(self._health.ready))
        app.router.add_get("/startupz", _probe_handler(self._health.startup))
        app.router.add_get("/state", self._state)
        runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=STOP_TIMEOUT_S)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port).start()
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner

    @property
    def port(self) -> int:
        """The port that is listened on.

        Raises:
            RuntimeError: not started.
        """
        if self._runner is None:
            raise RuntimeError("the admin server has not been started")
        port: int = self._runner.addresses[0][1]
        return port

    async def stop(self) -> None:
        """Stop listening. Idempotent."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

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
        return web.Response(body=self._metrics.exposition(), headers={"Content-Type": CONTENT_TYPE})

    async def _state(self, _: web.Request) -> web.Response:
        return _json(state(self._health, self._metrics))


def state(health: Health, metrics: Metrics) -> dict[str, Any]:
    """What the process holds, for people. Partition numbers are strings, as JSON wants them."""
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
        "integrations": dict(snapshot.integrations),
        "loops_silent_s": {loop: round(seconds, 3) for loop, seconds in health.silence_s().items()},
    }


def _probe_handler(ask: Callable[[], Probe]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(_: web.Request) -> web.Response:
        probe = ask()
        body = {"probe": probe.name, "passed": probe.passed, "reasons": probe.reasons}
        return _json(body, status=200 if probe.passed else 503)

    return handle


def _json(value: object, status: int = 200) -> web.Response:
    body = msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"
    return web.Response(
        body=body, status=status, content_type="application/json", headers={"Cache-Control": "no-store"}
    )


def _time(at_ms: int | None) -> str | None:
    return None if at_ms is None else iso_ms(at_ms)
