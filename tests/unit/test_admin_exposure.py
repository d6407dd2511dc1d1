"""What the admin port shows to whoever reaches it: no id, no version of a library, nothing under an attacker's name."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from daemon import config
from daemon.admin import AdminServer
from daemon.admin.server import state
from daemon.core import settle
from daemon.core.model import Now
from daemon.core.waiting import WaitReason, Waits
from daemon.log.errors import RecordRefusedError
from daemon.telemetry.health import Health
from daemon.telemetry.metrics import Metrics
from daemon.telemetry.snapshot import Lag, nothing_yet
from tests.embedded_log import EmbeddedShardLog
from tests.unit.admin_clients import serving
from tests.unit.log_world import LogWorld

COURSE, INTEGRATION, TASK = (
    "course-of-a-customer",
    "workday:HWUTwvyx2wLoSUHphiWVrp28",
    "7FPJba3qRNBYaJgTvDKZi7mi",
)
SECRET_IDS = (COURSE, INTEGRATION, TASK)


@contextlib.asynccontextmanager
async def shown_by(world: LogWorld) -> AsyncIterator[Callable[[], Any]]:
    """Everything that the admin port of the world's replica answers."""
    server = AdminServer("127.0.0.1", 0, metrics=world.metrics, health=world.health)
    await server.start()
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as http:

            async def everything() -> str:
                texts = []
                for path in ("/state", "/readyz", "/livez", "/startupz", "/metrics", "/"):
                    async with http.get(path) as answer:
                        assert answer.status in (200, 503)
                        texts.append(await answer.text())
                return "\n".join(texts)

            yield everything
    finally:
        await server.stop()


BAD_RECORDS = {
    "wait": (f'["wait","{INTEGRATION}","{COURSE}"]'.encode(), b'{"item":[]}'),
    "wait, type": (f'["wait","{INTEGRATION}","{COURSE}"]'.encode(), f'{{"item":"{COURSE}"}}'.encode()),
    "late": (f'["late","{TASK}"]'.encode(), f'{{"integration_id":"{INTEGRATION}"}}'.encode()),
    "floor": (f'["floor","{INTEGRATION}"]'.encode(), b"{}"),
    "parts": (f'["floor","{INTEGRATION}","{COURSE}"]'.encode(), b"{}"),
    "foreign": (f'["{INTEGRATION}","{COURSE}"]'.encode(), b"{}"),
    "no JSON": (f'["late",{TASK}'.encode(), b"{}"),
    "no UTF-8": (f'["wait","{INTEGRATION}'.encode() + b'\xff","x"]', b"{}"),
}


@pytest.mark.parametrize("name", BAD_RECORDS)
async def test_an_unreadable_journal_record_is_named_without_ids(name: str) -> None:
    async with LogWorld() as world:
        world.write_journal(0, *BAD_RECORDS[name])
        await world.start()
        assert "offset 0: " in await world.blocked(0), "an operator can find it"
        async with shown_by(world) as everything:
            found = await everything()
    assert "cannot be read" in found or "does not know" in found or "parts" in found
    assert [each for each in SECRET_IDS if each in found] == []


async def test_a_record_that_is_refused_is_named_without_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: EmbeddedShardLog, transaction: Any) -> list[int]:
        if transaction.results:
            raise RecordRefusedError(f"the record with key {transaction.results[0].key!r} is refused")
        return write(_, transaction)

    write = EmbeddedShardLog._write
    monkeypatch.setattr(EmbeddedShardLog, "_write", refuse)
    async with LogWorld() as world:
        await world.start()
        world.publish(0, [COURSE])
        await world.blocked(0)
        async with shown_by(world) as everything:
            found = await everything()
    assert "refused every time" in found
    assert COURSE not in found


