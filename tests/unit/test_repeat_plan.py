"""Which changes `coursesyncd republish` sends again: the newest of each course, unless a newer one follows (R20)."""

from __future__ import annotations

import pytest

from daemon.codec.result import Source, SyncError, SyncResult
from daemon.commands.repeat_plan import Ids, PartitionPlan, Picked
from daemon.commands.result_choice import Choice
from daemon.core.model import Change, Error, Rejection, RejectReason, Repeats, Status
from daemon.core.upsert import UPSERT

OUTDATED = "COURSESYNC.REPEAT_OUTDATED"


def change(offset: int, course: str, repeats: Repeats | None = None) -> Change:
    return Change(UPSERT, offset, f"chg-{course}", "hr:1", course, b"{}", 1, repeats=repeats)


def rejection(offset: int, course: str | None = None) -> Rejection:
    error = Error("COURSESYNC.COURSE_INVALID", "course.title: is missing")
    return Rejection(offset, RejectReason.COURSE, error, None, None, course, 1, None, b"{", ())


def ids(course: str) -> Ids:
    return Ids("hr:1", course, f"chg-{course}")


def result(
    offset: int,
    course: str = "a",
    status: Status = Status.FAILED,
    code: str | None = "LMS.NO",
    partition: int = 0,
) -> SyncResult:
    error = None if status is Status.SUCCEEDED else SyncError(code, None, "no", None)
    return SyncResult(
        status=status,
        integration_id="hr:1",
        origin_id=course,
        change_id=f"chg-{course}",
        change=Source("changes", partition, offset),
        course_id=None,
        error=error,
        superseded_by=None,
        batch_id=None,
        task_id=None,
        attempts=1,
        consumed_at="2026-11-29T10:00:00.000Z",
        submitted_at=None,
        completed_at=None,
        resolved_at="2026-11-29T10:00:05.000Z",
    )


def fed(plan: PartitionPlan, *entries: Change | Rejection) -> PartitionPlan:
    """The plan after these records, which are all from its start on."""
    for _ in range(3):
        start = plan.start
        for entry in entries:
            if entry.offset >= start:
                plan.record(entry.offset, entry)
        if not plan.read_to_the_end():
            return plan
    raise AssertionError("it does not end")


def why(plan: PartitionPlan) -> dict[int, str]:
    return {each.offset: each.why for each in plan.skipped}


def test_the_newest_picked_change_of_each_course_is_sent() -> None:
    picked = {1: ids("a"), 2: ids("b"), 4: ids("a"), 5: ids("c")}
    entries: list[Change | Rejection] = [
        change(1, "a"),
        change(2, "b"),
        rejection(3),
        change(4, "a"),
        change(5, "c"),
        change(6, "c"),
    ]
    plan = fed(PartitionPlan(0, picked, set()), *entries)
    assert plan.offsets == [2, 4]
    assert (plan.newer, plan.skipped) == (2, [])


def test_a_newer_change_at_the_end_of_the_partition_counts_until_the_last_moment() -> None:
    plan = fed(PartitionPlan(0, {1: ids("a"), 2: ids("b")}, set()), change(1, "a"), change(2, "b"))
    plan.record(3, change(3, "a"))
    assert plan.offsets == [2]
    assert plan.ids(1) is None
    plan.drop(2)
    plan.record(4, change(4, "b", Repeats(2, 4)))  # what was sent
    assert plan.offsets == []
    assert plan.newer == 1


def test_a_change_that_was_repeated_already_is_not_sent_again() -> None:
    plan = fed(PartitionPlan(0, {1: ids("a")}, set()), change(1, "a"), change(2, "a", Repeats(1, 2)))
    assert (plan.offsets, plan.newer) == ([], 1)


def test_a_repeat_that_was_not_accepted_is_nobodys_newer_change() -> None:
    entries = [change(1, "a"), change(2, "a", Repeats(1, 2))]
    assert fed(PartitionPlan(0, {1: ids("a")}, {2}), *entries).offsets == [1]


def test_for_a_picked_repeat_that_was_not_accepted_its_change_is_sent() -> None:
    entries = [change(1, "a"), change(2, "b"), change(3, "a", Repeats(1, 2)), change(4, "a", Repeats(1, 2))]
    plan = fed(PartitionPlan(0, {3: ids("a"), 4: ids("a")}, {3, 4}), *entries)
    assert plan.offsets == [1], "and what lies between them was read"
    newer = [change(1, "a"), change(2, "a"), change(3, "a", Repeats(1, 2))]
    assert fed(PartitionPlan(0, {3: ids("a")}, {3}), *newer).offsets == []


