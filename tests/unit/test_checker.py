"""The checker on histories made by hand: a good one is clean, and each way to break the contract is seen."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.sandbox.checker import (
    ApiTask,
    DeactivationCall,
    HeldCourse,
    Kind,
    Limits,
    LogRecord,
    SentItem,
    TaskStatus,
    Verdict,
    content_digest,
    judge,
)

INTEGRATION = "workday:abc"
BACKLOG_FULL = "COURSESYNC.BACKLOG_FULL"
TIMES = Limits(task_timeout_ms=10_000, watch_ms=5_000)


def content(title: str) -> dict[str, Any]:
    return {"type": "EXTERNAL", "title": title, "course_url": "https://example.com/c"}


@dataclass
class History:
    """A run that went well, written down record by record, to be spoiled by a test."""

    inputs: list[LogRecord] = field(default_factory=list)
    results: list[LogRecord] = field(default_factory=list)
    tasks: dict[str, ApiTask] = field(default_factory=dict)
    calls: list[DeactivationCall] = field(default_factory=list)
    types: dict[int, str | None] = field(default_factory=dict)
    """Of the changes, by offset."""
    lms: dict[tuple[str, str], HeldCourse] = field(default_factory=dict)
    courses: list[LogRecord] = field(default_factory=list)
    """Of the courses topic; not judged where there are none."""

    def known(
        self,
        offset: int,
        state: str = "ACTIVE",
        content_: str | None = None,
        *,
        origin_id: str = "c1",
        course_id: str | None = None,
        partition: int = 0,
    ) -> None:
        """A record of the courses topic: the state of the course, by the change at `offset`."""
        value: dict[str, Any] = {
            "integration_id": INTEGRATION,
            "origin_id": origin_id,
            "state": state,
            "course_id": course_id,
            "change": {"topic": "changes", "partition": 0, "offset": offset},
        }
        if state == "ACTIVE":
            value["content"] = content_ or f"digest of {offset}"
        key = json.dumps([INTEGRATION, origin_id]).encode()
        place = len(self.courses)
        self.courses.append(LogRecord("courses", partition, place, key, json.dumps(value).encode()))

    def put(self, value: dict[str, Any] | bytes | None, partition: int = 0) -> int:
        """An input record; returns its offset."""
        offset = len(self.inputs)
        if isinstance(value, dict):
            self.types[offset] = value.get("type")
        body = json.dumps(value).encode() if isinstance(value, dict) else value
        self.inputs.append(LogRecord("changes", partition, offset, b"k", body))
        return offset

    def change(self, title: str, origin_id: str = "c1", partition: int = 0, **more: Any) -> int:
        return self.put(
            {
                "id": f"chg-{len(self.inputs)}",
                "type": "course.upserted",
                "integration_id": INTEGRATION,
                "origin_id": origin_id,
                "course": content(title),
                **more,
            },
            partition,
        )

    def task(
        self,
        task_id: str,
        at: int,
        *titles: str,
        origin_id: str = "c1",
        ends: int | None = 100,
        succeeded: bool | None = True,
        applied: bool = True,
        status: TaskStatus = TaskStatus.COMPLETED,
        integration_id: str = INTEGRATION,
        error_code: str | None = None,
    ) -> None:
        """One course in a task made at `at` and finished `ends` ms later."""
        if ends is None:
            status, succeeded = TaskStatus.PENDING, None
        item = SentItem(origin_id, content_digest(content(titles[0])), succeeded, applied)
        self.tasks[task_id] = ApiTask(
            task_id,
            integration_id,
            at,
            None if ends is None else at + ends,
            at + 50 if applied else None,
            status,
            error_code,
            [item],
        )
        if applied:
            self.lms[integration_id, origin_id] = HeldCourse(
                integration_id, origin_id, item.digest, task_id, f"kombo-{origin_id}", is_active=True
            )

    def deactivation(self, origin_id: str = "c1", **more: Any) -> int:
        return self.put(
            {
                "id": f"chg-{len(self.inputs)}",
                "type": "course.deactivated",
                "integration_id": INTEGRATION,
                "origin_id": origin_id,
                **more,
            }
        )

    def call(
        self, at: int, origin_id: str | None = "c1", *, course_id: str | None = None, done: bool = True
    ) -> None:
        """The API was asked to deactivate this course. It is inactive then, if it is in the LMS."""
        course_id = course_id or f"kombo-{origin_id}"
        self.calls.append(
            DeactivationCall(len(self.calls) + 1, INTEGRATION, course_id, origin_id, at, is_done=done)
        )
        if done and origin_id is not None:
            key = (INTEGRATION, origin_id)
            self.lms[key] = self.lms[key]._replace(is_active=False)

    def result(
        self,
        offset: int,
        status: str = "SUCCEEDED",
        task_id: str | None = None,
        *,
        origin_id: str | None = "c1",
        partition: int = 0,
        corrected: bool = False,
        code: str | None = None,
        superseded_by: int | None = None,
        event: dict[str, Any] | None = None,
        key: list[str] | None = None,
        **data: Any,
    ) -> None:
        known = status != "REJECTED" or code == BACKLOG_FULL
        integration_id = INTEGRATION if known else None
        origin_id = origin_id if known else None
        source = {"topic": "changes", "partition": partition, "offset": offset}
        newer = None if superseded_by is None else {**source, "offset": superseded_by}
        value = {
            "specversion": "1.0",
            "id": f"changes/{partition}/{offset}" + ("/correction" if corrected else ""),
            "source": "/course-sync-daemon/journal",
            "type": "course.sync.corrected" if corrected else "course.sync.resolved",
            "data": {
                "status": status,
                "integration_id": integration_id,
                "origin_id": origin_id,
                "change_id": f"chg-{offset}" if known else None,
                "change": source,
                "superseded_by": newer,
                "task_id": task_id,
                "attempts": 0 if task_id is None else 1,
                "error": None if code is None else {"code": code, "message": "m"},
                "consumed_at": "2026-01-01T00:00:00.000Z",
                "resolved_at": "2026-01-01T00:00:01.000Z",
                "change_type": self.types.get(offset),
                **data,
            },
            **(event or {}),
        }
        parts: list[str | None] = (
            [*key] if key else [integration_id, origin_id, *(["correction"] if corrected else [])]
        )
        headers = (("content-type", b"application/cloudevents+json"),)
        place = len(self.results)
        self.results.append(
            LogRecord("results", 0, place, json.dumps(parts).encode(), json.dumps(value).encode(), headers)
        )

    def judge(self, limits: Limits | None = TIMES) -> Verdict:
        courses = self.courses or None
        return judge(
            self.inputs, self.results, self.tasks.values(), self.calls, self.lms.values(), limits, courses
        )


@pytest.fixture
def history() -> History:
    return History()


def a_then_b(history: History) -> None:
    """Two changes of one course, one after the other, both fine."""
    history.change("A")
    history.change("B")
    history.task("T1", 1000, "A")
    history.task("T2", 2000, "B")
    history.result(0, task_id="T1")
    history.result(1, task_id="T2")


def assert_only(verdict: Verdict, kind: Kind, *words: str, count: int = 1) -> None:
    """This kind of violation was found and no other, and its line has these words."""
    assert dict(+verdict.counts) == {kind: count}, verdict.violations
    assert not verdict.ok
    for word in words:
        assert word in verdict.violations[0].line


def lines(verdict: Verdict) -> Iterable[str]:
    return [f"{violation.kind}: {violation.line}" for violation in verdict.violations]


# --- what is right --------------------------------------------------------------------------------


def test_a_run_with_every_kind_of_end_is_clean(history: History) -> None:
    a_then_b(history)
    history.change("late", "c2")
    history.change("skipped", "c3")
    history.change("kept", "c3")
    history.put(b"not JSON")
    history.change("failed", "c4")
    history.change("never sent", "c5")
    history.task("T3", 1000, "late", origin_id="c2", ends=12_000)
    history.task("T4", 1000, "kept", origin_id="c3")
    history.task("T5", 1000, "failed", origin_id="c4", succeeded=False, applied=False)
    history.result(2, "TIMED_OUT", "T3", origin_id="c2")
    history.result(2, "SUCCEEDED", "T3", origin_id="c2", corrected=True)
    history.result(3, "SUPERSEDED", origin_id="c3", superseded_by=4)
    history.result(4, task_id="T4", origin_id="c3")
    history.result(5, "REJECTED", code="COURSESYNC.RECORD_MALFORMED")
    history.result(6, "FAILED", "T5", origin_id="c4", code="LMS.NO")
    history.result(7, "FAILED", origin_id="c5", code="PLATFORM.INTEGRATION_NOT_FOUND")
    verdict = history.judge()
    assert verdict.ok, lines(verdict)
    assert verdict.changes == 8
    assert verdict.corrected == 1
    assert verdict.results == {"SUCCEEDED": 3, "TIMED_OUT": 1, "SUPERSEDED": 1, "REJECTED": 1, "FAILED": 2}
    assert verdict.as_dict() | {"ok": True, "changes": 8, "lost": 0, "unconverged": 0} == verdict.as_dict()


def test_a_retry_and_a_new_task_for_the_same_content_are_right(history: History) -> None:
    history.change("A")
    history.change("B")
    history.change("A")
    history.task("T1", 1000, "A", succeeded=False, applied=False)
    history.task("T2", 2000, "A")
    history.task("T3", 3000, "B")
    history.task("T4", 4000, "A")
    history.result(0, task_id="T2")
    history.result(1, task_id="T3")
    history.result(2, task_id="T4")
    verdict = history.judge()
    assert verdict.ok, lines(verdict)


def test_an_old_answer_that_was_seen_through_is_right(history: History) -> None:
    history.change("A")
    history.change("B")
    history.change("A")
    history.task("T1", 1000, "A", succeeded=False, applied=False)
    history.task("T2", 2000, "A")
    history.task("T3", 3000, "B")
    history.result(0, task_id="T2")
    history.result(1, task_id="T3")
    history.result(2, "FAILED", "T1", code="COURSESYNC.STALE_REPLAY")
    verdict = history.judge()
    assert verdict.ok, lines(verdict)


def test_two_tasks_for_one_submission_are_the_apis_fault(history: History) -> None:
    history.change("A")
    history.task("T1", 1000, "A")
    history.task("T2", 1050, "A")
    history.result(0, task_id="T2")
    verdict = history.judge()
    assert verdict.ok, lines(verdict)


def test_a_course_in_two_partitions_is_told_and_not_judged_by_order(history: History) -> None:
    history.change("A", partition=1)
    history.change("B", partition=0)
    history.task("T1", 1000, "B")
    history.task("T2", 2000, "A")
    history.result(1, task_id="T1")
    history.result(0, task_id="T2", partition=1)
    verdict = history.judge()
    assert verdict.ok, lines(verdict)
    assert verdict.spread_courses == 1


# --- lost, duplicate ------------------------------------------------------------------------------


def test_lost(history: History) -> None:
    a_then_b(history)
    del history.results[0]
    assert_only(history.judge(), Kind.LOST, "changes/0/0")


def test_a_bad_record_without_a_result_is_lost_too(history: History) -> None:
    history.put(None)
    assert_only(history.judge(), Kind.LOST, "changes/0/0")


def test_duplicate_even_when_equal(history: History) -> None:
    a_then_b(history)
    history.result(1, task_id="T2")
    assert_only(history.judge(), Kind.DUPLICATE, "changes/0/1", "SUCCEEDED, SUCCEEDED")


def test_a_result_for_no_input(history: History) -> None:
    a_then_b(history)
    history.result(17, task_id="T2")
    assert_only(history.judge(), Kind.DUPLICATE, "changes/0/17", "not in the input")


def test_a_result_for_another_topic(history: History) -> None:
    a_then_b(history)
    other = {"topic": "elsewhere", "partition": 0, "offset": 1}
    history.result(1, task_id="T2", change=other, event={"id": "elsewhere/0/1"})
    assert_only(history.judge(), Kind.DUPLICATE, "elsewhere/0/1")


# --- false successes and failures -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "word"),
    [
        (None, "there is no task T1"),
        ({"integration_id": "other:1"}, "another integration"),
        ({"origin_id": "c9"}, "did not carry the course"),
        ({"succeeded": False}, "did not report"),
        ({"succeeded": None}, "did not report"),
        ({"status": TaskStatus.FAILED, "succeeded": None}, "did not report"),
        ({"ends": None}, "did not report"),
    ],
)
def test_false_success(history: History, task: dict[str, Any] | None, word: str) -> None:
    history.change("A")
    if task is not None:
        history.task("T1", 1000, "A", **task)
    history.result(0, task_id="T1")
    verdict = history.judge()
    assert verdict.counts[Kind.FALSE_SUCCESS] == 1
    assert any(word in line for line in lines(verdict)), lines(verdict)


@pytest.mark.parametrize("title", ["A", "B"])
def test_a_task_whose_id_was_given_to_another_post_as_well_ends_its_changes_too(
    history: History, title: str
) -> None:
    history.change("A", "c9")
    history.task("T1", 1000, "X", ends=500_000)
    stranger = ("c9", content_digest(content(title)))
    history.tasks["T1"] = history.tasks["T1"]._replace(strangers=[stranger])
    history.result(0, "TIMED_OUT", "T1", origin_id="c9", code="COURSESYNC.TASK_TIMED_OUT")
    told = [line for line in lines(history.judge()) if "carried other content" in line]
    assert bool(told) is (title == "B")


def test_success_without_a_task(history: History) -> None:
    history.change("A")
    history.task("T1", 1000, "A")
    history.result(0)
    assert_only(history.judge(), Kind.FALSE_SUCCESS, "names no task")


def test_success_by_a_task_with_other_content(history: History) -> None:
    a_then_b(history)
    history.results.pop()
    history.result(1, task_id="T1")
    verdict = history.judge()
    assert verdict.counts[Kind.FALSE_SUCCESS] == 1
    assert any("carried other content" in line for line in lines(verdict))


def test_the_trap_of_a_b_a(history: History) -> None:
    """The second A was answered with the first one's task."""
    a_then_b(history)
    history.change("A")
    history.result(2, task_id="T1")
    verdict = history.judge()
    assert verdict.counts == {Kind.FALSE_SUCCESS: 1, Kind.UNCONVERGED: 1}
    assert "changes/0/2" in verdict.violations[0].line
    assert "already ended changes/0/0" in verdict.violations[0].line


