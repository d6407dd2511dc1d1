"""Organises the raw records: the place of each change, its result, and the submissions of its course.

This module also judges what it can detect by itself: lost, duplicate and malformed results.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.sandbox.checker.history import (
    DEACTIVATED,
    ApiTask,
    CourseKey,
    DeactivationCall,
    Digest,
    HeldCourse,
    LogRecord,
    SentItem,
    Source,
)
from tests.sandbox.checker.verdict import Kind, Verdict
from tests.sandbox.checker.wire import (
    CORRECTED,
    DEACTIVATION,
    RESOLVED,
    UPSERTED,
    NotAcceptableError,
    NotAResultError,
    ResultEvent,
    read_change,
    read_result,
)

STATUSES = frozenset(("SUCCEEDED", "FAILED", "TIMED_OUT", "SUPERSEDED", "REJECTED", "UNCHANGED"))


class AcceptableChange(NamedTuple):
    """An acceptable input record."""

    source: Source
    change_id: str
    course: CourseKey
    digest: Digest
    course_id: str | None = None
    """The id that a deactivation gives the course."""
    repeats: int | None = None
    """Offset of the earlier change, in the same partition, that its publisher has sent again (R20)."""


class Submission(NamedTuple):
    """An item of a task, which is one course, or a call that deactivates a course."""

    task: ApiTask
    item: SentItem


@dataclass(slots=True)
class Course:
    """Everything that happened to one course."""

    key: CourseKey
    changes: list[AcceptableChange] = field(default_factory=list)
    """By partition and offset."""
    submissions: list[Submission] = field(default_factory=list)
    """By the API's time of creation."""

    @property
    def spread(self) -> bool:
        """Whether its changes are in more than one partition."""
        return len({change.source.partition for change in self.changes}) > 1


@dataclass(slots=True)
class Evidence:
    changes: dict[Source, AcceptableChange] = field(default_factory=dict)
    refusals: dict[Source, str] = field(default_factory=dict)
    """Input records that are not acceptable changes, and why."""
    results: dict[Source, ResultEvent] = field(default_factory=dict)
    """The first result of each input record."""
    corrections: dict[Source, ResultEvent] = field(default_factory=dict)
    tasks: dict[str, ApiTask] = field(default_factory=dict)
    courses: dict[CourseKey, Course] = field(default_factory=dict)
    """The courses of all acceptable changes and tasks."""
    held: dict[CourseKey, HeldCourse] = field(default_factory=dict)

    def was_rejected(self, source: Source) -> bool:
        result = self.results.get(source)
        return result is not None and result.status == "REJECTED"

    def course(self, key: CourseKey) -> Course:
        return self.courses.setdefault(key, Course(key))


def gather(
    inputs: Iterable[LogRecord],
    results: Iterable[LogRecord],
    tasks: Iterable[ApiTask],
    deactivations: Iterable[DeactivationCall],
    lms: Iterable[HeldCourse],
    item_bytes_max: int,
    verdict: Verdict,
) -> Evidence:
    """Organise the records. Each iterable is read once, and payloads are not stored."""
    evidence = Evidence()
    for record in inputs:
        verdict.changes += 1
        _take_input(evidence, record, item_bytes_max)
    for record in results:
        _take_result(evidence, record, verdict)
    for source in sorted((evidence.changes.keys() | evidence.refusals.keys()) - evidence.results.keys()):
        verdict.add(Kind.LOST, f"{source} has no result")
    for task in sorted(tasks, key=lambda task: task.created_at):
        evidence.tasks[task.task_id] = task
        for item in task.items:
            evidence.course((task.integration_id, item.origin_id)).submissions.append(Submission(task, item))
    for call in deactivations:
        _take_deactivation(evidence, call, verdict)
    for course in evidence.courses.values():
        course.submissions.sort(key=lambda submission: submission.task.created_at)
        course.changes.sort(key=lambda change: change.source)
    for held in lms:
        evidence.held[held.integration_id, held.origin_id] = held
        verdict.inactive += not held.is_active
    for source, change in evidence.changes.items():
        if change.digest == DEACTIVATED and (result := evidence.results.get(source)) is not None:
            verdict.deactivations[result.status] += 1
    return evidence


def _take_deactivation(evidence: Evidence, call: DeactivationCall, verdict: Verdict) -> None:
    if call.origin_id is not None:
        task = call.as_task()
        course = evidence.course((call.integration_id, call.origin_id))
        course.submissions.append(Submission(task, task.items[0]))
    elif not any(
        change.course_id == call.course_id and change.course[0] == call.integration_id
        for change in evidence.changes.values()
        if change.digest == DEACTIVATED
    ):
        verdict.add(
            Kind.UNASKED,
            f"the course {call.course_id} of {call.integration_id}, which no change names, was to be deactivated",
        )


def _take_input(evidence: Evidence, record: LogRecord, item_bytes_max: int) -> None:
    source = Source(record.topic, record.partition, record.offset)
    try:
        content = read_change(record, item_bytes_max)
    except NotAcceptableError as error:
        evidence.refusals[source] = str(error)
        return
    key = (content.integration_id, content.origin_id)
    change = AcceptableChange(
        source, content.change_id, key, content.digest, content.course_id, content.repeats
    )
    evidence.changes[source] = change
    evidence.course(key).changes.append(change)


def _take_result(evidence: Evidence, record: LogRecord, verdict: Verdict) -> None:
    place = f"{record.topic}/{record.partition}/{record.offset}"
    try:
        event = read_result(record)
    except NotAResultError as error:
        verdict.add(Kind.MALFORMED, f"{place} is not a result: {error}")
        return
    if event.event_type == RESOLVED:
        if event.source not in evidence.changes and event.source not in evidence.refusals:
            verdict.add(Kind.DUPLICATE, f"{event.source} has a result ({place}), but is not in the input")
        elif event.source in evidence.results:
            first = evidence.results[event.source].status
            verdict.add(
                Kind.DUPLICATE, f"{event.source} has another result ({place}): {first}, {event.status}"
            )
        else:
            evidence.results[event.source] = event
            verdict.results[event.status] += 1
    elif event.event_type == CORRECTED:
        if event.source in evidence.corrections:
            verdict.add(Kind.CORRECTION, f"{event.source} has another correction ({place})")
        else:
            evidence.corrections[event.source] = event
            verdict.corrected += 1
    else:
        verdict.add(Kind.MALFORMED, f"{place} is an event of the unknown type {event.event_type!r}")
        return
    for complaint in _malformed(evidence, event):
        verdict.add(Kind.MALFORMED, f"{event.source}: {complaint} ({place})")


def _malformed(evidence: Evidence, event: ResultEvent) -> Iterable[str]:
    """The fields in which the result contradicts its own place or its change."""
    corrected = event.event_type == CORRECTED
    event_id = f"{event.source}/correction" if corrected else str(event.source)
    if event.event_id != event_id:
        yield f"the id is {event.event_id!r}, not {event_id!r}"
    if event.status not in STATUSES:
        yield f"the status is {event.status!r}"
    key = [event.integration_id, event.origin_id, *(["correction"] if corrected else [])]
    if event.key != key:
        yield f"the key is {event.key!r}, not {key!r}"
    change = evidence.changes.get(event.source)
    if change is not None:
        said = (event.integration_id, event.origin_id, event.change_id)
        meant = (*change.course, change.change_id)
        if said != meant:
            yield f"it names {said}, but the change has {meant}"
        event_type = DEACTIVATION if change.digest == DEACTIVATED else UPSERTED
        if event.status != "REJECTED" and event.change_type != event_type:
            yield f"it names the type {event.change_type}, but the change has {event_type}"
