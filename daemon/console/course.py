"""The life of a course: what is under way, its results as a time line, and what the learning system holds.

Open changes are in the model. Results and known states are found by the indexes and read from Kafka, because the console keeps
no records.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

import msgspec

from daemon.codec.course_record import KnownCourseRecord
from daemon.codec.result import SyncResult
from daemon.console.model import Model
from daemon.console.packed import PackedItem
from daemon.console.records import Location
from daemon.console.results import ResultEvent, decode_result
from daemon.console.work import Batch, Watched
from daemon.core.course import course_key
from daemon.core.model import Error, Status
from daemon.log.topic_access import TopicRecord

Read = Callable[[str, list[tuple[int, int]]], Sequence[TopicRecord]]
"""Records of a topic by partition and offset; see `daemon.log.topic_following.RecordReader`."""

RESULTS_SHOWN = 20
FOUND_MAX = 50
"""Courses that a search lists."""

_decode_known = msgspec.json.Decoder(KnownCourseRecord).decode


class Mark(StrEnum):
    """How a moment in the life of a change is drawn."""

    PLAIN = "plain"
    GOOD = "good"
    BAD = "bad"
    OPEN = "open"


class Moment(NamedTuple):
    at: int | None
    """ms; None: since the moment before."""
    what: str
    detail: str | None = None
    mark: Mark = Mark.PLAIN


class ChangeLife(NamedTuple):
    """One change of the course: how far it is, or how it ended."""

    partition: int
    offset: int
    change_id: str | None
    change_type: str | None
    status: str
    mark: Mark
    batch_id: str | None
    task_id: str | None
    attempts: int | None
    error: Error | None
    moments: list[Moment]


class CourseLife(NamedTuple):
    integration_id: str
    origin_id: str
    changes: list[ChangeLife]
    """The newest first."""
    known: KnownCourseRecord | None
    """What the learning system holds."""
    is_erased: bool
    """The last record of the course erased it."""


class Found(NamedTuple):
    """A course that a search has found, and by what."""

    integration_id: str
    origin_id: str
    what: str


def course_life(
    model: Model, read: Read, integration_id: str, origin_id: str, opened: list[ChangeLife]
) -> CourseLife:
    """`opened` is what `open_changes` has found. Blocks while records are read, so it is for another thread than the model's:
    of the model it uses only the indexes.
    """
    key = (integration_id, origin_id)
    locations = model.results.index.find("course", key, RESULTS_SHOWN)
    known, is_erased = last_known(model, read, integration_id, origin_id)
    ended = results_at(model.topics.results, read, locations)
    lives = [
        *opened,
        *(_of_result(each) for each in ended if (each.data.integration_id, each.data.origin_id) == key),
    ]
    lives.sort(key=lambda each: (each.moments[0].at or 0, each.offset), reverse=True)
    return CourseLife(integration_id, origin_id, lives, known, is_erased)


def last_known(
    model: Model, read: Read, integration_id: str, origin_id: str
) -> tuple[KnownCourseRecord | None, bool]:
    key = course_key(integration_id, origin_id)
    found = model.courses.find("course", key, 3)
    for record in read(model.topics.courses, [(each.partition, each.offset) for each in found]):
        if record.key == key:
            if record.value is None:
                return None, True
            try:
                return _decode_known(record.value), False
            except (ValueError, RecursionError):
                return None, False
    return None, False


def results_at(topic: str, read: Read, locations: list[Location]) -> list[ResultEvent]:
    found = []
    for record in read(topic, [(each.partition, each.offset) for each in locations]):
        try:
            found.append(decode_result(record.value or b""))
        except (ValueError, RecursionError):
            continue
    return found


def open_changes(model: Model, integration_id: str, origin_id: str) -> list[ChangeLife]:
    """Those without a result, and those whose result may still be corrected."""
    work = model.journals.work.get(integration_id)
    if work is None:
        return []
    found = [
        _of_batch(batch, item)
        for batch in work.batches.values()
        if origin_id.encode() in batch.packed
        for item in batch.items
        if item.origin_id == origin_id
    ]
    found += [
        _of_watched(watched, item)
        for watched in work.watched.values()
        for item in watched.items
        if item.origin_id == origin_id
    ]
    for waiting in model.journals.waits_of(integration_id, origin_id):
        change = waiting.change
        moments = [
            Moment(change.consumed_at, "consumed", f"partition {waiting.partition}, offset {change.offset}")
        ]
        if change.is_retry:
            said = (
                None if change.error is None else f"{change.error.code or 'no code'}: {change.error.message}"
            )
            moments.append(Moment(None, "an attempt failed", said, Mark.BAD))
        if change.not_before is not None:
            moments.append(Moment(change.not_before, "may be sent again", None, Mark.OPEN))
        else:
            moments.append(Moment(None, "waits for its turn", None, Mark.OPEN))
        found.append(
            ChangeLife(
                waiting.partition,
                change.offset,
                change.change_id,
                None,
                "waiting",
                Mark.OPEN,
                change.batch_id,
                change.task_id,
                change.failures,
                change.error,
                moments,
            )
        )
    return found


def search(model: Model, integration_id: str | None, wanted: str) -> list[Found]:
    """Courses by their origin_id, and by the id of a change, a batch or a task, among open changes."""
    found: dict[tuple[str, str], str] = {}

    def note(of: str, origin_id: str, what: str) -> None:
        if integration_id in (None, of) and len(found) < FOUND_MAX:
            found.setdefault((of, origin_id), what)

    pattern = wanted.encode(errors="replace")
    for name, work in model.journals.work.items():
        if integration_id not in (None, name):
            continue
        if any(wanted in of for of in work.waits.values()):
            note(name, wanted, "waiting")
        for batch in work.batches.values():
            ids = (batch.batch_id, None if batch.task is None else batch.task.task_id)
            if wanted in ids or pattern in batch.packed:
                for item in batch.items:
                    if wanted in (*ids, item.origin_id, item.change_id):
                        note(name, item.origin_id, str(batch.stage))
        for watched in work.watched.values():
            if wanted in (watched.batch_id, watched.task_id) or pattern in watched.packed:
                for item in watched.items:
                    if wanted in (watched.batch_id, watched.task_id, item.origin_id, item.change_id):
                        note(name, item.origin_id, "timed out")
    if not found:  # it looks at every waiting change
        for waiting in model.journals.waits_with(wanted, FOUND_MAX):
            note(waiting.integration_id, waiting.origin_id, "waiting")
    return [Found(of, origin_id, what) for (of, origin_id), what in found.items()]


def search_results(model: Model, read: Read, integration_id: str | None, wanted: str) -> list[Found]:
    """The same among the last results. Blocks, as `course_life`."""
    locations: dict[Location, None] = {}
    for column in ("origin", "change", "batch", "task"):
        locations |= dict.fromkeys(model.results.index.find(column, wanted, FOUND_MAX))
    found: dict[tuple[str, str], str] = {}
    for event in results_at(model.topics.results, read, list(locations)[:FOUND_MAX]):
        data = event.data
        if (
            data.integration_id is None
            or data.origin_id is None
            or integration_id not in (None, data.integration_id)
        ):
            continue
        if wanted in (data.origin_id, data.change_id, data.batch_id, data.task_id):
            found.setdefault((data.integration_id, data.origin_id), data.status.value)
    return [Found(of, origin_id, what) for (of, origin_id), what in found.items()]


def _of_batch(batch: Batch, item: PackedItem) -> ChangeLife:
    moments = [
        Moment(item.consumed_at, "consumed", f"partition {batch.partition}, offset {item.offset}"),
        Moment(
            batch.sealed_at, "sealed", f"with {batch.changes - 1} others" if batch.changes > 1 else "alone"
        ),
    ]
    error = None
    if batch.task is not None:
        moments.append(Moment(batch.task.accepted_at, "accepted by the API", f"task {batch.task.task_id}"))
        moments.append(Moment(None, "the task is open", None, Mark.OPEN))
    elif batch.refusal is not None:
        error = batch.refusal.error
        said = f"{error.code or 'no code'}: {error.message}"
        moments.append(Moment(batch.refusal.refused_at, "refused, or not answered", said, Mark.BAD))
        moments.append(Moment(batch.refusal.not_before, "is sent again", None, Mark.OPEN))
    else:
        moments.append(Moment(None, "is being sent", None, Mark.OPEN))
    return ChangeLife(
        batch.partition,
        item.offset,
        item.change_id,
        None,
        str(batch.stage),
        Mark.OPEN,
        batch.batch_id,
        None if batch.task is None else batch.task.task_id,
        item.failures + 1,
        error,
        moments,
    )


def _of_watched(watched: Watched, item: PackedItem) -> ChangeLife:
    moments = [
        Moment(item.consumed_at, "consumed", f"partition {watched.partition}, offset {item.offset}"),
        Moment(watched.accepted_at, "accepted by the API", f"task {watched.task_id}"),
        Moment(
            None,
            "timed out; the task is still watched, and its late end would be a correction",
            None,
            Mark.OPEN,
        ),
    ]
    return ChangeLife(
        watched.partition,
        item.offset,
        item.change_id,
        None,
        "watched",
        Mark.OPEN,
        watched.batch_id,
        watched.task_id,
        item.failures + 1,
        None,
        moments,
    )


_GOOD = frozenset({Status.SUCCEEDED, Status.UNCHANGED})
_BAD = frozenset({Status.FAILED, Status.TIMED_OUT, Status.REJECTED})


def _of_result(event: ResultEvent) -> ChangeLife:
    data = event.data
    mark = Mark.GOOD if data.status in _GOOD else Mark.BAD if data.status in _BAD else Mark.PLAIN
    error = None if data.error is None else Error(data.error.code, data.error.message, data.error.title)
    status = f"{data.status.value}, corrected" if event.is_correction else data.status.value
    return ChangeLife(
        data.change.partition,
        data.change.offset,
        data.change_id,
        None if data.change_type is msgspec.UNSET else str(data.change_type),
        status,
        mark,
        data.batch_id,
        data.task_id,
        data.attempts,
        error,
        _moments(data, status, mark),
    )


def _moments(data: SyncResult, status: str, mark: Mark) -> list[Moment]:
    moments = [
        Moment(
            _ms(data.consumed_at),
            "consumed",
            f"partition {data.change.partition}, offset {data.change.offset}",
        )
    ]
    if data.submitted_at is not None:
        moments.append(
            Moment(_ms(data.submitted_at), "accepted by the API", data.task_id and f"task {data.task_id}")
        )
    if data.completed_at is not None:
        moments.append(Moment(_ms(data.completed_at), "completed, by the API's clock"))
    said = None
    if data.error is not None:
        said = f"{data.error.code or 'no code'}: {data.error.message}"
    elif data.superseded_by is not None:
        newer = data.superseded_by
        said = f"by the change at partition {newer.partition}, offset {newer.offset}"
    moments.append(Moment(_ms(data.resolved_at), status, said, mark))
    return moments


def _ms(time: str) -> int | None:
    try:
        return round(datetime.fromisoformat(time).timestamp() * 1000)
    except ValueError:
        return None