def test_a_repeat_that_failed_is_repeated_itself() -> None:
    entries = [change(1, "a"), change(2, "a", Repeats(1, 2))]
    assert fed(PartitionPlan(0, {1: ids("a"), 2: ids("a")}, set()), *entries).offsets == [2]


def test_what_cannot_be_sent_is_named_with_the_reason() -> None:
    picked = {1: ids("gone"), 2: Ids(origin_id="b"), 3: ids("c"), 4: ids("d")}
    entries: list[Change | Rejection] = [rejection(2, "b"), change(3, "other"), change(4, "d")]
    plan = fed(PartitionPlan(0, picked, set()), *entries)
    assert plan.offsets == [4]
    assert why(plan) == {
        1: "the input does not have its record any more",
        2: "it would be rejected again: course.title: is missing",
        3: "another record is at its place (change chg-other of other in hr:1): was the topic made anew?",
    }
    assert str(plan.skipped[-1].ids) == "change chg-gone of gone in hr:1"
    assert str(Ids()) == "change ? of ? in ?"
    plan.drop(4, "it has no key")
    assert why(plan)[4] == "it has no key"


def test_what_is_picked_from_the_results() -> None:
    picked = Picked()
    chosen = Choice(statuses=(Status.FAILED, Status.TIMED_OUT))
    picked.result(result(8, status=Status.SUCCEEDED), is_picked=False, is_correction=True)
    for each in (
        result(1),
        result(8, status=Status.TIMED_OUT),
        result(2, status=Status.SUCCEEDED),
        result(3, status=Status.TIMED_OUT),
        result(4, status=Status.REJECTED, code="COURSESYNC.BACKLOG_FULL"),
        result(5, code=OUTDATED),
        result(6, status=Status.TIMED_OUT, partition=1),
        result(7, status=Status.TIMED_OUT),
    ):
        picked.result(each, is_picked=chosen.includes(each), is_correction=False)
    picked.result(result(3, status=Status.SUCCEEDED), is_picked=False, is_correction=True)
    picked.result(result(7), is_picked=True, is_correction=True)
    assert {number: sorted(changes) for number, changes in picked.changes.items()} == {0: [1, 5, 7], 1: [6]}
    assert picked.not_accepted == {0: {4, 5}}
    assert picked.count == 4


@pytest.mark.parametrize(
    ("choice", "is_included"),
    [
        (Choice(), True),
        (Choice(statuses=(Status.FAILED,)), True),
        (Choice(statuses=(Status.REJECTED,)), False),
        (Choice(codes=("INTEGRATION.*",)), False),
        (Choice(codes=("INTEGRATION.*", "LMS.*")), True),
        (Choice(codes=("*.NO",)), True),
        (Choice(codes=("none",)), False),
        (Choice(integrations=("hr:1",)), True),
        (Choice(integrations=("hr:*",)), True),
        (Choice(integrations=("hr:",)), False),
        (Choice(courses=("a",)), True),
        (Choice(courses=("b",)), False),
        (Choice(change_ids=("chg-a",)), True),
        (Choice(change_ids=("chg",)), False),
        (Choice(since=1_795_946_405_000), True),
        (Choice(since=1_795_946_405_001), False),
    ],
)
def test_which_results_a_choice_includes(choice: Choice, *, is_included: bool) -> None:
    assert choice.includes(result(1)) is is_included


def test_an_error_without_a_code_has_a_name() -> None:
    assert Choice(codes=("none",)).includes(result(1, code=None))
    assert not Choice(codes=("*",)).includes(result(1, code=None))
    assert not Choice(codes=("none",)).includes(result(1, status=Status.SUCCEEDED))


def test_a_choice_can_be_typed_again() -> None:
    choice = Choice((Status.FAILED,), ("hr:*",), ("a b",), (), ("LMS.*", "none"), 1_795_946_405_000)
    assert choice.arguments() == [
        *("--status", "FAILED", "--code", "LMS.*", "--code", "none", "--integration", "hr:*"),
        *("--course", "a b", "--since", "2026-11-29T10:00:05.000Z"),
    ]