async def test_a_defect_is_shown_without_the_text_of_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise KeyError(f"{INTEGRATION} {COURSE} {TASK}")

    monkeypatch.setattr(settle, "poll_answered", fail)
    async with LogWorld() as world:
        world.settings = replace(world.settings, http=config.HttpSettings(deadline=1.0))
        await world.start()
        world.publish(0, [COURSE])
        await world.blocked(0)
        async with shown_by(world) as everything:
            found = await everything()
    assert "the answer to a poll cannot be applied (KeyError)" in found
    assert [each for each in SECRET_IDS if each in found] == []


async def test_a_halt_shows_the_code_and_not_the_text_of_the_api() -> None:
    async with LogWorld() as world:
        world.api.simulator.api_key = "another key"
        world.settings = replace(world.settings, park=config.ParkSettings(probe_min=60.0))
        await world.start()
        world.publish(0, [COURSE])
        await world.until(lambda: world.health.halt_reason, "the halt")
        async with shown_by(world) as everything:
            found = await everything()
    assert '"halted_reason": "PLATFORM.AUTHENTICATION_INVALID"' in found
    assert "halted: PLATFORM.AUTHENTICATION_INVALID" in found


# --- names ----------------------------------------------------------------------------------------


async def answered(host: str | None, path: str = "/state", names: tuple[str, ...] = ()) -> bytes:
    async with serving(host_names=names) as port:
        head = f"GET {path} HTTP/1.1\r\n" if host is not None else f"GET {path} HTTP/1.0\r\n"
        return await port.ask(
            head.encode() + (b"" if host is None else f"Host: {host}\r\n".encode()) + b"\r\n"
        )


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "10.1.2.3:8080", "[::1]:8080", "[fd00::7]", "localhost:9000", "daemon:8080",
        "course-sync-daemon.sync.svc:8080", "course-sync-daemon.sync.svc.cluster.local:8080", "COURSE.LOCAL.",
        "ip-10-0-0-1.ec2.internal", "sync.example.com", "Sync.Example.com:80", None,
    ],
)  # fmt: skip
async def test_it_answers_under_the_names_of_private_networks_and_under_its_own(host: str | None) -> None:
    assert b" 200 OK" in (await answered(host, names=("sync.example.com",))).partition(b"\r\n")[0]


@pytest.mark.parametrize("path", ["/state", "/metrics", "/readyz", "/", "/unknown"])
@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example:8080",
        "svc.evil.example",
        "evil.example.",
        "x.sync.example.com",
        "1.2.3",
    ],
)
async def test_a_page_cannot_read_it_under_a_name_of_its_own(host: str, path: str) -> None:
    found = await answered(host, path, ("sync.example.com",))
    assert found.startswith(b"HTTP/1.1 421 ")
    assert b"admin.host_names" in found
    assert b"lifecycle" not in found


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /state HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /unknown HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /state HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /state HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET /state HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
    ],
)
async def test_no_answer_names_python_or_the_library(request_bytes: bytes) -> None:
    async with serving() as port:
        found = await port.ask(request_bytes)
    head = found.partition(b"\r\n\r\n")[0]
    assert b"Server: coursesyncd\r\n" in head + b"\r\n"
    assert b"ython" not in found
    assert b"aiohttp" not in found


# --- times ----------------------------------------------------------------------------------------

INT64 = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from(
        [-(2**63), 2**63 - 1, -1, 0, -62_135_596_800_001, -62_135_596_800_000, 253_402_300_800_000]
    ),
)


@given(INT64, INT64, INT64, INT64)
@hypothesis_settings(suppress_health_check=[HealthCheck.too_slow])
def test_any_timestamp_can_be_shown(record: int, created: int, blind: int, waiting: int) -> None:
    health = Health((), lambda: Now(0, 0.0))
    health.assigned({0})
    metrics = Metrics(health, version="1", input_topic="t", task_timeout_s=60.0)
    snapshot = replace(
        nothing_yet(),
        now_ms=1,
        lag={0: Lag(1, record)},
        pending_created_ms=[created],
        blind_since_ms=blind,
        waiting={WaitReason.WINDOW: Waits(1, waiting)},
    )
    metrics.observe(lambda: snapshot)
    assert state(health, metrics)["partitions"]["0"]["last_record"]
    assert metrics.exposition()
