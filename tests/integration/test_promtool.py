"""Prometheus' own tool reads what the daemon serves, over HTTP, and finds nothing to complain about."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import aiohttp

from daemon.admin import AdminServer
from daemon.core.model import Now, Status
from daemon.telemetry.health import Health
from daemon.telemetry.metrics import Metrics
from daemon.telemetry.snapshot import Lag, nothing_yet

NOW = Now(wall=1_790_000_000_000, mono=1.0)


def complaints(promtool: str, exposition: bytes) -> str:
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=exposition, capture_output=True, timeout=300, check=False
    )
    said = (checked.stdout + checked.stderr).decode()
    assert bool(checked.returncode) == bool(said.strip()), said
    return said


async def test_promtool_finds_nothing(promtool: str) -> None:
    health = Health(("input", "poll"), lambda: NOW)
    health.assigned({0, 1})
    health.blocked(1, "x")
    metrics = Metrics(health, version="1.2.3", input_topic="course-changes", task_timeout_s=86400.0)
    snapshot = replace(
        nothing_yet(), now_ms=NOW.wall, pending_created_ms=(NOW.wall - 5000, 1), lag={0: Lag(3, NOW.wall)}
    )
    metrics.observe(lambda: snapshot)
    metrics.results(Status.SUCCEEDED, 12.5)
    server = AdminServer("127.0.0.1", 0, metrics=metrics, health=health)
    await server.start()
    try:
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"http://127.0.0.1:{server.port}/metrics") as response,
        ):
            exposition = await response.read()
    finally:
        await server.stop()

    assert b"coursesync_pending_age_seconds_gcount 2.0" in exposition
    assert complaints(promtool, exposition) == ""


def test_promtool_would_find_something(promtool: str) -> None:
    bad = b"# HELP coursesync_things x\n# TYPE coursesync_things counter\ncoursesync_things 1\n"
    assert "_total" in complaints(promtool, bad)
