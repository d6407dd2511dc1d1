"""The poller learns from the ends of tasks, and polls the next ones accordingly."""

from __future__ import annotations

import random
from typing import Any

import pytest

from daemon.config import Policies
from daemon.core.answers import ItemOutcome, TaskCompleted, TaskFailed
from daemon.core.batch import Batch
from daemon.core.flow import Flow
from daemon.core.learned_polls import TASKS_MIN
from daemon.core.model import Error
from daemon.runtime.halt import Halt
from daemon.runtime.poll_entries import Pending
from daemon.runtime.poller import Poller
from daemon.runtime.ports import Ports
from daemon.runtime.waker import Waker
from daemon.telemetry.events import Observers
from tests.unit.core_bench import Bench, refused
from tests.unit.test_runtime_limits import OnePartition

FIRST = 15.0
"""`poll.first_after`, of which jitter changes 10 %."""
LONG = 240.0


class World:
    def __init__(self) -> None:
        self.bench = Bench()
        partition: Any = OnePartition(self.bench)
        self.partition = partition
        settings, nothing = self.bench.settings, None
        ports = Ports(
            settings,
            Policies(settings),
            nothing,  # type: ignore[arg-type]
            partition,
            partition,
            random.Random(1),
            Observers(),
        )
        flow: Flow[Any] = Flow(settings, Policies(settings), random.Random(1))
        halt = Halt(ports, flow, self.bench.judge, lambda: False, lambda: None, lambda: None)
        self.poller = Poller(ports, flow, self.bench.judge, halt, Waker(), Waker())
        self.courses = 0

    def accept(self) -> Batch:
        self.courses += 1
        batch = self.bench.accepted(f"course-{self.courses}")
        self.poller.accepted(self.partition, self.bench.shard, batch.id)
        return batch

    async def poll(self, batch: Batch, age: float, answer: Any) -> None:
        """The newest task is polled at this age, in seconds."""
        self.bench.pass_time(age - (self.bench.now.wall - self.bench.created_at) / 1000)
        self.partition.answer = answer
        await self.poller._ask(Pending(self.partition, self.bench.shard, batch.id, late=False), 0.0)
        self.bench.commit()

    def ended(self, *, failed: bool = False, is_told: bool = True) -> TaskCompleted | TaskFailed:
        """After `LONG` seconds."""
        created = self.bench.created_at
        completed = created + round(LONG * 1000) if is_told else None
        if failed:
            return TaskFailed(created, completed, Error("LMS.COURSE_LIMIT_REACHED", "full"))
        outcome = ItemOutcome(f"course-{self.courses}", succeeded=True, course_id="id", error=None)
        return TaskCompleted(created, completed, (outcome,))

    def next_poll(self) -> float:
        """Seconds until the first scheduled one."""
        due = self.poller._schedule.due()
        assert due is not None
        return due - self.bench.now.mono


@pytest.mark.parametrize("failed", [False, True])
async def test_the_next_tasks_are_polled_when_they_are_likely_to_have_ended(*, failed: bool) -> None:
    world = World()
    for _ in range(TASKS_MIN):
        batch = world.accept()
        assert world.next_poll() < 1.2 * FIRST
        await world.poll(batch, LONG + 60.0, world.ended(failed=failed))
        assert len(world.poller) == 0
    world.accept()
    assert LONG - 20.0 < world.next_poll() < LONG + 60.0


async def test_an_end_that_is_not_reported_is_taken_from_the_polls() -> None:
    world = World()
    for _ in range(TASKS_MIN):
        batch = world.accept()
        await world.poll(batch, LONG - 10.0, world.bench.pending(LONG - 10.0))
        await world.poll(batch, LONG + 10.0, world.ended(is_told=False))
    world.accept()
    assert LONG - 20.0 < world.next_poll() < LONG + 60.0


async def test_an_answer_that_shows_no_status_brings_back_the_growing_intervals() -> None:
    world = World()
    for _ in range(TASKS_MIN):
        await world.poll(world.accept(), LONG + 60.0, world.ended())
    batch = world.accept()
    await world.poll(batch, LONG, refused(503))
    by_growth = 394.4  # intervals of 15 s, 24 s and so on: the sixth poll, and the first one after 240 s
    assert world.next_poll() == pytest.approx(by_growth - LONG, abs=2.0)
