"""What operators give up leaves nothing in the queues of the runtime (R19), and nothing more than that."""

from __future__ import annotations

import random
from typing import Any

from daemon.config import Policies
from daemon.core.control import GiveUp
from daemon.core.flow import Flow
from daemon.core.step import LateWatched, TaskEnded
from daemon.runtime.halt import Halt
from daemon.runtime.poller import Poller
from daemon.runtime.ports import Ports
from daemon.runtime.submitter import Submitter
from daemon.runtime.waker import Waker
from daemon.telemetry.events import Observers
from tests.unit.core_bench import TOPIC_ID, Bench, refused
from tests.unit.test_runtime_limits import OnePartition

DAY = 86_400.0


class World:
    def __init__(self) -> None:
        self.bench = Bench()
        partition: Any = OnePartition(self.bench)
        self.partition = partition
        settings, no_part, policies = self.bench.settings, None, Policies(self.bench.settings)
        ports = Ports(
            settings,
            policies,
            no_part,  # type: ignore[arg-type]
            partition,
            partition,
            random.Random(1),
            Observers(),
        )
        self.flow: Flow[Any] = Flow(settings, policies, random.Random(1))
        halt = Halt(ports, self.flow, self.bench.judge, lambda: False, lambda: None, lambda: None)
        self.submitter = Submitter(ports, self.flow, self.bench.judge, halt, Waker(), Waker())
        self.poller = Poller(ports, self.flow, self.bench.judge, halt, Waker(), Waker())

    def give_up(self, course: str) -> None:
        """As the engine does: the shard obeys, its facts are acted on, and the queues forget."""
        del self.bench.facts[:]
        offsets = (0, 0, 0, self.bench.published)
        self.bench.decide(GiveUp("hr:1", course, True, TOPIC_ID, offsets, "op@host", "gone", 0))
        for fact in self.bench.facts:
            match fact:
                case TaskEnded(batch_id=batch_id):
                    self.poller.ended(self.partition, self.bench.shard, batch_id)
                case LateWatched(batch_id=batch_id):
                    self.poller.late(self.partition, self.bench.shard, batch_id)
                case _:
                    pass
        self.submitter.forget_ended()

    def next_submission(self) -> Any:
        """The one that is sent a day later, or None."""
        permit = self.flow.next_submission(self.bench.now.mono + DAY)
        return None if permit is None else permit.ref.id


def test_a_submission_that_backs_off_is_forgotten_at_once() -> None:
    world = World()
    bench, refs = world.bench, []
    for course in "ab":
        batch = bench.seal(course)
        bench.submit_answer(batch, refused(429), again_in=600.0)
        world.submitter.offer(
            world.partition, bench.shard, "hr:1", batch.id, bench.now.mono + 600.0, bulk=False
        )
        refs.append(batch.id)
    world.give_up("a")
    assert world.next_submission() == refs[1], "only the other course was not given up"
    assert world.next_submission() is None


def test_the_last_submission_that_is_given_up_wakes_nothing() -> None:
    world = World()
    batch = world.bench.seal("a")
    world.bench.submit_answer(batch, refused(429), again_in=600.0)
    world.submitter.offer(
        world.partition, world.bench.shard, "hr:1", batch.id, world.bench.now.mono + 600.0, bulk=False
    )
    world.give_up("a")
    assert world.flow.due(world.bench.now.mono) is None
    assert world.flow.back_offs() == []


def test_the_poll_of_a_task_is_forgotten_at_once() -> None:
    world = World()
    bench = world.bench
    batches = []
    for course in "ab":
        batch = bench.accepted(course)
        bench.poll_answer(batch, bench.pending(1))
        world.poller.accepted(world.partition, bench.shard, batch.id)
        batches.append(batch)
    assert len(world.poller) == 2
    world.give_up("a")
    assert len(world.poller) == 2, "the other task, and the watch of the one that was given up"
    assert [late.batch_id for late in bench.shard._memory.late.values()] == [batches[0].id]