def test_the_trap_when_the_first_one_went_unnoticed(history: History) -> None:
    """The first A failed in another way; only its age tells that the task is old."""
    history.change("A")
    history.change("B")
    history.change("A")
    history.task("T1", 1000, "A")
    history.task("T2", 2000, "B")
    history.result(0, "FAILED", code="REMOTE.INPUT_INVALID")
    history.result(1, task_id="T2")
    history.result(2, task_id="T1")
    verdict = history.judge()
    assert verdict.counts[Kind.FALSE_SUCCESS] == 1
    assert any(
        "created before the task T2, which ended the earlier change changes/0/1" in x for x in lines(verdict)
    )


def test_a_republished_course_ended_by_the_old_task(history: History) -> None:
    history.change("A")
    history.change("A")
    history.task("T1", 1000, "A")
    history.result(0, task_id="T1")
    history.result(1, task_id="T1")
    assert_only(history.judge(), Kind.FALSE_SUCCESS, "changes/0/1", "already ended")


def test_the_trap_in_one_partition_of_a_course_that_has_two(history: History) -> None:
    history.change("A", partition=0)
    history.change("B", partition=1)
    history.change("A", partition=0)
    history.task("T1", 1000, "A")
    history.task("T2", 2000, "B")
    history.result(0, task_id="T1")
    history.result(1, task_id="T2", partition=1)
    history.result(2, task_id="T1")
    assert_only(history.judge(), Kind.FALSE_SUCCESS, "changes/0/2", "already ended changes/0/0")


