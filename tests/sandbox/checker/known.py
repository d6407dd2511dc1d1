"""Is what the courses topic says of each course true, and is `UNCHANGED` said only where it is?

The digest in a record of the topic is opaque. A record names the change that it stands for, whose content the checker knows by
itself: so a record is compared with the LMS by that change, and digests are compared only with each other.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tests.sandbox.checker.evidence import AcceptableChange, Course, Evidence
from tests.sandbox.checker.history import DEACTIVATED, CourseKey, Digest, LogRecord, Source, TaskStatus
from tests.sandbox.checker.verdict import Kind, Verdict
from tests.sandbox.checker.wire import UNCONFIRMED, ResultEvent

NEVER_SENT = frozenset(("SUPERSEDED", "REJECTED", "UNCHANGED"))
STATES = frozenset(("ACTIVE", "INACTIVE", "UNKNOWN"))


class _Stated(NamedTuple):
    """A record of the courses topic."""

    place: Source
    state: str
    course_id: str | None
    content: str | None
    change: Source


def judge_known(evidence: Evidence, records: Iterable[LogRecord] | None, verdict: Verdict) -> None:
    """`records`: of the courses topic, in offset order within each partition; None: it is not judged."""
    for course in evidence.courses.values():
        _judge_unchanged(evidence, course, verdict)
    if records is None:
        return
    stated: dict[CourseKey, _Stated] = {}
    meant: defaultdict[tuple[CourseKey, str], set[Digest]] = defaultdict(set)
    for record in records:
        place = Source(record.topic, record.partition, record.offset)
        try:
            key, found = _read(place, record)
        except (ValueError, TypeError, KeyError) as error:
            verdict.add(Kind.MALFORMED, f"{place} is not a record of a course: {error!r}")
            continue
        before = stated.pop(key, None)
        if before is not None and before.place.partition != place.partition:
            verdict.add(
                Kind.KNOWN, f"{place}: {' '.join(key)} has a record in partition {before.place.partition} too"
            )
        if found is None:
            continue
        stated[key] = found
        change = evidence.changes.get(found.change)
        if change is None or change.course != key:
            verdict.add(
                Kind.KNOWN, f"{place} names the change {found.change}, which is none of {' '.join(key)}"
            )
        elif found.content is not None:
            meant[key, found.content].add(change.digest)
    for (key, content), digests in meant.items():
        if len(digests) > 1:
            verdict.add(
                Kind.KNOWN, f"{' '.join(key)}: {len(digests)} different contents have the digest {content}"
            )
    for key, course in evidence.courses.items():
        if not course.spread:
            _judge_stated(evidence, course, stated.get(key), verdict)


def _read(place: Source, record: LogRecord) -> tuple[CourseKey, _Stated | None]:
    integration_id, origin_id = json.loads(record.key or b"")
    key = (integration_id, origin_id)
    if record.value is None:
        return key, None
    value = json.loads(record.value)
    if (value["integration_id"], value["origin_id"]) != key:
        raise ValueError(f"its key is {key}")
    if value["state"] not in STATES:
        raise ValueError(f"its state is {value['state']}")
    content = value.get("content")
    if (content is not None) and value["state"] != "ACTIVE":
        raise ValueError(f"it has a content and the state {value['state']}")
    change = value["change"]
    named = Source(change["topic"], change["partition"], change["offset"])
    return key, _Stated(place, value["state"], value["course_id"], content, named)


def _judge_unchanged(evidence: Evidence, course: Course, verdict: Verdict) -> None:
    """Nothing was sent, so the change that was sent last must have been confirmed with this content."""
    for number, change in enumerate(course.changes):
        result = evidence.results.get(change.source)
        if result is None or result.status != "UNCHANGED":
            continue
        named = f"{change.source} ({' '.join(course.key)}) is UNCHANGED"
        if result.task_id is not None or result.attempts:
            verdict.add(Kind.KNOWN, f"{named}, but it was submitted")
            continue
        last = _last_sent(evidence, course.changes[:number])
        if last is None:
            verdict.add(Kind.KNOWN, f"{named}, but no change before it was sent")
        elif not _is_confirmed(evidence, last):
            verdict.add(Kind.KNOWN, f"{named}, but {last.source}, which was sent last, was not confirmed")
        elif last.digest != change.digest:
            verdict.add(Kind.KNOWN, f"{named}, but {last.source}, which was sent last, has another content")


def _last_sent(evidence: Evidence, changes: Sequence[AcceptableChange]) -> AcceptableChange | None:
    """The newest of these changes that may have been applied."""
    for change in reversed(changes):
        result = evidence.results.get(change.source)
        if (
            result is not None
            and result.status not in NEVER_SENT
            and not _processed_nothing(evidence, result)
        ):
            return change
    return None


def _processed_nothing(evidence: Evidence, result: ResultEvent) -> bool:
    """The last submission of the change was refused, or its task failed as a whole. An earlier attempt may have been applied
    nevertheless, which this does not see.
    """
    if result.status != "FAILED" or result.error_code == UNCONFIRMED:
        return False
    task = evidence.tasks.get(result.task_id or "")
    return result.task_id is None or (task is not None and task.status is TaskStatus.FAILED)


def _is_confirmed(evidence: Evidence, change: AcceptableChange) -> bool:
    ends = (evidence.results.get(change.source), evidence.corrections.get(change.source))
    return any(end is not None and end.status == "SUCCEEDED" for end in ends)


def _judge_stated(evidence: Evidence, course: Course, stated: _Stated | None, verdict: Verdict) -> None:
    named = " ".join(course.key)
    last = _last_sent(evidence, course.changes)
    if last is not None:
        if stated is None:
            verdict.add(
                Kind.KNOWN,
                f"{named}: the change {last.source} was sent, and the topic says nothing of the course",
            )
            return
        if _is_confirmed(evidence, last):
            failed_later = any(
                change.source > last.source and _was_sent(evidence, change) for change in course.changes
            )
            if stated.state == "UNKNOWN" and failed_later:
                return  # an attempt of that later change may have been applied
            state = "INACTIVE" if last.digest == DEACTIVATED else "ACTIVE"
            if stated.state != state or stated.change != last.source:
                verdict.add(
                    Kind.KNOWN,
                    f"{stated.place}: {named} is {stated.state} by {stated.change}, but {last.source} was confirmed last",
                )
                return
        elif stated.state != "UNKNOWN":
            verdict.add(
                Kind.KNOWN,
                f"{stated.place}: {named} is {stated.state}, but nobody knows what became of {last.source}",
            )
            return
    if stated is None or stated.state == "UNKNOWN":
        return
    held, change = evidence.held.get(course.key), evidence.changes.get(stated.change)
    if stated.state == "INACTIVE":
        if held is None or held.is_active:
            verdict.add(
                Kind.KNOWN, f"{stated.place}: {named} is INACTIVE by {stated.change}, but not in the LMS"
            )
    elif held is None or change is None or held.digest != change.digest:
        holds = "does not have it" if held is None else f"holds the content of the task {held.task_id}"
        verdict.add(Kind.KNOWN, f"{stated.place}: {named} is ACTIVE by {stated.change}, but the LMS {holds}")
    if held is not None and stated.course_id is not None and held.course_id not in (None, stated.course_id):
        verdict.add(
            Kind.KNOWN, f"{stated.place}: {named} has the id {stated.course_id}, but the LMS {held.course_id}"
        )


def _was_sent(evidence: Evidence, change: AcceptableChange) -> bool:
    result = evidence.results.get(change.source)
    return result is not None and result.status not in NEVER_SENT
