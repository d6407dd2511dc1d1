"""Did the changes of each course reach the LMS in order, one at a time, and does the LMS hold the newest one?

The change of a submission is known for the last submission of each change, because the result names its task. For an attempt
that had to be repeated, only the content identifies the change. So each submission is matched with the *earliest* change for
which it can have been made, not before the change that was matched last. If there is no such change, no interpretation of
the history has the changes in order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from math import inf

from tests.sandbox.checker.evidence import Course, Evidence, Submission
from tests.sandbox.checker.history import DEACTIVATED, Digest
from tests.sandbox.checker.verdict import Kind, Verdict
from tests.sandbox.checker.wire import STALE_REPLAY


def judge_courses(evidence: Evidence, pending_ms_max: int | None, verdict: Verdict) -> None:
    """`pending_ms_max` is the age up to which a timed-out task keeps its course busy (timeout and watch). None: submissions
    after a timeout are not judged."""
    for course in evidence.courses.values():
        unasked = _unasked(evidence, course)
        for submission in unasked:
            verdict.add(
                Kind.UNASKED,
                f"the task {submission.task.task_id} carried content of {' '.join(course.key)} that no change has, "
                "of those that were not rejected",
            )
        if course.spread:
            verdict.spread_courses += 1
        elif course.changes:
            if not unasked:
                _Order(evidence, course, pending_ms_max, verdict).judge()
            _judge_convergence(evidence, course, verdict)


def _unasked(evidence: Evidence, course: Course) -> list[Submission]:
    accepted = [change for change in course.changes if not evidence.was_rejected(change.source)]
    asked = {change.digest for change in accepted}
    ids = {change.course_id for change in accepted if change.digest == DEACTIVATED}
    if None in ids and (held := evidence.held.get(course.key)) is not None:
        ids.add(held.course_id)
    return [
        submission
        for submission in course.submissions
        if submission.item.digest not in asked
        or (submission.item.digest == DEACTIVATED and submission.item.course_id not in ids)
    ]


class _Order:
    """A course whose changes are all in one partition, and whose submissions all have the content of a change."""

    def __init__(
        self, evidence: Evidence, course: Course, pending_ms_max: int | None, verdict: Verdict
    ) -> None:
        self._course = course
        self._pending_ms_max = pending_ms_max
        self._verdict = verdict
        self._source = course.changes[0].source
        self._offsets_of: defaultdict[Digest, list[int]] = defaultdict(list)
        """By content, the offsets of the changes with this content."""
        self._named: defaultdict[str, list[int]] = defaultdict(list)
        """By task, the offsets of the changes whose result names it."""
        self._timed_out: set[str] = set()
        """Tasks with which a change ended TIMED_OUT."""
        for change in course.changes:
            if evidence.was_rejected(change.source):
                continue
            result = evidence.results.get(change.source)
            if result is not None and result.status == "UNCHANGED":
                continue  # no submission was made for it
            self._offsets_of[change.digest].append(change.source.offset)
            # An old task with which the API kept answering was not created for this change.
            stale = result is not None and result.error_code == STALE_REPLAY
            if result is not None and result.task_id is not None and not stale:
                self._named[result.task_id].append(change.source.offset)
                if result.status == "TIMED_OUT":
                    self._timed_out.add(result.task_id)

    def judge(self) -> None:
        self._judge_overlaps()
        if self._in_order(self._course.submissions, "submitted"):
            applied = [s for s in self._course.submissions if s.item.applied]
            applied.sort(key=_applied_at)
            self._in_order(applied, "applied by the LMS")

    def _in_order(self, submissions: Iterable[Submission], what: str) -> bool:
        low, low_task = -1, ""
        for submission in submissions:
            task_id = submission.task.task_id
            candidates = self._candidates(submission)
            fitting = next((offset for offset in candidates if offset >= low), None)
            if fitting is None:
                self._verdict.add(
                    Kind.MISORDERED,
                    f"{self._place(submission)} was {what} in the task {task_id} after the newer change"
                    f" at offset {low} in the task {low_task}",
                )
                return False
            low, low_task = fitting, task_id
        return True

    def _candidates(self, submission: Submission) -> Sequence[int]:
        """Offsets of the changes for which the submission can have been made, oldest first.

        A task that several results name was created for the oldest of these changes. The other results are false
        successes, not a wrong order.
        """
        named = self._named.get(submission.task.task_id)
        return named[:1] if named else self._offsets_of[submission.item.digest]

    def _judge_overlaps(self) -> None:
        still_open: list[Submission] = []
        for submission in self._course.submissions:
            still_open = [s for s in still_open if self._end(s) > submission.task.created_at]
            for other in still_open:
                if not self._may_be_one(other, submission) and not self._ran_again(other, submission):
                    self._verdict.add(
                        Kind.MISORDERED,
                        f"{self._place(submission)}: its task {submission.task.task_id} was created while the task"
                        f" {other.task.task_id} of {self._place(other)} was still open",
                    )
            still_open.append(submission)

    def _end(self, submission: Submission) -> float:
        """When the course of the submission is free again, in API time."""
        task = submission.task
        end = inf if task.completed_at is None else float(task.completed_at)
        if task.task_id in self._timed_out:
            if self._pending_ms_max is None:
                return task.created_at
            return min(end, task.created_at + self._pending_ms_max)
        return end

    def _may_be_one(self, one: Submission, other: Submission) -> bool:
        """Whether both can be one submission for which the API, contrary to its documentation, created two tasks."""
        if one.item.digest != other.item.digest:
            return False
        mine, theirs = self._named.get(one.task.task_id), self._named.get(other.task.task_id)
        return mine is None or theirs is None or mine == theirs

    def _ran_again(self, one: Submission, newer: Submission) -> bool:
        """Whether the API, contrary to its documentation, ran `one` a second time, and that run ended before `newer` was
        created: the daemon got only the second task. A late application of `one` is still detected.
        """
        if one.task.task_id in self._named:
            return False
        return any(
            again.item.digest == one.item.digest
            and again.task.created_at > one.task.created_at
            and self._end(again) <= newer.task.created_at
            for again in self._course.submissions
        )

    def _place(self, submission: Submission) -> str:
        """The change of the submission, as far as it is known, and its course."""
        offsets = "|".join(map(str, self._candidates(submission)))
        return f"{self._source.topic}/{self._source.partition}/{offsets} ({' '.join(self._course.key)})"


def _applied_at(submission: Submission) -> int:
    """Key for a stable sort: with equal times, the earlier submission stays first."""
    applied_at = submission.task.applied_at
    assert applied_at is not None, "an item is applied when its task is"
    return applied_at


def _judge_convergence(evidence: Evidence, course: Course, verdict: Verdict) -> None:
    newest = course.changes[-1]
    end = evidence.corrections.get(newest.source) or evidence.results.get(newest.source)
    if end is None or end.status not in ("SUCCEEDED", "UNCHANGED"):
        return
    held = evidence.held.get(course.key)
    if held is None:
        verdict.add(
            Kind.UNCONVERGED,
            f"{newest.source} ({' '.join(course.key)}) {end.status}, but the LMS does not have the course",
        )
    elif newest.digest == DEACTIVATED:
        if held.is_active:
            verdict.add(
                Kind.UNCONVERGED,
                f"{newest.source} ({' '.join(course.key)}) SUCCEEDED and is the newest, but the course is active: the task"
                f" {held.task_id} wrote it last",
            )
    elif held.digest != newest.digest:
        verdict.add(
            Kind.UNCONVERGED,
            f"{newest.source} ({' '.join(course.key)}) {end.status} and is the newest, but the LMS holds the content of the task"
            f" {held.task_id}",
        )