def test_an_old_task_that_was_seen_through_does_not_make_the_next_one_look_new(history: History) -> None:
    for title in ("A", "B", "A", "C"):
        history.change(title)
    history.task("T1", 1000, "A")
    history.task("T2", 2000, "C")
    history.task("T3", 3000, "B")
    history.result(0, task_id="T1")
    history.result(1, task_id="T3")
    history.result(2, "FAILED", "T1", code="COURSESYNC.STALE_REPLAY")
    history.result(3, task_id="T2")
    verdict = history.judge()
    assert verdict.counts[Kind.FALSE_SUCCESS] == 1
    assert any("changes/0/3" in line and "created before the task T3" in line for line in lines(verdict))


def test_failing_as_a_stale_replay_claims_nothing_of_the_task(history: History) -> None:
    """That the task looks good is what such a result complains of."""
    history.change("A")
    history.task("T1", 1000, "A")
    history.result(0, "FAILED", "T1", code="COURSESYNC.STALE_REPLAY")
    assert history.judge().ok


def test_false_failure(history: History) -> None:
    history.change("A")
    history.task("T1", 1000, "A")
    history.result(0, "FAILED", "T1", code="REMOTE.SERVICE_UNAVAILABLE")
    assert_only(history.judge(), Kind.FALSE_FAILURE, "changes/0/0", "reported it as succeeded")


