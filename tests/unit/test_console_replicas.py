"""What the console learns from replicas: from real admin ports, and from what only pretends to be one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from aiohttp import web

from daemon.admin import AdminServer
from daemon.console import replicas
from daemon.console.model import Held
from daemon.console.replicas import Replicas, replicas_mistake
from daemon.core.model import Now
from daemon.telemetry.health import Health
from daemon.telemetry.metrics import Metrics
from tests.unit.console_world import World, serving
from tests.unit.test_console_pages import seen

WHY = "partition 1: a record is <b>too large</b>. Run `coursesyncd check`"


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """Of a replica that serves partition 0, and for which partition 1 is blocked."""
    health = Health((), lambda: Now(1_790_000_000_000, 10.0))
    server = AdminServer(
        "127.0.0.1",
        0,
        metrics=Metrics(health, version="1", input_topic="c", task_timeout_s=60.0),
        health=health,
    )
    health.assigned({0, 1, 2})
    for partition in (0, 2):
        health.restored(partition)
    health.blocked(1, WHY)
    health.warned(2, "partition 2: an open transaction holds it back")
    health.halted("the API refuses the key")
    await server.start()
    try:
        yield server.port
    finally:
        await server.stop()


async def followed(world: World, *urls: str, until: Callable[[], bool]) -> None:
    task = asyncio.create_task(Replicas(urls, world.model).follow())
    try:
        async with asyncio.timeout(60):
            while not until():  # noqa: ASYNC110 - the model tells nobody
                await asyncio.sleep(0.01)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_replica_says_what_it_holds(port: int) -> None:
    world = World()
    world.loaded()
    await followed(world, f"http://127.0.0.1:{port}", until=lambda: bool(world.model.held))
    assert world.model.held[1] == Held("127.0.0.1", "blocked", WHY, None)
    async with serving(world) as http:
        page = await seen(http, "/partitions")
        words = " ".join(page.text.split())
        assert "1 replica has answered." in words
        assert "a record is <b>too large</b>. Run coursesyncd check" in words
        assert "2 delayed" in words
        assert "running 127.0.0.1" in words
        assert "The daemon submits nothing. the API refuses the key" in words


async def test_who_does_not_answer_is_left_out(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicas, "INTERVAL", 0.01)
    world = World()
    urls = ("http://127.0.0.1:1", "http://name.invalid:80", f"http://localhost:{port}")
    await followed(world, *urls, until=lambda: bool(world.model.held))
    assert world.model.replicas == 1
    # Nobody answers any more: what was known is not shown as if it still were so.
    await followed(world, *urls[:2], until=lambda: world.model.replicas == 0)
    assert world.model.held == {}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"lifecycle": 1}',
        b"\xff",
        b"[" * 9999,
        b'{"lifecycle":"x","partitions":{"x":{"state":"y"}}}',
    ],
)
async def test_what_is_not_a_replica_is_taken_for_none(body: bytes) -> None:
    app = web.Application()

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=body)

    app.router.add_get("/state", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        (address,) = runner.addresses
        world = World()
        await followed(
            world, f"http://127.0.0.1:{address[1]}", until=lambda: world.model.replicas is not None
        )
        assert world.model.held == {}
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    "url", ["", "course-sync:8080", "https://a:1", "http://", "http://a:x", "http://a:1/state", "ftp://a:1"]
)
def test_what_is_no_address_of_admin_ports_is_refused(url: str) -> None:
    assert replicas_mistake(url) is not None


def test_the_name_of_a_service_is_enough() -> None:
    assert replicas_mistake("http://course-sync-daemon:8080") is None
    assert replicas_mistake("http://[::1]:8080/") is None
