"""The checker of the contract over a simulated history, and what only a simulation can see."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec

from daemon.core.journal import Fold
from daemon.sandbox.checker import (
    HeldCourse,
    Limits,
    LogRecord,
    SentItem,
    Task,
    TaskStatus,
    content_digest,
    judge,
)
from daemon.sandbox.simulator.readout import course_rows, task_row
from tests.sim.outcome import Outcome
from tests.sim.world import World


def records(world: World, topic: str) -> Iterator[LogRecord]:
    for partition in range(world.cluster.partition_count(topic)):
        start = world.cluster.partition(topic, partition).start
        found, _ = world.cluster.read_committed(topic, partition, start, 1_000_000)
        for r in found:
            yield LogRecord(topic, partition, r.offset, r.key, r.value, r.headers)


def unfinished(world: World, changes: int) -> list[str]:
    """Why it has not converged yet; empty when it has."""
    results = sum(
        1 for r in records(world, world.topics.results) if not (r.key or b"").endswith(b'"correction"]')
    )
    found = []
    if results < changes:
        found.append(f"{changes - results} changes have no result")
    for partition in range(world.cluster.partition_count(world.topics.journal)):
        fold = fold_of(world, partition)
        left = [*map(str, fold.batches), *map(str, fold.waits), *map(str, fold.late)]
        if left:
            found.append(f"journal partition {partition} still holds {', '.join(left)}")
    return found


def fold_of(world: World, partition: int) -> Fold:
    fold = Fold()
    log = world.cluster.partition(world.topics.journal, partition)
    for record in world.cluster.read_committed(world.topics.journal, partition, log.start, 1_000_000)[0]:
        fold.apply(record.offset, record.key, record.value)
    return fold


def judge_history(seed: int, world: World, changes: int, happened: Counter[str]) -> Outcome:
    outcome = Outcome(seed, changes=changes, faults=happened, steps=world.steps, trace=world.trace)
    settings = world.settings
    limits = Limits(
        item_bytes_max=settings.batch.bytes_max,
        task_timeout_ms=round(settings.task.timeout * 1000),
        watch_ms=round(settings.task.watch_after_timeout * 1000),
    )
    verdict = judge(
        records(world, world.topics.changes),
        records(world, world.topics.results),
        tasks(world),
        lms(world),
        limits,
    )
    outcome.results = verdict.results
    for kind, count in verdict.counts.items():
        if count:
            outcome.counts[kind.value] += count
    outcome.lines += [f"{v.kind}: {v.line}" for v in verdict.first(20)]
    for line in unfinished(world, changes):
        outcome.counts["unconverged"] += 1
        outcome.lines.append(f"not converged: {line}")
    for line in world.deaths:
        outcome.counts["deaths"] += 1
        outcome.lines.append(f"died: {line}")
    for body in world.posted:
        outcome.counts["undurable posts"] += 1
        outcome.lines.append(f"POSTed before it was durable (R3): {body[:80]!r}")
    return outcome


def tasks(world: World) -> Iterator[Task]:
    simulator = world.network.simulator
    now = world.api_now()
    for task in simulator.tasks.values():
        row = task_row(task, now)
        yield Task(
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
        )


def lms(world: World) -> Iterator[HeldCourse]:
    for row in course_rows(world.network.simulator):
        yield HeldCourse(
            row["integration_id"], row["origin_id"], content_digest(plain(row["course"])), row["task_id"]
        )


def plain(course: Any) -> dict[str, Any]:
    return msgspec.to_builtins(course)