def test_failure_by_a_task_that_never_was(history: History) -> None:
    history.change("A")
    history.result(0, "FAILED", "T1", code="LMS.NO")
    assert_only(history.judge(), Kind.FALSE_FAILURE, "there is no task T1")


def test_a_time_out_that_came_too_early(history: History) -> None:
    history.change("A")
    history.task("T1", 1000, "A", ends=9_999)
    history.result(0, "TIMED_OUT", "T1")
    assert_only(history.judge(), Kind.FALSE_FAILURE, "COMPLETED after 9.999 s")
    assert history.judge(Limits()).ok


def test_the_apis_own_time_out_may_come_at_any_time(history: History) -> None:
    history.change("A")
    history.task(
        "T1",
        1000,
        "A",
        status=TaskStatus.FAILED,
        succeeded=None,
        applied=False,
        error_code="PLATFORM.TASK_TIMED_OUT",
    )
    history.result(0, "TIMED_OUT", "T1")
    assert history.judge().ok


# --- order and convergence ------------------------------------------------------------------------


def test_submitted_in_the_wrong_order(history: History) -> None:
    a_then_b(history)
    history.task("T1", 3000, "A")
    history.lms[INTEGRATION, "c1"] = history.lms[INTEGRATION, "c1"]._replace(
        digest=content_digest(content("B"))
    )
    verdict = history.judge()
    assert verdict.counts[Kind.MISORDERED] == 1
    assert any("changes/0/0" in line and "submitted in the task T1" in line for line in lines(verdict))


def test_a_task_that_two_changes_claim_was_made_for_the_older_one(history: History) -> None:
    history.change("A")
    history.change("B")
    history.change("A")
    history.task("T2", 1000, "B")
    history.task("T1", 2000, "A")
    history.result(0, task_id="T1")
    history.result(1, task_id="T2")
    history.result(2, task_id="T1")
    verdict = history.judge()
    assert verdict.counts[Kind.MISORDERED] == 1
    assert any(
        "changes/0/0" in line and "after the newer change at offset 1" in line for line in lines(verdict)
    )


def test_applied_in_the_wrong_order(history: History) -> None:
    """The first task applied its content after the second one, though it was made before."""
    a_then_b(history)
    history.tasks["T1"] = history.tasks["T1"]._replace(applied_at=5000)
    assert_only(history.judge(), Kind.MISORDERED, "changes/0/0", "applied by the LMS in the task T1")


def test_an_attempt_that_no_result_names_is_judged_by_content(history: History) -> None:
    a_then_b(history)
    history.task("T3", 3000, "A", succeeded=False, applied=False)
    assert_only(history.judge(), Kind.MISORDERED, "changes/0/0", "T3", "newer change at offset 1")


def test_two_open_submissions(history: History) -> None:
    a_then_b(history)
    history.task("T2", 1099, "B")
    assert_only(
        history.judge(), Kind.MISORDERED, "changes/0/1", "T2 was created while the task T1", "still open"
    )
    history.task("T2", 1100, "B")
    assert history.judge().ok


def test_two_open_submissions_of_equal_content(history: History) -> None:
    history.change("A")
    history.change("A")
    history.task("T1", 1000, "A")
    history.task("T2", 1050, "A")
    history.result(0, task_id="T1")
    history.result(1, task_id="T2")
    assert_only(history.judge(), Kind.MISORDERED, "T2 was created while")


