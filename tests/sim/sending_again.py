"""Operators who publish again what has failed, as `coursesyncd republish` does, at any moment (R20).

They choose with the command's own `PartitionPlan`. Between looking and publishing they take their time: what comes in between is
the daemon's to see.
"""

from __future__ import annotations

import random
from functools import partial

import msgspec

from daemon.codec import decode_change
from daemon.codec.repeats import encode_repeats, with_repeats, without_repeats
from daemon.codec.result import SyncResult
from daemon.commands.repeat_plan import PartitionPlan, Picked
from daemon.core.model import Repeats
from daemon.log.port import Message, Record
from tests.sim.evidence import records
from tests.sim.parameters import TOPICS, Parameters
from tests.sim.world import World

SLOW_MAX = 3.0
"""Virtual seconds that an operator takes between looking and publishing."""


class _Event(msgspec.Struct):
    type: str
    data: SyncResult


_decode = msgspec.json.Decoder(_Event).decode


def plan_repetitions(world: World, parameters: Parameters) -> None:
    """Schedule the operators of this history."""
    rng = random.Random(f"{parameters.duration} {parameters.changes} {parameters.plan}")
    for _ in range(parameters.repetitions):
        operator = _Operator(world, random.Random(rng.random()))
        world.after(rng.uniform(parameters.duration * 0.1, parameters.duration), operator.look)


class _Operator:
    """Runs the command once, or twice at a time."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self._world = world
        self._rng = rng
        self._bytes_max = world.settings.batch.bytes_max

    def look(self) -> None:
        statuses = self._rng.choice(
            (("FAILED",), ("FAILED", "TIMED_OUT"), ("FAILED", "TIMED_OUT", "REJECTED"))
        )
        picked = Picked()
        for record in records(self._world, TOPICS.results):
            event = _decode(record.value or b"")
            is_correction = event.type == "course.sync.corrected"
            picked.result(event.data, is_picked=event.data.status in statuses, is_correction=is_correction)
        for number, changes in picked.changes.items():
            if changes:
                self._look_at(PartitionPlan(number, changes, picked.not_accepted[number]))

    def _look_at(self, plan: PartitionPlan) -> None:
        while True:
            found, checked = self._world.cluster.read_committed(
                TOPICS.changes, plan.partition, plan.start, 1_000_000
            )
            for record in found:
                entry = decode_change(
                    record.offset,
                    record.key,
                    record.value,
                    record.headers,
                    consumed_at=0,
                    item_bytes_max=self._bytes_max,
                )
                plan.record(record.offset, with_repeats(entry, TOPICS.changes, plan.partition))
            if not plan.read_to_the_end():
                break
        by_offset = {record.offset: record for record in found}
        chosen = [by_offset[offset] for offset in plan.offsets]
        for _ in range(self._rng.choice((1, 1, 2))):
            delay = self._rng.choice((0.0, 0.1, SLOW_MAX)) * self._rng.random()
            self._world.after(delay, partial(self._publish, plan.partition, chosen, checked))

    def _publish(self, partition: int, chosen: list[Record], checked: int) -> None:
        world = self._world
        for record in chosen:
            headers = (
                *without_repeats(record.headers),
                *encode_repeats(TOPICS.changes, partition, Repeats(record.offset, checked)),
            )
            place = world.cluster.append(
                TOPICS.changes, Message(record.key, record.value, headers), partition
            )
            world.published[place] = world.time
            world.note(f"an operator repeats change {record.offset} as {place}, looked up to {checked}")
