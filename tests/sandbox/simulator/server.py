"""Serves the simulator over HTTP. Only this module uses a clock and sockets.

`/v1/…` is the API. `/_sim/…` is for experiments and for the checker, without a key:

    GET  /_sim/lms      JSON lines, one course each: content, time, task (`readout.course_rows`)
    GET  /_sim/tasks    JSON lines, one task each, in order of creation (`readout.task_row`)
    GET  /_sim/deactivations
                        JSON lines, one call each, in order of arrival (`state.Deactivation`)
    GET  /_sim/stats    counts, and the fault plan in force
    POST /_sim/key      {"api_key": "…"}: the accepted key from now on
    POST /_sim/faults   a plan as JSON, or the name of a preset: `curl -d none …`
    POST /_sim/outage   {"seconds": 10, "kind": "cut" or "error"}: every API request is cut off, or
                        answered with a load balancer's 503; 0 seconds ends the outage
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Annotated, Any, TypeVar

import msgspec
from aiohttp import web

from tests.sandbox.simulator import readout
from tests.sandbox.simulator.faults import FaultPlan, PlanError, parse_plan
from tests.sandbox.simulator.state import OutageKind, Simulator
from tests.sandbox.simulator.wire import Delivery, Reply

BODY_BYTES_MAX = 4 * 1024 * 1024
_CHUNK_BYTES = 256 * 1024

T = TypeVar("T")


class _Key(msgspec.Struct, forbid_unknown_fields=True):
    api_key: Annotated[str, msgspec.Meta(min_length=1)]


class _Outage(msgspec.Struct, forbid_unknown_fields=True):
    seconds: Annotated[float, msgspec.Meta(ge=0)]
    kind: OutageKind = "cut"


def _now() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


class _Endpoints:
    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator

    def application(self) -> web.Application:
        app = web.Application(client_max_size=BODY_BYTES_MAX)
        app.add_routes(
            [
                web.post("/v1/lms/courses/bulk", self._submit),
                web.get("/v1/lms/courses/bulk/{task_id}", self._poll),
                web.post("/v1/lms/courses/{course_id}/deactivate", self._deactivate),
                web.get("/_sim/lms", self._lms),
                web.get("/_sim/deactivations", self._deactivations),
                web.get("/_sim/tasks", self._tasks),
                web.get("/_sim/stats", self._stats),
                web.post("/_sim/key", self._key),
                web.post("/_sim/faults", self._faults),
                web.post("/_sim/outage", self._outage_),
            ]
        )
        return app

    # --- the API ----------------------------------------------------------------------------------

    async def _submit(self, request: web.Request) -> web.StreamResponse:
        return await self._act(request, self._simulator.submit)

    async def _deactivate(self, request: web.Request) -> web.StreamResponse:
        def deactivate(now: int, authorization: str | None, integration_id: str | None, _: bytes) -> Reply:
            course_id = request.match_info["course_id"]
            return self._simulator.deactivate(now, authorization, integration_id, course_id)

        return await self._act(request, deactivate)

    async def _act(
        self, request: web.Request, act: Callable[[int, str | None, str | None, bytes], Reply]
    ) -> web.StreamResponse:
        """An action request."""
        integration_id = request.headers.get("X-Integration-Id")
        self._simulator.arrive(integration_id or "")
        try:
            body = await request.read()
            reply = act(_now(), request.headers.get("Authorization"), integration_id, body)
            return await self._deliver(request, reply)
        finally:
            self._simulator.leave(integration_id or "")

    async def _poll(self, request: web.Request) -> web.StreamResponse:
        reply = self._simulator.poll(
            _now(),
            request.headers.get("Authorization"),
            request.headers.get("X-Integration-Id"),
            request.match_info["task_id"],
        )
        return await self._deliver(request, reply)

    async def _deliver(self, request: web.Request, reply: Reply) -> web.StreamResponse:
        if reply.delay_seconds:
            await asyncio.sleep(reply.delay_seconds)
        if reply.delivery is Delivery.ANSWER:
            return web.Response(status=reply.status, body=reply.body, headers=reply.headers)
        if reply.delivery is Delivery.HANG:
            await asyncio.sleep(reply.hang_seconds)
        response = web.StreamResponse(status=reply.status or 500, headers=reply.headers)
        if reply.delivery is Delivery.TRUNCATED:
            response.content_length = len(reply.body)
            await response.prepare(request)
            await response.write(reply.body[: len(reply.body) // 2])
        if request.transport is not None:
            request.transport.close()  # buffered data are still sent, nothing after them is
        return response

    # --- for the checker and for people -----------------------------------------------------------

    async def _lms(self, request: web.Request) -> web.StreamResponse:
        self._simulator.advance(_now())
        return await _json_lines(request, list(readout.course_rows(self._simulator)))

    async def _tasks(self, request: web.Request) -> web.StreamResponse:
        now = _now()
        self._simulator.advance(now)
        tasks = list(self._simulator.tasks.values())
        return await _json_lines(request, (readout.task_row(task, now) for task in tasks))

    async def _deactivations(self, request: web.Request) -> web.StreamResponse:
        return await _json_lines(request, list(readout.deactivation_rows(self._simulator)))

    async def _stats(self, _: web.Request) -> web.Response:
        now = _now()
        self._simulator.advance(now)
        return _json({**readout.stats(self._simulator, now), "plan": self._simulator.plan})

    async def _key(self, request: web.Request) -> web.Response:
        self._simulator.api_key = (await _read(request, _Key)).api_key
        return _json({"status": "success"})

    async def _faults(self, request: web.Request) -> web.Response:
        try:
            plan = parse_plan(await request.text())
        except (PlanError, UnicodeDecodeError) as error:
            raise _bad_request(error) from error
        self._simulator.set_plan(_now(), plan)
        return _json({"status": "success", "plan": plan})

    async def _outage_(self, request: web.Request) -> web.Response:
        outage = await _read(request, _Outage)
        self._simulator.set_outage(_now(), outage.seconds, outage.kind)
        return _json({"status": "success"})


def _json(data: dict[str, Any]) -> web.Response:
    return web.Response(body=msgspec.json.encode(data) + b"\n", content_type="application/json")


def _bad_request(error: Exception) -> web.HTTPBadRequest:
    return web.HTTPBadRequest(
        text=msgspec.json.encode({"status": "error", "message": str(error)}).decode() + "\n",
        content_type="application/json",
    )


async def _read(request: web.Request, shape: type[T]) -> T:
    try:
        return msgspec.json.decode(await request.read(), type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _bad_request(error) from error


async def _json_lines(request: web.Request, rows: Iterable[dict[str, Any]]) -> web.StreamResponse:
    """Send the rows in chunks, so that a large state neither fills the memory nor blocks the API for long."""
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await response.prepare(request)
    chunk = bytearray()
    for row in rows:
        chunk += msgspec.json.encode(row)
        chunk += b"\n"
        if len(chunk) >= _CHUNK_BYTES:
            await response.write(bytes(chunk))
            chunk.clear()
    await response.write(bytes(chunk))
    await response.write_eof()
    return response


@asynccontextmanager
async def listening(simulator: Simulator, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """Serve inside the context, which yields the root URL. Port 0 selects a free port.

    Raises:
        OSError: the address is in use, or not an address of this machine.
    """
    app = _Endpoints(simulator).application()
    # When a client disconnects, its handler is cancelled, so that a hanging answer holds no resources. Handlers that still
    # hang at the end are cancelled after a short grace period.
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield f"http://{host}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def serve(
    host: str,
    port: int,
    *,
    seed: int,
    api_key: str,
    plan: FaultPlan,
    task_seconds: float,
    announce: Callable[[str], None],
) -> None:
    """Run the simulator until SIGTERM or SIGINT. `announce` is called with the root URL once it listens.

    Raises:
        OSError: the address is in use, or not an address of this machine.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    simulator = Simulator(
        rng=random.Random(seed), now=_now(), api_key=api_key, plan=plan, task_seconds=task_seconds
    )
    async with listening(simulator, host, port) as url:
        announce(url)
        await stop.wait()
