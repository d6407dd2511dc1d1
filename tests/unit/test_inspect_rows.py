"""What `coursesyncd inspect` says of a journal."""

from __future__ import annotations

import msgspec

from daemon.commands.inspect_rows import (
    ChangeState,
    CourseRow,
    PartitionRow,
    SubmissionRow,
    WaitingByIntegration,
    course_rows,
    partition_row,
    submission_rows,
)
from daemon.commands.repair.journal_repair import InspectedPartition
from daemon.commands.tables import age, printable
from daemon.core import journal
from daemon.core.journal import Attempt, Late, Position, Refusal, SealedBatch, Task, Wait
from daemon.core.journal_fold import Fold
from daemon.core.model import Error, Item
from daemon.log.port import InputFacts

BODY = msgspec.Raw(b"{}")
DOWN = Error("REMOTE.SERVICE_UNAVAILABLE", "The tool is down.")
FACTS = InputFacts("topic", 4, 0, 120, 130, 100, 4, 4)


def item(offset: int, origin_id: str = "c", consumed_at: int = 0) -> Item:
    return Item(origin_id, offset, f"chg-{offset}", consumed_at or offset * 1000, 1, 0)


def inspected_partition(*records: tuple[bytes, journal.Value], partition: int = 2) -> InspectedPartition:
    fold = Fold()
    for offset, (key, value) in enumerate(records):
        fold.apply(offset, key, journal.encode_value(value))
    return InspectedPartition(partition, fold, FACTS)


LIMITED = Error("PLATFORM.RATE_LIMIT_EXCEEDED", "Too many requests.")
TOLD = "1970-01-01T00:01:30.000Z"
"""Until when the refused submission waits."""

POSITION = journal.POSITION_KEY, Position(1, 100, "topic", 4, 0)
FULL = inspected_partition(
    POSITION,
    (journal.batch_key("2-5-1"), SealedBatch("tool:1", 50_000, 0, (item(5), item(6, "d")), BODY)),
    (journal.batch_key("2-7-1"), SealedBatch("tool:2", 40_000, 0, (item(7),), BODY)),
    (journal.task_key("2-7-1"), Task("task-7", 60_000)),
    (journal.late_key("2-3-1", "task-3"), Late("2-3-1", "tool:1", (item(3, "late"),), 8_000, 9_000)),
    (journal.refusal_key("2-5-1"), Refusal("retry", LIMITED, 51_000, 90_000)),
    (journal.wait_key("tool:1", "c"), Wait(item(8), BODY)),
    (
        journal.wait_key("tool:3", "x"),
        Wait(item(4, "x"), BODY, 99_000, Attempt("2-4-1", DOWN, "task-4", 20_000, 30_000)),
    ),
)


def test_a_partition_is_counted() -> None:
    assert partition_row(FULL) == PartitionRow(
        partition=2,
        next_offset=100,
        behind=20,  # to the last stable offset: nobody can read what comes after it
        waiting=2,
        sealed=1,
        pending=1,
        watched=1,
        oldest_consumed_at="1970-01-01T00:00:04.000Z",  # what is watched has its result
    )


def test_a_partition_that_nobody_has_begun_to_read_is_not_behind() -> None:
    row = partition_row(inspected_partition())
    assert (row.next_offset, row.behind, row.oldest_consumed_at) == (None, None, None)


def test_submissions_say_since_when_they_are_what_they_are() -> None:
    assert sorted(submission_rows(FULL), key=lambda row: row.since) == [
        SubmissionRow(
            2, ChangeState.WATCHED, "1970-01-01T00:00:09.000Z", 1, "tool:1", "2-3-1", "task-3", None, None
        ),
        SubmissionRow(
            2, ChangeState.SEALED, "1970-01-01T00:00:50.000Z", 2, "tool:1", "2-5-1", None, TOLD, LIMITED
        ),
        SubmissionRow(
            2, ChangeState.PENDING, "1970-01-01T00:01:00.000Z", 1, "tool:2", "2-7-1", "task-7", None, None
        ),
    ]


def test_what_waits_is_added_up_over_partitions_longest_first() -> None:
    integrations = WaitingByIntegration()
    refused = Error("INTEGRATION.INACTIVE", "Off.")
    other = inspected_partition(
        (journal.wait_key("tool:1", "e"), Wait(item(9, "e", 7_000), BODY, 1, Attempt("b", refused))),
        (journal.wait_key("tool:3", "y"), Wait(item(2, "y"), BODY, 1, Attempt("b", refused))),
        partition=3,
    )
    integrations.add(FULL.fold)
    assert {row.integration_id: row.not_before for row in integrations.rows()} == {
        "tool:1": None,
        "tool:3": "1970-01-01T00:01:39.000Z",
    }
    integrations.add(other.fold)
    told = [
        (row.integration_id, row.changes, row.retries, row.oldest_consumed_at[17:19], row.last_error)
        for row in integrations.rows()
    ]
    assert told == [("tool:3", 2, 2, "02", refused), ("tool:1", 2, 1, "07", refused)]


def test_a_course_is_found_wherever_its_changes_are() -> None:
    waiting, submitted = sorted(course_rows(FULL, "tool:1", "c"), key=lambda row: -row.offset)
    assert submitted == CourseRow(
        partition=2,
        offset=5,
        change_id="chg-5",
        consumed_at="1970-01-01T00:00:05.000Z",
        state=ChangeState.SEALED,
        since="1970-01-01T00:00:50.000Z",
        batch_id="2-5-1",
        task_id=None,
        not_before=TOLD,
        last_error=LIMITED,
    )
    assert (waiting.offset, waiting.state, waiting.batch_id) == (8, ChangeState.WAITING, None)
    assert [row.state for row in course_rows(FULL, "tool:1", "late")] == [ChangeState.WATCHED]
    assert list(course_rows(FULL, "tool:2", "x")) == []


def test_a_retry_that_waits_says_what_it_failed_of_and_when_it_goes_on() -> None:
    [row] = course_rows(FULL, "tool:3", "x")
    assert (row.batch_id, row.task_id, row.last_error) == ("2-4-1", "task-4", DOWN)
    assert row.not_before == "1970-01-01T00:01:39.000Z"


def test_ages_have_two_units_at_most() -> None:
    told = [age(seconds) for seconds in (-3, 0, 59.9, 60, 61, 3600, 7500, 90_061)]
    assert told == ["0s", "0s", "59s", "1m", "1m 1s", "1h", "2h 5m", "1d 1h"]


def test_what_other_people_wrote_moves_no_cursor() -> None:
    assert printable("a\x1b[2Jb\nc") == "a [2Jb c"
