"""What the checker is given of a simulated history: the topics as a reader sees them, and the state of the API."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from tests.sandbox.checker import ApiTask, DeactivationCall, HeldCourse, LogRecord
from tests.sandbox.checker.rows import held_course_of, task_of
from tests.sandbox.simulator.readout import course_rows, deactivation_rows, task_row
from tests.sim.world import World


def records(world: World, topic: str) -> Iterator[LogRecord]:
    for partition in range(world.cluster.partition_count(topic)):
        start = world.cluster.partition(topic, partition).start
        found, _ = world.cluster.read_committed(topic, partition, start, 1_000_000)
        for r in found:
            yield LogRecord(topic, partition, r.offset, r.key, r.value, r.headers)


def tasks(world: World) -> Iterator[ApiTask]:
    now = world.api_now()
    for task in world.network.simulator.tasks.values():
        yield task_of(msgspec.to_builtins(task_row(task, now)))


def deactivations(world: World) -> Iterator[DeactivationCall]:
    return (DeactivationCall(**row) for row in deactivation_rows(world.network.simulator))


def lms(world: World) -> Iterator[HeldCourse]:
    for row in course_rows(world.network.simulator):
        yield held_course_of(msgspec.to_builtins(row))
