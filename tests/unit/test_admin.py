"""The endpoints over a real socket, as Prometheus, the kubelet and a person see them."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import NamedTuple

import aiohttp
import pytest

from daemon.admin import ENDPOINTS, AdminServer
from daemon.core.breaker import IntegrationState
from daemon.core.model import Now
from daemon.core.waiting import WaitReason, Waits
from daemon.telemetry.health import SILENCE_MAX_S, Health
from daemon.telemetry.metrics import Metrics
from daemon.telemetry.snapshot import BackOff, Lag, Snapshot, nothing_yet

WALL = 1_790_000_000_000


class Clock:
    mono = 10.0

    def __call__(self) -> Now:
        return Now(WALL, self.mono)


class Daemon(NamedTuple):
    clock: Clock
    health: Health
    metrics: Metrics
    http: aiohttp.ClientSession


@pytest.fixture
async def daemon() -> AsyncIterator[Daemon]:
    clock = Clock()
    health = Health(("input",), clock)
    metrics = Metrics(health, version="1", input_topic="course-changes", task_timeout_s=60.0)
    server = AdminServer("127.0.0.1", 0, metrics=metrics, health=health)
    await server.start()
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as http:
            yield Daemon(clock, health, metrics, http)
    finally:
        await server.stop()


async def probe(daemon: Daemon, path: str) -> tuple[int, list[str]]:
    async with daemon.http.get(path) as response:
        body = await response.json()
        assert body["passed"] is (response.status == 200)
        return response.status, body["reasons"]


async def test_metrics_come_in_the_text_format(daemon: Daemon) -> None:
    daemon.metrics.commit(0.1)
    async with daemon.http.get("/metrics") as response:
        text = await response.text()
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "coursesync_commits_total 1.0" in text


async def test_startup(daemon: Daemon) -> None:
    assert await probe(daemon, "/startupz") == (503, ["loop input has not started yet"])
    daemon.health.tick("input")
    assert await probe(daemon, "/startupz") == (200, [])


async def test_live(daemon: Daemon) -> None:
    assert await probe(daemon, "/livez") == (200, [])
    daemon.clock.mono += SILENCE_MAX_S
    status, reasons = await probe(daemon, "/livez")
    assert status == 503
    assert reasons == ["loop input has been silent for 90 s (limit: 90 s)"]


async def test_ready(daemon: Daemon) -> None:
    assert await probe(daemon, "/readyz") == (503, ["has not joined the consumer group yet"])
    daemon.health.assigned({3})
    assert await probe(daemon, "/readyz") == (503, ["partition 3 is restoring"])
    daemon.health.restored(3)
    assert await probe(daemon, "/readyz") == (200, [])
    daemon.health.draining()
    assert await probe(daemon, "/readyz") == (503, ["draining: stop requested"])


async def test_state_tells_a_person_what_is_held_and_what_stands_still(daemon: Daemon) -> None:
    daemon.health.assigned({0, 1, 2})
    daemon.health.restored(0)
    daemon.health.blocked(1, "the input topic was replaced; run coursesyncd check")
    daemon.health.halted("the API refuses our key")
    snapshot = replace(
        nothing_yet(),
        now_ms=WALL,
        pending_created_ms=[WALL - 1000, WALL - 61_000, WALL],
        pending_tasks_max=10_000,
        pending_items=250,
        waiting={WaitReason.WINDOW: Waits(7, WALL - 61_000)},
        imbalance={0: 1},
        back_offs=[
            BackOff(
                IntegrationState.THROTTLED, "PLATFORM.RATE_LIMIT_EXCEEDED", 2, WALL + 1000, WALL + 61_000
            ),
            BackOff(IntegrationState.BREAKER_OPEN, "timeout", 1, None, None),
        ],
        lag={0: Lag(12, WALL - 500)},
    )
    daemon.metrics.observe(lambda: snapshot)
    async with daemon.http.get("/state") as response:
        state = await response.json()

    assert state["lifecycle"] == "halted"
    assert state["halted_reason"] == "the API refuses our key"
    assert state["partitions"]["0"] == {
        "state": "running",
        "reason": None,
        "warning": None,
        "lag_records": 12,
        "last_record": "2026-09-21T14:13:19.500Z",
        "imbalance": 1,
    }
    assert state["partitions"]["1"]["state"] == "blocked"
    assert state["partitions"]["1"]["reason"] == "the input topic was replaced; run coursesyncd check"
    assert state["partitions"]["2"]["state"] == "restoring"
    assert state["pending"]["tasks"] == 3
    assert state["pending"]["items"] == 250
    assert state["pending"]["oldest_created"] == "2026-09-21T14:12:19.000Z"
    assert state["back_offs"] == [
        {
            "state": "throttled",
            "reason": "PLATFORM.RATE_LIMIT_EXCEEDED",
            "integrations": 2,
            "first_until": "2026-09-21T14:13:21.000Z",
            "last_until": "2026-09-21T14:14:21.000Z",
        },
        {
            "state": "breaker_open",
            "reason": "timeout",
            "integrations": 1,
            "first_until": None,
            "last_until": None,
        },
    ]
    assert state["waiting"] == {"window": {"changes": 7, "oldest_consumed": "2026-09-21T14:12:19.000Z"}}


async def test_state_with_nothing_held(daemon: Daemon) -> None:
    async with daemon.http.get("/state") as response:
        state = await response.json()
    assert state["partitions"] == {}
    assert state["pending"]["oldest_created"] is None
    assert state["halted_reason"] is None


async def test_the_first_page_leads_to_every_endpoint(daemon: Daemon) -> None:
    async with daemon.http.get("/") as response:
        page = await response.text()
        assert response.content_type == "text/html"
    for path in ENDPOINTS:
        assert f'href="{path}"' in page
        async with daemon.http.get(path) as response:
            assert response.status in {200, 503}, path


async def test_nothing_can_be_changed_and_nothing_else_is_there(daemon: Daemon) -> None:
    for path in ENDPOINTS:
        async with daemon.http.post(path) as response:
            assert response.status == 405
    async with daemon.http.get("/favicon.ico") as response:
        assert response.status == 404


async def test_a_scrape_that_fails_says_so_and_the_probes_go_on(daemon: Daemon) -> None:
    def broken() -> Snapshot:
        raise ValueError("no figures")

    daemon.metrics.observe(broken)
    async with daemon.http.get("/metrics") as response:
        assert response.status == 500
    assert await probe(daemon, "/livez") == (200, [])


@pytest.mark.parametrize("page", ["/metrics", "/state"])
async def test_many_who_ask_at_once_share_one_rendering(daemon: Daemon, page: str) -> None:
    rendered = 0

    def slow() -> Snapshot:
        nonlocal rendered
        rendered += 1
        time.sleep(0.05)
        return nothing_yet()

    daemon.metrics.observe(slow)
    for _ in range(30):
        async with daemon.http.get(page) as response:
            assert response.status == 200
    assert rendered < 30


async def test_a_port_that_is_taken_is_an_error_and_leaves_nothing_open(daemon: Daemon) -> None:
    assert daemon.http._base_url is not None
    port = daemon.http._base_url.port
    assert port is not None
    other = AdminServer("127.0.0.1", port, metrics=daemon.metrics, health=daemon.health)
    with pytest.raises(OSError, match="in use"):
        await other.start()
    with pytest.raises(RuntimeError, match="is not running"):
        _ = other.port
    await other.stop()


@pytest.mark.parametrize(
    ("others", "serves"), [([], False), ([(socket.AF_INET, 1, 6, "", ("127.0.0.1", 0))], True)]
)
async def test_an_address_of_a_family_that_the_machine_does_not_have_is_passed_over(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, others: list[object], serves: bool
) -> None:
    async def found(*_: object, **__: object) -> list[object]:
        return [(999, 1, 6, "", ("127.0.0.1", 0)), *others]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", found)
    other = AdminServer("localhost", 0, metrics=daemon.metrics, health=daemon.health)
    if serves:
        await other.start()
        assert other.port
        await other.stop()
    else:
        with pytest.raises(OSError, match="no address of localhost"):
            await other.start()


async def test_after_stop_nobody_listens() -> None:
    health = Health((), Clock())
    metrics = Metrics(health, version="1", input_topic="t", task_timeout_s=60.0)
    server = AdminServer("127.0.0.1", 0, metrics=metrics, health=health)
    await server.start()
    url = f"http://127.0.0.1:{server.port}/livez"
    await server.stop()
    await server.stop()
    async with aiohttp.ClientSession() as http:
        with pytest.raises(aiohttp.ClientConnectorError):
            await http.get(url)