def test_a_timed_out_task_keeps_its_course_busy_while_it_is_watched(history: History) -> None:
    history.change("A")
    history.change("B")
    history.task("T1", 1000, "A", ends=None, applied=False)
    history.task("T2", 15_999, "B")
    history.result(0, "TIMED_OUT", "T1")
    history.result(1, task_id="T2")
    assert_only(history.judge(), Kind.MISORDERED, "T2 was created while the task T1")
    assert history.judge(Limits()).ok
    history.task("T2", 16_000, "B")
    assert history.judge().ok


def test_a_pending_task_without_a_time_out_keeps_its_course_busy_for_ever(history: History) -> None:
    a_then_b(history)
    history.task("T1", 1000, "A", ends=None, applied=False)
    history.results[0] = history.results[1]._replace(offset=9)
    history.results.pop()
    verdict = history.judge()
    assert verdict.counts == {Kind.LOST: 1, Kind.MISORDERED: 1}


def test_a_task_that_the_api_made_anew_does_not_keep_its_course_busy(history: History) -> None:
    a_then_b(history)
    history.task("T0", 900, "A", ends=None, applied=False)
    assert history.judge().ok


def test_a_task_that_a_result_names_keeps_its_course_busy_even_if_it_was_made_anew(history: History) -> None:
    history.change("A")
    history.change("B")
    history.task("T0", 900, "A", ends=None, applied=False)
    history.task("T1", 1000, "A")
    history.task("T2", 2000, "B")
    history.result(0, "TIMED_OUT", "T0")
    history.result(1, task_id="T2")
    assert_only(history.judge(), Kind.MISORDERED, "T2 was created while the task T0")


def test_content_that_nobody_asked_for(history: History) -> None:
    a_then_b(history)
    history.task("T3", 500, "made up", applied=False)
    assert_only(history.judge(), Kind.UNASKED, "T3", "c1")


def test_a_course_that_nobody_asked_for(history: History) -> None:
    a_then_b(history)
    history.task("T3", 500, "A", origin_id="c9")
    assert_only(history.judge(), Kind.UNASKED, "T3", "c9")


def test_unconverged(history: History) -> None:
    a_then_b(history)
    held = history.lms[INTEGRATION, "c1"]
    history.lms[INTEGRATION, "c1"] = held._replace(digest=content_digest(content("A")), task_id="T1")
    assert_only(history.judge(), Kind.UNCONVERGED, "changes/0/1", "T1")
    history.lms.clear()
    assert_only(history.judge(), Kind.UNCONVERGED, "does not have the course")


def test_what_the_lms_holds_after_a_failure_is_not_judged(history: History) -> None:
    a_then_b(history)
    history.task("T2", 2000, "B", succeeded=False, applied=False)
    history.results.pop()
    history.result(1, "FAILED", "T2", code="LMS.NO")
    assert history.judge().ok


# --- rejected and superseded ----------------------------------------------------------------------


def test_rejected_though_acceptable(history: History) -> None:
    history.change("A")
    history.result(0, "REJECTED", code="COURSESYNC.RECORD_INVALID")
    verdict = history.judge()
    assert verdict.counts[Kind.REJECTION] == 1
    assert any("changes/0/0 is acceptable" in line for line in lines(verdict))


def test_a_full_backlog_may_reject_where_it_is_configured_to(history: History) -> None:
    history.change("A")
    history.result(0, "REJECTED", code=BACKLOG_FULL)
    assert history.judge(Limits(backlog_rejects=True)).ok
    assert_only(history.judge(), Kind.REJECTION, "BACKLOG_FULL")


def test_superseded_by_a_change_that_was_rejected(history: History) -> None:
    history.change("A")
    history.change("B")
    history.result(0, "SUPERSEDED", superseded_by=1)
    history.result(1, "REJECTED", code=BACKLOG_FULL)
    verdict = history.judge(Limits(backlog_rejects=True))
    assert_only(verdict, Kind.SUPERSESSION, "was itself REJECTED")


def test_what_was_rejected_is_not_to_be_sent(history: History) -> None:
    history.change("A")
    history.task("T1", 1000, "A")
    history.result(0, "REJECTED", code=BACKLOG_FULL)
    verdict = history.judge(Limits(backlog_rejects=True))
    assert_only(verdict, Kind.UNASKED, "T1")


def test_not_rejected_though_not_acceptable(history: History) -> None:
    history.change("A", course=content("A") | {"duration": 0})
    history.result(0, "FAILED", code="PLATFORM.INPUT_INVALID")
    assert_only(history.judge(), Kind.REJECTION, "changes/0/0 ended FAILED", "duration")


@pytest.mark.parametrize(
    ("newer", "word"),
    [
        (None, "does not say by which"),
        (9, "not an acceptable change"),
        (0, "not newer"),
        (3, "another course"),
        (4, "not an acceptable change"),
    ],
)
def test_superseded_by_what_is_not_a_newer_change(history: History, newer: int | None, word: str) -> None:
    history.change("zero")
    history.change("A")
    history.change("B")
    history.change("other", "c2")
    history.put(b"")
    history.task("T0", 1000, "zero")
    history.task("T1", 2000, "B")
    history.task("T2", 1000, "other", origin_id="c2")
    history.result(0, task_id="T0")
    history.result(1, "SUPERSEDED", superseded_by=newer)
    history.result(2, task_id="T1")
    history.result(3, task_id="T2", origin_id="c2")
    history.result(4, "REJECTED", code="COURSESYNC.RECORD_EMPTY")
    assert_only(history.judge(), Kind.SUPERSESSION, "changes/0/1", word)


