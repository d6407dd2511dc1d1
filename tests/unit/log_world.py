"""The real engine on the embedded log with the simulator of the API, in this process and in real time."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Self

import msgspec

from daemon import config
from daemon.commands.repair.journal_repair import inspect_partition, renew
from daemon.commands.repair.skip import plan_skip, told
from daemon.config import Policies, Settings, Topics
from daemon.core.answers import PollAnswer, SubmitAnswer
from daemon.core.journal import Position
from daemon.core.journal_fold import Fold
from daemon.core.model import Now
from daemon.core.operation import Operation
from daemon.kombo import wire
from daemon.log.port import Message
from daemon.runtime.clock import SystemClock
from daemon.runtime.engine import Engine
from daemon.runtime.liveness import LOOPS
from daemon.runtime.ports import Ports
from daemon.telemetry.health import Health, PartitionStatus
from daemon.telemetry.metrics import Metrics
from daemon.telemetry.subscribers import subscribed
from tests.embedded_log import EmbeddedCluster, EmbeddedLog
from tests.sandbox.simulator.faults import NONE
from tests.sandbox.simulator.state import Simulator

PATIENCE = 60.0
"""Seconds within which everything happens that is going to."""
KEY = "key"


class Api:
    """`KomboApi`, straight into the simulator."""

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator
        self.posted: list[bytes] = []

    async def submit(self, operation: Operation, integration_id: str, body: bytes) -> SubmitAnswer:
        await asyncio.sleep(0)
        self.posted.append(body)
        now = now_ms()
        path, content = operation.call(body)
        if path[-1] == "deactivate":
            reply = self.simulator.deactivate(now, f"Bearer {KEY}", integration_id, path[-2])
            return wire.parse_done(reply.status, _lower(reply.headers), reply.body, now)
        reply = self.simulator.submit(now, f"Bearer {KEY}", integration_id, content)
        return wire.parse_submit(reply.status, _lower(reply.headers), reply.body, now)

    async def poll(self, integration_id: str, task_id: str, items: int) -> PollAnswer:
        await asyncio.sleep(0)
        now = now_ms()
        reply = self.simulator.poll(now, f"Bearer {KEY}", integration_id, task_id)
        return wire.parse_poll(task_id, reply.status, _lower(reply.headers), reply.body, now)

    async def close(self) -> None:
        """Nothing to close."""


class LogWorld:
    """One cluster, and one replica after the other. `settings.topics` are the defaults."""

    def __init__(self, partitions: int = 2, *, task_seconds: float = 0.0, start_at: str = "earliest") -> None:
        self.settings = Settings(
            kafka=config.KafkaSettings(session_timeout=600.0),
            input=config.InputSettings(start_at=start_at),
            batch=config.BatchSettings(linger=0.02),
            fence=config.FenceSettings(lease=2.0),
            poll=config.PollSettings(first_after=0.05, interval_max=0.1),
            drain=config.DrainSettings(timeout=PATIENCE),
        )
        self.topics: Topics = self.settings.topics
        self.member = "replica"
        self.cluster = EmbeddedCluster(now_ms)
        for topic in (self.topics.changes, self.topics.journal, self.topics.courses):
            self.cluster.create_topic(topic, partitions)
        for topic in (self.topics.results, self.topics.dead_letters, self.topics.control):
            self.cluster.create_topic(topic, 1)
        self.api = Api(
            Simulator(rng=random.Random(1), now=now_ms(), api_key=KEY, plan=NONE, task_seconds=task_seconds)
        )
        self.repair_log = EmbeddedLog(self.cluster, self.topics, "repair")
        self._running: tuple[Engine, asyncio.Task[None]] | None = None

    # --- the replica ------------------------------------------------------------------------------

    async def start(self) -> None:
        clock = SystemClock()
        self.health = Health(LOOPS, clock.now)
        self.metrics = Metrics(self.health, version="0", input_topic=self.topics.changes, task_timeout_s=60.0)
        log = EmbeddedLog(self.cluster, self.topics, self.member)
        await log.start()
        ports = Ports(
            self.settings,
            Policies(self.settings),
            log,
            self.api,
            clock,
            random.Random(2),
            subscribed(self.health, self.metrics),
        )
        engine = Engine(ports, lambda: False)
        self.metrics.observe(engine.snapshot)
        self._running = engine, asyncio.create_task(engine.run())

    async def stop(self) -> None:
        """Drains; raises what it died of."""
        if self._running is not None:
            (engine, task), self._running = self._running, None
            engine.stop()
            await task
            self.cluster.expire(self.member)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        with suppress(Exception):  # the test's own failure tells more
            await self.stop()

    async def until(self, condition: Callable[[], Any], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if self._running is not None and self._running[1].done():
                self._running[1].result()
            assert time.monotonic() < deadline, f"waited in vain for {what}; {dict(self.health.partitions)}"
            await asyncio.sleep(0.005)

    def state(self, partition: int) -> PartitionStatus | None:
        held = self.health.partitions.get(partition)
        return None if held is None else held.state

    def warning(self, partition: int) -> str | None:
        held = self.health.partitions.get(partition)
        return None if held is None else held.warning

    async def running(self, partition: int) -> None:
        await self.until(lambda: self.state(partition) is PartitionStatus.RUNNING, f"partition {partition}")

    async def blocked(self, partition: int) -> str:
        """Wait until it is, and return the sentence."""
        await self.until(
            lambda: self.state(partition) is PartitionStatus.BLOCKED, f"partition {partition} that is blocked"
        )
        return self.health.partitions[partition].reason or ""

    def scrape(self) -> str:
        return self.metrics.exposition().decode()

    # --- the topics -------------------------------------------------------------------------------

    def publish(self, partition: int, courses: Iterable[str]) -> None:
        for course in courses:
            self.cluster.append(self.topics.changes, Message(b"i", change(course)), partition)

    def results(self) -> list[tuple[str, int, int, str | None]]:
        """Status, partition, offset and course of every result, in order."""
        records, _ = self.cluster.read_committed(self.topics.results, 0, 0, 10_000)
        found = []
        for record in records:
            data = msgspec.json.decode(record.value or b"")["data"]
            source = data["change"]
            found.append((data["status"], source["partition"], source["offset"], data["origin_id"]))
        return found

    def journal(self, partition: int) -> list[tuple[bytes | None, bytes | None]]:
        records, _ = self.cluster.read_committed(self.topics.journal, partition, 0, 10_000)
        return [(record.key, record.value) for record in records]

    def fold(self, partition: int) -> Fold:
        fold = Fold()
        for offset, (key, value) in enumerate(self.journal(partition)):
            fold.apply(offset, key, value)
        fold.finish()
        return fold

    def position(self, partition: int) -> Position:
        """The last position in the journal, which must exist."""
        position = self.fold(partition).position
        assert position is not None
        return position

    def write_journal(self, partition: int, key: bytes, value: bytes | None) -> None:
        self.cluster.append(self.topics.journal, Message(key, value), partition)


async def skip(world: LogWorld, number: int, to: int | str | None = None) -> list[str]:
    """What the command does; returns what it says."""
    found = await inspect_partition(world.repair_log, number, world.topics)
    plan = plan_skip(found, to, world.topics, Now(now_ms(), 0.0))
    await renew(world.repair_log, found, plan.position, world.topics)
    return list(told(plan, world.topics))


async def read(world: LogWorld, number: int, courses: str) -> None:
    """Publish these and wait for their results."""
    before = len(world.results())
    world.publish(number, courses)
    await world.until(lambda: len(world.results()) >= before + len(courses), "the results")


def change(course: str) -> bytes:
    return msgspec.json.encode(
        {
            "id": f"chg-{course}",
            "type": "course.upserted",
            "integration_id": "i",
            "origin_id": course,
            "course": {"type": "EXTERNAL", "title": course, "course_url": "https://example.com/c"},
        }
    )


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def _lower(headers: dict[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
