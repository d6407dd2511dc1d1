"""Is each result true for its change?

A success is judged by the API's own report: the task that it names exists, belongs to the integration, carried exactly this
content, reported it as succeeded, and is not an old task. The last condition covers the case A → B → A (API documentation:
"the same request body returns the existing task"): the body of the second A is answered with the task of the first A, which
ended long ago, while the LMS holds B. Such a task was created before a task that ended an *earlier* change of the course, or
it ended an earlier change itself.

A deactivation has no task. It succeeded if the API carried out a call for it, after everything that ended earlier changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from tests.sandbox.checker.evidence import AcceptableChange, Course, Evidence
from tests.sandbox.checker.history import DEACTIVATED, ApiTask, TaskStatus
from tests.sandbox.checker.verdict import Kind, Verdict
from tests.sandbox.checker.wire import BACKLOG_FULL, COURSE_UNKNOWN, GIVEN_UP, STALE_REPLAY, ResultEvent

API_TIMED_OUT = "PLATFORM.TASK_TIMED_OUT"


def judge_endings(
    evidence: Evidence, task_timeout_ms: int | None, verdict: Verdict, *, backlog_rejects: bool
) -> None:
    """`task_timeout_ms` is the age at which the daemon may give up a task. None: this is not judged. `backlog_rejects`: a full
    backlog may reject an acceptable change.
    """
    _judge_rejections(evidence, verdict, backlog_rejects=backlog_rejects)
    for course in evidence.courses.values():
        for _, changes in groupby(course.changes, key=lambda change: change.source.partition):
            _Line(evidence, course, list(changes), task_timeout_ms, verdict).judge()
    for source, correction in evidence.corrections.items():
        result = evidence.results.get(source)
        if result is None or result.status != "TIMED_OUT":
            ended = "has no result" if result is None else f"ended {result.status}"
            verdict.add(Kind.CORRECTION, f"{source} {ended}, but was corrected to {correction.status}")


def _judge_rejections(evidence: Evidence, verdict: Verdict, *, backlog_rejects: bool) -> None:
    for source, why in evidence.refusals.items():
        result = evidence.results.get(source)
        if result is not None and result.status != "REJECTED":
            verdict.add(
                Kind.REJECTION, f"{source} ended {result.status}, but is not an acceptable change: {why}"
            )
    for source in evidence.changes:
        result = evidence.results.get(source)
        if result is None or result.status != "REJECTED":
            continue
        if not (backlog_rejects and result.error_code == BACKLOG_FULL):
            verdict.add(Kind.REJECTION, f"{source} is acceptable, but was REJECTED with {result.error_code}")


class _Line:
    """The changes of one course in one partition, oldest first."""

    def __init__(
        self,
        evidence: Evidence,
        course: Course,
        changes: Sequence[AcceptableChange],
        task_timeout_ms: int | None,
        verdict: Verdict,
    ) -> None:
        self._evidence = evidence
        self._course = course
        self._changes = changes
        self._task_timeout_ms = task_timeout_ms
        self._verdict = verdict
        self._ended_by: dict[str, AcceptableChange] = {}
        """By task, the first change that it ended."""
        self._not_superseded = {c.digest for c in course.changes if not _never_sent(evidence, c)}
        """Contents that may have been submitted according to the results."""
        self._latest: ApiTask | None = None
        """The newest task that ended a change so far."""

    def judge(self) -> None:
        for change in self._changes:
            result = self._evidence.results.get(change.source)
            if result is None:
                continue
            for kind, complaint in self._untrue(change, result):
                self._verdict.add(kind, f"{change.source} {_named(change)}: {result.status}, but {complaint}")
            correction = self._evidence.corrections.get(change.source)
            if correction is not None:
                for complaint in self._untrue_correction(change, correction):
                    line = (
                        f"{change.source} {_named(change)}: corrected to {correction.status}, but {complaint}"
                    )
                    self._verdict.add(Kind.CORRECTION, line)
            self._remember(change, result)

    def _untrue(self, change: AcceptableChange, result: ResultEvent) -> Iterator[tuple[Kind, str]]:
        if change.digest == DEACTIVATED and result.status in ("FAILED", "TIMED_OUT"):
            if result.status == "TIMED_OUT":
                yield Kind.FALSE_FAILURE, "a deactivation has no task"
            elif result.error_code == COURSE_UNKNOWN and change.course_id is not None:
                yield Kind.FALSE_FAILURE, f"it names the course {change.course_id}"
        elif result.status == "SUCCEEDED":
            doubt = self._doubt(change, result)
            if doubt is not None:
                yield Kind.FALSE_SUCCESS, doubt
        elif result.status == "FAILED":
            if result.task_id is not None:
                task = self._evidence.tasks.get(result.task_id)
                missing = self._not_carried(change, result, task)
                if missing is not None:
                    yield Kind.FALSE_FAILURE, missing
            if result.error_code != STALE_REPLAY and self._doubt(change, result) is None:
                yield (
                    Kind.FALSE_FAILURE,
                    f"the task {result.task_id} carried it and reported it as succeeded",
                )
        elif result.status == "TIMED_OUT":
            complaint = self._untrue_timeout(change, result)
            if complaint is not None:
                yield Kind.FALSE_FAILURE, complaint
        elif result.status == "SUPERSEDED":
            complaint = self._untrue_supersession(change, result)
            if complaint is not None:
                yield Kind.SUPERSESSION, complaint

    def _doubt(self, change: AcceptableChange, result: ResultEvent) -> str | None:
        """Why this is not a success according to the API. None if it is a success."""
        if change.digest == DEACTIVATED:
            if result.task_id is not None:
                return f"it names the task {result.task_id}"
            after = (
                ""
                if self._latest is None
                else f" after {self._latest.task_id}, which ended an earlier change"
            )
            return None if self._carried_out() else f"the API has carried out no deactivation{after}"
        task = self._evidence.tasks.get(result.task_id or "")
        missing = self._not_carried(change, result, task)
        if missing is not None or task is None:
            return missing
        reports = [item.succeeded for item in task.items if item.origin_id == change.course[1]]
        if reports != [True]:
            return f"the task {task.task_id} did not report it as succeeded"
        earlier = self._ended_by.get(task.task_id)
        if earlier is not None:
            return f"the task {task.task_id} is an old one: it already ended {earlier.source}"
        if self._latest is not None and task.created_at < self._latest.created_at:
            newer = self._ended_by[self._latest.task_id]
            return (
                f"the task {task.task_id} is an old one: it was created before the task {self._latest.task_id}, "
                f"which ended the earlier change {newer.source}"
            )
        return None

    def _carried_out(self) -> ApiTask | None:
        """The earliest deactivation that the API has carried out since the last change ended, and that ended none."""
        since = -1 if self._latest is None else self._latest.created_at
        return next(
            (
                task
                for task, item in self._course.submissions
                if item.digest == DEACTIVATED
                and item.applied
                and task.created_at >= since
                and task.task_id not in self._ended_by
            ),
            None,
        )

    def _not_carried(self, change: AcceptableChange, result: ResultEvent, task: ApiTask | None) -> str | None:
        """Why the task that the result names does not belong to this change. None if it does."""
        if task is None:
            return "it names no task" if result.task_id is None else f"there is no task {result.task_id}"
        if task.integration_id != change.course[0]:
            return f"the task {task.task_id} belongs to another integration, {task.integration_id}"
        answered = [(item.origin_id, item.digest) for item in task.items] + list(task.strangers)
        digests = [digest for origin_id, digest in answered if origin_id == change.course[1]]
        if not digests:
            return f"the task {task.task_id} did not carry the course"
        if change.digest not in digests:
            return f"the task {task.task_id} carried other content of the course"
        return None

    def _untrue_timeout(self, change: AcceptableChange, result: ResultEvent) -> str | None:
        task = self._evidence.tasks.get(result.task_id or "")
        missing = self._not_carried(change, result, task)
        if missing is not None or task is None:
            return missing
        if task.status is TaskStatus.FAILED and task.error_code == API_TIMED_OUT:
            return None
        if result.error_code == GIVEN_UP:
            return None  # by an operator
        if self._task_timeout_ms is None or task.completed_at is None:
            return None
        age = task.completed_at - task.created_at
        if age >= self._task_timeout_ms:
            return None
        return f"the task {task.task_id} was {task.status} after {age / 1000:g} s, before its timeout"

    def _untrue_supersession(self, change: AcceptableChange, result: ResultEvent) -> str | None:
        newer = result.superseded_by
        if newer is None:
            return "it does not say by which change"
        if newer not in self._evidence.changes:
            return f"{newer}, which it names, is not an acceptable change"
        if self._evidence.changes[newer].course != change.course:
            return f"{newer}, which it names, is of another course"
        older = change.source.offset if change.repeats is None else change.repeats
        if newer.partition != change.source.partition or not older < newer.offset != change.source.offset:
            return f"{newer}, which it names, is not newer"
        if self._evidence.was_rejected(newer):
            return f"{newer}, which it names, was itself REJECTED"
        if result.task_id is not None or result.attempts:
            return f"it was submitted (task {result.task_id}, attempts {result.attempts})"
        if change.digest not in self._not_superseded:
            for submission in self._course.submissions:
                if submission.item.digest == change.digest:
                    return f"its content was submitted in the task {submission.task.task_id}"
        return None

    def _untrue_correction(self, change: AcceptableChange, correction: ResultEvent) -> Iterator[str]:
        result = self._evidence.results[change.source]
        if correction.task_id != result.task_id:
            yield f"it names the task {correction.task_id}, the result {result.task_id}"
            return
        doubt = self._doubt(change, correction)
        if correction.status == "SUCCEEDED" and doubt is not None:
            yield doubt
        elif correction.status == "FAILED" and doubt is None:
            yield f"the task {correction.task_id} reported it as succeeded"
        elif correction.status not in ("SUCCEEDED", "FAILED"):
            yield "a task cannot end with that status"

    def _remember(self, change: AcceptableChange, result: ResultEvent) -> None:
        task = self._evidence.tasks.get(result.task_id or "")
        if change.digest == DEACTIVATED and result.status == "SUCCEEDED":
            task = self._carried_out()
        if task is None:
            return
        self._ended_by.setdefault(task.task_id, change)
        if self._latest is None or task.created_at > self._latest.created_at:
            self._latest = task


def _never_sent(evidence: Evidence, change: AcceptableChange) -> bool:
    """Whether the change was never submitted according to its result."""
    result = evidence.results.get(change.source)
    return result is not None and result.status in ("SUPERSEDED", "REJECTED", "UNCHANGED")


def _named(change: AcceptableChange) -> str:
    integration_id, origin_id = change.course
    return f"({integration_id} {origin_id})"