def test_superseded_after_it_was_submitted(history: History) -> None:
    a_then_b(history)
    history.results[0] = history.results[1]
    del history.results[1]
    history.result(0, "SUPERSEDED", superseded_by=1)
    assert_only(history.judge(), Kind.SUPERSESSION, "changes/0/0", "its content was submitted in the task T1")


def test_superseded_and_says_itself_that_it_was_submitted(history: History) -> None:
    a_then_b(history)
    history.results[0] = history.results[1]
    del history.results[1]
    history.result(0, "SUPERSEDED", "T1", superseded_by=1)
    assert_only(history.judge(), Kind.SUPERSESSION, "it was submitted")


# --- corrections ----------------------------------------------------------------------------------


def timed_out(history: History) -> None:
    history.change("A")
    history.task("T1", 1000, "A", ends=12_000)
    history.result(0, "TIMED_OUT", "T1")


def test_a_correction_of_what_did_not_time_out(history: History) -> None:
    a_then_b(history)
    history.result(1, "SUCCEEDED", "T2", corrected=True)
    assert_only(history.judge(), Kind.CORRECTION, "changes/0/1 ended SUCCEEDED")


def test_a_correction_of_nothing(history: History) -> None:
    a_then_b(history)
    history.result(9, "SUCCEEDED", "T2", corrected=True)
    assert_only(history.judge(), Kind.CORRECTION, "changes/0/9 has no result")


def test_two_corrections(history: History) -> None:
    timed_out(history)
    history.result(0, "SUCCEEDED", "T1", corrected=True)
    history.result(0, "SUCCEEDED", "T1", corrected=True)
    assert_only(history.judge(), Kind.CORRECTION, "another correction")


@pytest.mark.parametrize(
    ("status", "task_id", "succeeded", "word"),
    [
        ("SUCCEEDED", "T1", False, "did not report"),
        ("FAILED", "T1", True, "reported it as succeeded"),
        ("SUCCEEDED", "T9", True, "names the task T9"),
        ("SUPERSEDED", "T1", True, "cannot end with that status"),
    ],
)
def test_a_correction_that_is_not_true(
    history: History, status: str, task_id: str, succeeded: bool, word: str
) -> None:
    timed_out(history)
    history.task("T1", 1000, "A", ends=12_000, succeeded=succeeded)
    history.result(0, status, task_id, corrected=True)
    assert_only(history.judge(), Kind.CORRECTION, "changes/0/0", word)


def test_a_correction_with_the_key_of_a_result(history: History) -> None:
    """A compacted results topic would lose one of the two."""
    timed_out(history)
    history.result(0, "SUCCEEDED", "T1", corrected=True, key=[INTEGRATION, "c1"])
    assert_only(history.judge(), Kind.MALFORMED, "the key is")


def test_a_correction_that_is_true_and_not_in_the_lms(history: History) -> None:
    timed_out(history)
    history.result(0, "SUCCEEDED", "T1", corrected=True)
    assert history.judge().ok
    history.lms.clear()
    assert_only(history.judge(), Kind.UNCONVERGED, "changes/0/0")


# --- results that are not as described ------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"event": {"id": "1"}}, "the id is '1'"),
        ({"key": ["x", "c1"]}, "the key is"),
        ({"change_id": "chg-7"}, "it names"),
        ({"status_": "DONE"}, "the status is 'DONE'"),
    ],
)
def test_a_result_that_says_something_wrong_of_itself(
    history: History, changed: dict[str, Any], word: str
) -> None:
    history.change("A")
    history.task("T1", 1000, "A")
    history.result(0, changed.pop("status_", "SUCCEEDED"), task_id="T1", **changed)
    assert_only(history.judge(), Kind.MALFORMED, "changes/0/0", word)


@pytest.mark.parametrize("value", [None, b"", b"[]", b"{}", b'{"data": 3}', b"\xff"])
def test_a_record_that_is_no_result(history: History, value: bytes | None) -> None:
    a_then_b(history)
    history.results.append(history.results[0]._replace(offset=7, value=value))
    assert_only(history.judge(), Kind.MALFORMED, "results/0/7 is not a result")


def test_an_unknown_event_type(history: History) -> None:
    a_then_b(history)
    history.result(0, task_id="T1", event={"type": "course.sync.guessed"})
    assert_only(history.judge(), Kind.MALFORMED, "course.sync.guessed")


def test_a_result_without_the_content_type(history: History) -> None:
    a_then_b(history)
    history.results.append(history.results[0]._replace(headers=()))
    assert_only(history.judge(), Kind.MALFORMED, "content-type")


# --- what is shown --------------------------------------------------------------------------------


def test_the_first_violations_are_of_all_kinds(history: History) -> None:
    for _ in range(50):
        history.change("A")
    history.result(99, task_id="T1")
    verdict = history.judge()
    shown = [violation.kind for violation in verdict.first(3)]
    assert shown == [Kind.LOST, Kind.DUPLICATE, Kind.LOST]
    assert verdict.counts[Kind.LOST] == 50


# --- deactivations --------------------------------------------------------------------------------


