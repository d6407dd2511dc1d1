"""What the checker is given of a simulated history: the topics as a reader sees them, and the state of the API."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from tests.sandbox.checker import (
    ApiTask,
    DeactivationCall,
    HeldCourse,
    LogRecord,
    SentItem,
    TaskStatus,
    content_digest,
)
from tests.sandbox.simulator.readout import course_rows, deactivation_rows, task_row
from tests.sim.world import World


def records(world: World, topic: str) -> Iterator[LogRecord]:
    for partition in range(world.cluster.partition_count(topic)):
        start = world.cluster.partition(topic, partition).start
        found, _ = world.cluster.read_committed(topic, partition, start, 1_000_000)
        for r in found:
            yield LogRecord(topic, partition, r.offset, r.key, r.value, r.headers)


def tasks(world: World) -> Iterator[ApiTask]:
    simulator = world.network.simulator
    now = world.api_now()
    for task in simulator.tasks.values():
        row = task_row(task, now)
        yield ApiTask(
            task_id=row["task_id"],
            integration_id=row["integration_id"],
            created_at=row["created_at"],
            completed_at=row["completed_at"],
            applied_at=row["applied_at"],
            status=TaskStatus(row["status"]),
            error_code=row["code"],
            items=[
                SentItem(
                    item["origin_id"],
                    content_digest(plain(item["course"])),
                    None if not item["reported"] else item["outcome"] == "SUCCEEDED",
                    item["applied"],
                )
                for item in row["items"]
            ],
            strangers=[
                (item["origin_id"], content_digest(plain(item["course"]))) for item in row["strangers"]
            ],
        )


def deactivations(world: World) -> Iterator[DeactivationCall]:
    return (DeactivationCall(**row) for row in deactivation_rows(world.network.simulator))


def lms(world: World) -> Iterator[HeldCourse]:
    for row in course_rows(world.network.simulator):
        yield HeldCourse(
            row["integration_id"],
            row["origin_id"],
            content_digest(plain(row["course"])),
            row["task_id"],
            row["course_id"],
            row["is_active"],
        )


def plain(course: Any) -> dict[str, Any]:
    return dict(msgspec.to_builtins(course))
