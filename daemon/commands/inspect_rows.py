"""The rows of ``coursesyncd inspect``, computed from the fold of each partition. Pure.

The terms are those of docs/architecture.md. Times have the format of the results (ISO 8601, UTC).
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

import msgspec

from daemon.codec.course_record import KnownCourseRecord
from daemon.codec.times import iso_ms
from daemon.commands.repair.journal_repair import InspectedPartition
from daemon.core.items import Items
from daemon.core.journal import Wait
from daemon.core.journal_fold import Fold
from daemon.core.model import Error, Item
from daemon.log.topic_access import TopicRecord


class ChangeState(StrEnum):
    """The state of a change that has no result yet, or a result that may still be corrected."""

    WAITING = "waiting"  # held back in the shard
    SEALED = "sealed"  # in a batch without a known task: queued, in flight, or refused for now
    PENDING = "pending"  # in a task
    WATCHED = "watched"  # in a task that has timed out: the result is published, the course stays busy


class PartitionRow(msgspec.Struct, frozen=True):
    partition: int
    next_offset: int | None
    """None if the partition has never been read."""
    behind: int | None
    """Committed offsets not yet read, including transaction markers."""
    waiting: int
    """Changes."""
    sealed: int
    """Submissions; so are `pending` and `watched`."""
    pending: int
    watched: int
    oldest_consumed_at: str | None
    """The earliest time among changes without a result."""


class SubmissionRow(msgspec.Struct, frozen=True):
    partition: int
    state: ChangeState
    since: str
    """When the task was accepted; without a task, when the batch was sealed."""
    changes: int
    integration_id: str
    batch_id: str
    task_id: str | None
    not_before: str | None
    """A submission that was refused or not answered is not sent again before this time. None if there was no such answer,
    or while the API refuses our key for every integration."""
    last_error: Error | None
    """Why it was refused, or that it was not answered."""


class WaitingRow(msgspec.Struct, frozen=True):
    """The waiting changes of one integration in the partitions that were read."""

    integration_id: str
    changes: int
    retries: int
    """How many of them were sent before and failed with a transient error."""
    oldest_consumed_at: str
    not_before: str | None
    """None of these retries is sent before this time."""
    last_error: Error | None
    """The error of the oldest of these retries."""


class CourseRow(msgspec.Struct, frozen=True):
    """One change of a course."""

    partition: int
    offset: int
    change_id: str
    consumed_at: str
    state: ChangeState
    since: str | None
    """As in `SubmissionRow`; None while the change waits."""
    batch_id: str | None
    """The current or the last batch of the change."""
    task_id: str | None
    not_before: str | None
    """A waiting retry, or a refused submission, is not sent before this time."""
    last_error: Error | None


def partition_row(inspected: InspectedPartition) -> PartitionRow:
    fold, facts = inspected.fold, inspected.facts
    accepted = sum(batch.task is not None for batch in fold.batches.values())
    next_offset = None if fold.position is None else fold.position.next_offset
    consumed = [wait.item.consumed_at for wait in fold.waits.values()]
    consumed += [item.consumed_at for batch in fold.batches.values() for item in batch.items]
    return PartitionRow(
        partition=inspected.partition,
        next_offset=next_offset,
        behind=None if next_offset is None else max(0, facts.stable - next_offset),
        waiting=len(fold.waits),
        sealed=len(fold.batches) - accepted,
        pending=accepted,
        watched=len(fold.late),
        oldest_consumed_at=iso_ms(min(consumed)) if consumed else None,
    )


def submission_rows(inspected: InspectedPartition) -> Iterator[SubmissionRow]:
    yield from (submission for submission, _ in _submissions(inspected))


class WaitingByIntegration:
    """Adds up partitions one after the other, so that only one journal is in memory at a time."""

    def __init__(self) -> None:
        self._counts: dict[str, tuple[int, int]] = {}
        self._oldest: dict[str, int] = {}
        self._failed: dict[str, tuple[int, Error]] = {}
        self._not_before: dict[str, int] = {}

    def add(self, fold: Fold) -> None:
        for (integration, _), wait in fold.waits.items():
            changes, retries = self._counts.get(integration, (0, 0))
            self._counts[integration] = changes + 1, retries + (wait.last is not None)
            consumed = wait.item.consumed_at
            self._oldest[integration] = min(self._oldest.get(integration, consumed), consumed)
            if wait.not_before is not None:
                earliest = self._not_before.get(integration, wait.not_before)
                self._not_before[integration] = min(earliest, wait.not_before)
            error = _error(wait)
            if error is not None and consumed <= self._failed.get(integration, (consumed, error))[0]:
                self._failed[integration] = consumed, error

    def rows(self) -> list[WaitingRow]:
        """The longest wait first."""
        return [
            WaitingRow(
                integration_id=integration,
                changes=self._counts[integration][0],
                retries=self._counts[integration][1],
                oldest_consumed_at=iso_ms(consumed),
                not_before=_time(self._not_before.get(integration)),
                last_error=self._failed[integration][1] if integration in self._failed else None,
            )
            for integration, consumed in sorted(self._oldest.items(), key=lambda entry: entry[1])
        ]


class KnownRow(msgspec.Struct, frozen=True):
    """A record of the course in the courses topic."""

    partition: int
    offset: int
    known: str
    """The state; `erased` or `unreadable` for a record that states none."""
    course_id: str | None = None
    content: str | None = None
    change: str | None = None
    """``partition/offset`` of the change that decided it."""
    change_id: str | None = None
    task_id: str | None = None
    confirmed_at: str | None = None
    recorded_at: str | None = None


def known_row(record: TopicRecord) -> KnownRow:
    if record.value is None:
        return KnownRow(record.partition, record.offset, "erased")
    try:
        known = msgspec.json.decode(record.value, type=KnownCourseRecord)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return KnownRow(record.partition, record.offset, "unreadable")
    return KnownRow(
        record.partition,
        record.offset,
        known.state,
        known.course_id,
        known.content or None,
        f"{known.change.partition}/{known.change.offset}",
        known.change_id,
        known.task_id,
        known.confirmed_at,
        known.recorded_at,
    )


def course_rows(inspected: InspectedPartition, integration_id: str, origin_id: str) -> Iterator[CourseRow]:
    """The oldest change first."""
    found = [
        _course_row(inspected.partition, item, submission)
        for submission, items in _submissions(inspected)
        if submission.integration_id == integration_id
        for item in items
        if item.origin_id == origin_id
    ]
    wait = inspected.fold.waits.get((integration_id, origin_id))
    if wait is not None:
        found.append(_waiting_row(inspected.partition, wait))
    yield from sorted(found, key=lambda row: row.offset)


def _submissions(inspected: InspectedPartition) -> Iterator[tuple[SubmissionRow, Items]]:
    fold = inspected.fold
    for batch_id, batch in fold.batches.items():
        task, refusal = batch.task, fold.refusals.get(batch_id)
        yield (
            SubmissionRow(
                partition=inspected.partition,
                state=ChangeState.SEALED if task is None else ChangeState.PENDING,
                since=iso_ms(batch.sealed.sealed_at if task is None else task.accepted_at),
                changes=len(batch.items),
                integration_id=batch.sealed.integration_id,
                batch_id=batch_id,
                task_id=None if task is None else task.task_id,
                not_before=None if refusal is None else _time(refusal.not_before),
                last_error=None if refusal is None else refusal.error,
            ),
            batch.items,
        )
    for (*_, task_id), late in fold.late.items():
        yield (
            SubmissionRow(
                partition=inspected.partition,
                state=ChangeState.WATCHED,
                since=iso_ms(late.record.accepted_at),
                changes=len(late.items),
                integration_id=late.record.integration_id,
                batch_id=late.record.batch_id,
                task_id=task_id,
                not_before=None,
                last_error=None,
            ),
            late.items,
        )


def _course_row(partition: int, item: Item, submission: SubmissionRow) -> CourseRow:
    return CourseRow(
        partition=partition,
        offset=item.offset,
        change_id=item.change_id,
        consumed_at=iso_ms(item.consumed_at),
        state=submission.state,
        since=submission.since,
        batch_id=submission.batch_id,
        task_id=submission.task_id,
        not_before=submission.not_before,
        last_error=submission.last_error,
    )


def _waiting_row(partition: int, wait: Wait) -> CourseRow:
    last = wait.last
    return CourseRow(
        partition=partition,
        offset=wait.item.offset,
        change_id=wait.item.change_id,
        consumed_at=iso_ms(wait.item.consumed_at),
        state=ChangeState.WAITING,
        since=None,
        batch_id=None if last is None else last.batch_id,
        task_id=None if last is None else last.task_id,
        not_before=_time(wait.not_before),
        last_error=_error(wait),
    )


def _error(wait: Wait) -> Error | None:
    return None if wait.last is None else wait.last.error


def _time(at_ms: int | None) -> str | None:
    return None if at_ms is None else iso_ms(at_ms)