def retired(history: History) -> None:
    """A course is created, deactivated and created again."""
    history.change("A")
    history.deactivation()
    history.change("B")
    history.task("T1", 1000, "A")
    history.call(2000)
    history.task("T2", 3000, "B")
    history.result(0, task_id="T1")
    history.result(1)
    history.result(2, task_id="T2")


def test_a_course_that_was_deactivated_and_written_again_is_clean(history: History) -> None:
    retired(history)
    assert history.judge().ok, "whether the second upsert makes it active again is the API's affair"


def test_a_repeated_call_and_a_publishers_id_are_clean(history: History) -> None:
    history.change("A")
    history.deactivation(course_id="remote:c1")
    history.task("T1", 1000, "A")
    history.call(2000, course_id="remote:c1")
    history.call(2500, course_id="remote:c1")
    history.result(0, task_id="T1")
    history.result(1)
    history.deactivation("c2")
    history.result(2, "FAILED", origin_id="c2", code="COURSESYNC.COURSE_UNKNOWN")
    history.deactivation("c3", course_id="remote:c3")
    history.call(2500, None, course_id="remote:c3", done=False)
    history.result(3, "FAILED", origin_id="c3", code="ANY")
    assert history.judge().ok


def test_a_deactivation_that_was_not_carried_out_is_a_false_success(history: History) -> None:
    history.change("A")
    history.deactivation()
    history.task("T1", 1000, "A")
    history.result(0, task_id="T1")
    history.result(1)
    history.call(2000, done=False)
    verdict = history.judge()
    assert verdict.counts[Kind.FALSE_SUCCESS] == 1
    assert verdict.counts[Kind.UNCONVERGED] == 1


def test_an_earlier_deactivation_is_no_proof(history: History) -> None:
    retired(history)
    history.deactivation()
    history.result(3)
    assert history.judge().counts[Kind.FALSE_SUCCESS] == 1
    history.call(4000)
    assert history.judge().ok


def test_a_course_that_is_active_in_the_end_has_not_converged(history: History) -> None:
    history.change("A")
    history.deactivation()
    history.task("T1", 1000, "A")
    history.call(2000)
    history.result(0, task_id="T1")
    history.result(1)
    assert history.judge().ok
    key = (INTEGRATION, "c1")
    history.lms[key] = history.lms[key]._replace(is_active=True)
    assert_only(history.judge(), Kind.UNCONVERGED, "is active", "T1")


def test_a_deactivation_during_a_task_of_its_course_overtakes(history: History) -> None:
    history.change("A")
    history.deactivation()
    history.task("T1", 1000, "A", ends=1500)
    history.call(2000)
    history.result(0, task_id="T1")
    history.result(1)
    assert_only(history.judge(), Kind.MISORDERED, "T1", "still open")


def test_a_deactivation_after_a_newer_upsert_is_misordered(history: History) -> None:
    retired(history)
    history.call(4000)
    verdict = history.judge()
    assert_only(verdict, Kind.MISORDERED, "after the newer change", count=verdict.counts[Kind.MISORDERED])


@pytest.mark.parametrize(
    ("own", "sent"), [("remote:c1", "kombo-c1"), (None, "remote:c1"), ("remote:c1", "remote:c9")]
)
def test_another_course_id_is_unasked(history: History, own: str | None, sent: str) -> None:
    history.change("A")
    history.deactivation(course_id=own)
    history.task("T1", 1000, "A")
    history.call(2000, course_id=sent)
    history.result(0, task_id="T1")
    history.result(1)
    assert history.judge().counts[Kind.UNASKED] == 1


def test_a_course_that_nobody_named_is_unasked(history: History) -> None:
    history.call(2000, None, course_id="K9", done=False)
    assert_only(history.judge(), Kind.UNASKED, "K9")


def test_a_deactivation_with_an_id_is_not_of_an_unknown_course(history: History) -> None:
    history.deactivation(course_id="remote:c1")
    history.result(0, "FAILED", code="COURSESYNC.COURSE_UNKNOWN")
    assert_only(history.judge(), Kind.FALSE_FAILURE, "remote:c1")


# --- what is known of courses ---------------------------------------------------------------------


def confirmed(history: History) -> None:
    """One change that is confirmed, and the same content again."""
    history.change("A")
    history.change("A")
    history.task("T1", 1000, "A")
    history.result(0, task_id="T1")
    history.result(1, "UNCHANGED")
    history.known(0)


def test_what_is_unchanged_was_confirmed_before(history: History) -> None:
    confirmed(history)
    history.change("skipped")
    history.change("B")
    history.result(2, "SUPERSEDED", superseded_by=3)
    history.task("T2", 2000, "B")
    history.result(3, task_id="T2")
    history.known(3)
    assert lines(history.judge()) == []


def test_unchanged_without_a_confirmed_content(history: History) -> None:
    history.change("A")
    history.result(0, "UNCHANGED")
    verdict = history.judge()
    assert verdict.counts[Kind.KNOWN] == 1
    assert "no change before it was sent" in verdict.violations[-1].line


def test_unchanged_with_another_content_than_the_confirmed_one(history: History) -> None:
    history.change("A")
    history.change("B")
    history.task("T1", 1000, "A")
    history.result(0, task_id="T1")
    history.result(1, "UNCHANGED")
    verdict = history.judge()
    assert verdict.counts == {Kind.KNOWN: 1, Kind.UNCONVERGED: 1}


@pytest.mark.parametrize("status", ["FAILED", "TIMED_OUT"])
def test_unchanged_after_an_end_that_proves_nothing(history: History, status: str) -> None:
    history.change("A")
    history.change("B")
    history.change("A")
    history.task("T1", 1000, "A")
    history.task("T2", 2000, "B", succeeded=False, applied=False, ends=12_000)
    history.result(0, task_id="T1")
    history.result(1, status, "T2", code="LMS.SOMETHING")
    history.result(2, "UNCHANGED")
    assert_only(history.judge(), Kind.KNOWN, "changes/0/2", "changes/0/1", "not confirmed")


def test_unchanged_after_a_task_that_failed_as_a_whole_is_fine(history: History) -> None:
    history.change("A")
    history.change("B")
    history.change("A")
    history.task("T1", 1000, "A")
    history.task("T2", 2000, "B", succeeded=None, applied=False, status=TaskStatus.FAILED)
    history.result(0, task_id="T1")
    history.result(1, "FAILED", "T2", code="LMS.SOMETHING")
    history.result(2, "UNCHANGED")
    history.known(0)
    assert lines(history.judge()) == []


def test_unchanged_that_was_submitted(history: History) -> None:
    confirmed(history)
    history.change("A")
    history.task("T2", 2000, "A")
    history.result(2, "UNCHANGED", "T2")
    assert history.judge().counts[Kind.KNOWN] == 1


def test_a_record_that_is_not_the_last_confirmed_change(history: History) -> None:
    a_then_b(history)
    history.known(0)
    assert_only(history.judge(), Kind.KNOWN, "changes/0/1 was confirmed last")


def test_a_record_that_is_missing(history: History) -> None:
    a_then_b(history)
    history.known(0, origin_id="c1")
    history.courses[0] = history.courses[0]._replace(value=None)
    assert_only(history.judge(), Kind.KNOWN, "the topic says nothing")


def test_a_record_that_says_more_than_the_api(history: History) -> None:
    history.change("A")
    history.task("T1", 1000, "A", succeeded=False, applied=False)
    history.result(0, "FAILED", "T1", code="LMS.SOMETHING")
    history.known(0)
    assert_only(history.judge(), Kind.KNOWN, "nobody knows what became of changes/0/0")


def test_a_record_that_the_learning_system_does_not_bear_out(history: History) -> None:
    confirmed(history)
    history.lms[INTEGRATION, "c1"] = HeldCourse(INTEGRATION, "c1", content_digest(content("X")), "T9", "id-1")
    verdict = history.judge()
    assert verdict.counts[Kind.KNOWN] == 1
    assert "but the LMS holds the content of the task T9" in verdict.violations[-1].line


def test_a_record_with_the_id_of_another_course(history: History) -> None:
    confirmed(history)
    history.courses.clear()
    history.known(0, course_id="id-2")
    held = history.lms[INTEGRATION, "c1"]
    history.lms[INTEGRATION, "c1"] = held._replace(course_id="id-1")
    assert_only(history.judge(), Kind.KNOWN, "has the id id-2")


def test_different_contents_with_one_digest(history: History) -> None:
    a_then_b(history)
    history.known(0, content_="same")
    history.known(1, content_="same")
    assert_only(history.judge(), Kind.KNOWN, "2 different contents have the digest same")


def test_a_record_that_names_a_change_of_another_course(history: History) -> None:
    confirmed(history)
    history.known(0, origin_id="c9")
    assert_only(history.judge(), Kind.KNOWN, "which is none of")


def test_a_course_with_records_in_two_partitions(history: History) -> None:
    confirmed(history)
    history.known(0, partition=1)
    assert_only(history.judge(), Kind.KNOWN, "has a record in partition 0 too")


@pytest.mark.parametrize("value", [b"not JSON", b"{}", b'{"integration_id": 1}'])
def test_what_is_no_record_of_a_course(history: History, value: bytes) -> None:
    confirmed(history)
    history.courses.append(LogRecord("courses", 0, 1, b'["i","o"]', value))
    assert_only(history.judge(), Kind.MALFORMED, "is not a record of a course")


def test_a_course_that_is_stated_inactive_is_inactive_in_the_lms(history: History) -> None:
    history.change("A")
    history.deactivation()
    history.task("T1", 1000, "A")
    history.call(2000)
    history.result(0, task_id="T1")
    history.result(1)
    history.known(1, "INACTIVE", course_id="kombo-c1")
    assert history.judge().ok
    history.courses.clear()
    history.known(0, course_id="kombo-c1")
    assert_only(history.judge(), Kind.KNOWN, "confirmed last")


def test_an_unconfirmed_deactivation_leaves_the_state_unknown(history: History) -> None:
    history.change("A")
    history.deactivation()
    history.task("T1", 1000, "A")
    history.call(2000)
    history.call(2500, done=False)
    history.result(0, task_id="T1")
    history.result(1, "FAILED", code="COURSESYNC.DEACTIVATION_UNCONFIRMED")
    history.known(1, "UNKNOWN")
    assert history.judge().ok
    history.courses.clear()
    history.known(0)
    assert_only(history.judge(), Kind.KNOWN, "nobody knows")
