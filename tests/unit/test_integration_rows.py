"""What `coursesyncd integrations` says of journals and decisions, and what `give-up` counts."""

from __future__ import annotations

import pytest

from daemon.codec import encode_control
from daemon.commands.decisions import described, folded
from daemon.commands.give_up import Plan
from daemon.commands.integration_rows import (
    GivenUpRow,
    IntegrationRow,
    PausedRow,
    State,
    WorkByIntegration,
    integration_rows,
    why,
)
from daemon.commands.pause import already_paused, matches
from daemon.core import journal
from daemon.core.control import Decision, GiveUp, Pause
from daemon.core.journal import Attempt, Late, Refusal, SealedBatch, Task, Wait
from daemon.core.model import Error
from daemon.log.topic_access import TopicRecord
from tests.unit.test_core_control import control
from tests.unit.test_inspect_rows import BODY, DOWN, FULL, LIMITED, POSITION, inspected_partition, item

NOW = 80_000
REPAIR = Error("INTEGRATION.AUTHENTICATION_INVALID", "The credentials are wrong.")
KEY_REFUSED = Error("PLATFORM.AUTHENTICATION_INVALID", "Wrong key.")


def pause(name: str, *, paused: bool = True, until: int | None = None, reason: str | None = None) -> Pause:
    return Pause(name, paused, until, "ann@ops", reason, 20_000)


def give_up(course: str | None = None, *, integration: str = "tool:1") -> GiveUp:
    return GiveUp(integration, course, True, "topic", (7,), "ann@ops", "gone", 20_000)


def work(*records: tuple[bytes, journal.Value]) -> WorkByIntegration:
    found = WorkByIntegration()
    found.add(inspected_partition(*records).fold)
    return found


def full() -> WorkByIntegration:
    found = WorkByIntegration()
    found.add(FULL.fold)
    return found


def batch(integration: str = "tool:1", *offsets: int) -> tuple[bytes, SealedBatch]:
    """The courses are named by their offsets."""
    items = tuple(item(offset, f"c{offset}") for offset in offsets)
    return journal.batch_key(f"b-{offsets}"), SealedBatch(integration, 50_000, 0, items, BODY)


def rows(
    found: WorkByIntegration, *decisions: Decision, patterns: tuple[str, ...] = ()
) -> dict[str, IntegrationRow]:
    return {
        row.integration: row for row in integration_rows(found, control(*decisions, wall=NOW), NOW, patterns)
    }


def state(*records: tuple[bytes, journal.Value]) -> State:
    (row,) = rows(work(*records)).values()
    return row.state


# --- the rows -------------------------------------------------------------------------------------


def test_what_is_under_way_is_counted_by_integration() -> None:
    found = rows(full())
    assert list(found) == ["tool:1", "tool:2", "tool:3"]
    one = found["tool:1"]
    assert (one.waiting, one.sealed, one.waiting_since) == (1, 2, "1970-01-01T00:00:05.000Z")
    assert (one.open_tasks, one.open_changes, one.open_since, one.watched_tasks) == (0, 0, None, 1)
    assert (one.last_error, one.next_probe) == (LIMITED, "1970-01-01T00:01:30.000Z")
    assert one.state is State.BACKING_OFF
    two = found["tool:2"]
    assert (two.open_tasks, two.open_changes, two.open_since) == (1, 1, "1970-01-01T00:01:00.000Z")
    assert (two.waiting_since, two.last_error, two.next_probe) == (None, None, None)
    assert two.state is State.RUNNING
    assert found["tool:3"].last_error == DOWN


def test_partitions_are_added_up() -> None:
    found = full()
    found.add(
        inspected_partition(batch("tool:2", 3), (journal.wait_key("tool:2", "x"), Wait(item(2), BODY))).fold
    )
    two = rows(found)["tool:2"]
    assert (two.waiting, two.sealed, two.open_tasks) == (1, 1, 1)
    assert two.waiting_since == "1970-01-01T00:00:02.000Z"


def test_an_integration_waits_for_its_customer_if_a_task_or_a_submission_says_so() -> None:
    attempt = Attempt("b", REPAIR, "task", 1, 2)
    assert (
        state((journal.wait_key("tool:1", "c"), Wait(item(1), BODY, 0, attempt))) is State.WAITS_FOR_CUSTOMER
    )
    key, sealed = batch("tool:1", 1)
    refused = journal.refusal_key("b-(1,)"), Refusal("park", REPAIR, 1, 2)
    assert state((key, sealed), refused) is State.WAITS_FOR_CUSTOMER


def test_a_refusal_of_our_key_halts_every_integration() -> None:
    refused = journal.refusal_key("b-(1,)"), Refusal("halt", KEY_REFUSED, 1, None)
    assert state(batch("tool:1", 1), refused) is State.HALTED


def test_what_may_be_sent_again_now_is_not_backing_off() -> None:
    def refused(at: int) -> tuple[bytes, Refusal]:
        return journal.refusal_key("b-(1,)"), Refusal("retry", LIMITED, 1, at)

    assert state(batch("tool:1", 1), refused(NOW)) is State.RUNNING
    assert state(batch("tool:1", 1), refused(NOW + 1)) is State.BACKING_OFF


def test_the_last_refusal_is_the_one_that_is_shown() -> None:
    found = work(
        batch("tool:1", 1),
        batch("tool:1", 2),
        (journal.refusal_key("b-(1,)"), Refusal("retry", LIMITED, 2_000, 90_000)),
        (journal.refusal_key("b-(2,)"), Refusal("retry", DOWN, 1_000, 85_000)),
    )
    row = rows(found)["tool:1"]
    assert (row.last_error, row.next_probe) == (LIMITED, "1970-01-01T00:01:25.000Z")


def test_a_watched_task_keeps_its_integration_at_work() -> None:
    late = Late("b", "tool:1", (item(1),), 1, 2)
    assert state((journal.late_key("b", "t"), late)) is State.RUNNING


def test_what_is_paused_has_a_row_with_the_decision() -> None:
    found = rows(full(), pause("tool:1", until=NOW + 1, reason="ticket"), pause("other:*"))
    assert list(found) == ["other:*", "tool:1", "tool:2", "tool:3"]
    assert found["tool:1"].state is State.PAUSED
    assert found["tool:1"].paused == PausedRow(
        "tool:1", "ann@ops", "ticket", "1970-01-01T00:01:20.001Z", "1970-01-01T00:00:20.000Z"
    )
    assert found["other:*"].state is State.PAUSED
    assert found["other:*"].waiting == 0
    assert found["tool:2"].paused is None


def test_an_integration_is_paused_with_its_pattern_unless_it_was_resumed() -> None:
    found = rows(full(), pause("tool:*"), pause("tool:2", paused=False))
    assert {name: row.state for name, row in found.items()} == {
        "tool:*": State.PAUSED,
        "tool:1": State.PAUSED,
        "tool:2": State.RUNNING,
        "tool:3": State.PAUSED,
    }
    paused = found["tool:1"].paused
    assert paused is not None
    assert paused.integration == "tool:*"


def test_an_integration_that_gave_up_has_a_row_even_if_nothing_is_left() -> None:
    found = rows(work(), give_up(), give_up("c1"))
    assert found["tool:1"].state is State.IDLE
    assert found["tool:1"].given_up == (
        GivenUpRow(None, True, "ann@ops", "gone", "1970-01-01T00:00:20.000Z"),
        GivenUpRow("c1", True, "ann@ops", "gone", "1970-01-01T00:00:20.000Z"),
    )


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (("tool:1",), ["tool:1"]),
        (("tool:*",), ["tool:1", "tool:2", "tool:3"]),
        (("tool:1", "tool:3"), ["tool:1", "tool:3"]),
        (("other:1",), ["other:*"]),
        (("o*",), ["other:*"]),
        (("none",), []),
    ],
)
def test_patterns_choose_rows(patterns: tuple[str, ...], expected: list[str]) -> None:
    assert list(rows(full(), pause("other:*"), patterns=patterns)) == expected


def test_why_says_who_and_what_and_when() -> None:
    found = rows(full(), pause("tool:*", until=NOW + 1, reason="ticket"), give_up())
    assert list(why(found["tool:1"], NOW / 1000)) == [
        "paused with tool:* by ann@ops 1m ago until 1970-01-01T00:01:20Z: ticket",
        "changes given up by ann@ops 1m ago: gone",
        "PLATFORM.RATE_LIMIT_EXCEEDED: Too many requests.",
    ]
    assert list(why(rows(full())["tool:1"], NOW / 1000))[-1] == "sent again at 1970-01-01T00:01:30Z"
    assert list(why(rows(full())["tool:2"], NOW / 1000)) == []


# --- the decisions as read ------------------------------------------------------------------------


def written(*decisions: Decision | bytes) -> list[TopicRecord]:
    found = []
    for offset, decision in enumerate(decisions):
        key, value = (b"?", decision) if isinstance(decision, bytes) else encode_control(decision)
        found.append(TopicRecord("control", 0, offset, 0, key, value, ()))
    return found


def test_decisions_are_read_as_the_topic_is_when_it_is_compacted() -> None:
    records = written(pause("tool:1"), pause("tool:*", paused=False), pause("tool:1"), b"?")
    read = folded(records, NOW)
    assert read.control.is_paused("tool:1")
    assert read.not_decisions == (records[3],)
    compacted = folded(records[1:], NOW)
    assert compacted.control.pauses == read.control.pauses


def test_a_decision_holds_until_another_one_replaces_it() -> None:
    """As the replicas read it: a tombstone takes effect when the topic is compacted."""
    (record,) = written(pause("tool:1"))
    for value, unread in ((None, 0), (b"{}", 1)):
        read = folded([record, record._replace(offset=1, value=value)], NOW)
        assert read.control.is_paused("tool:1")
        assert len(read.not_decisions) == unread


def test_a_decision_is_described_in_a_sentence() -> None:
    assert described(pause("a", until=NOW, reason="r"), NOW) == (
        "by ann@ops 1m ago, until 1970-01-01T00:01:20.000Z: r"
    )
    assert described(give_up(), NOW) == "by ann@ops 1m ago: gone"


# --- what pause and give-up say -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("earlier", "name", "expected"),
    [
        (
            pause("tool:1"),
            "tool:1",
            "It was paused already by ann@ops 1m ago. The new decision replaces that one.",
        ),
        (
            pause("tool:*"),
            "tool:1",
            "paused already with tool:* by ann@ops 1m ago. The new decision counts for tool:1.",
        ),
        (
            pause("tool:1"),
            "tool:*",
            "tool:1 was paused already by ann@ops 1m ago. The new decision counts for it as well.",
        ),
        (pause("tool:2"), "tool:1", None),
        (pause("tool:1", paused=False), "tool:1", None),
    ],
)
def test_a_pause_says_what_was_paused_before(earlier: Pause, name: str, expected: str | None) -> None:
    found = list(already_paused(control(earlier, wall=NOW), name, NOW))
    assert len(found) == (expected is not None)
    assert expected is None or expected in found[0]


def test_a_pause_says_what_it_concerns() -> None:
    assert list(matches("tool:*", full())) == [
        "tool:*: 3 integrations have waiting or open changes:",
        "  tool:1: 3 waiting, 0 in open tasks",
        "  tool:2: 0 waiting, 1 in open tasks",
        "  tool:3: 1 waiting, 0 in open tasks",
    ]
    assert list(matches("tool:2", full())) == ["tool:2: 0 waiting, 1 in open tasks"]
    assert list(matches("tool:9", full())) == ["tool:9: has no waiting or open changes. Is this its id?"]
    assert list(matches("x*", full())) == ["x*: 0 integrations have waiting or open changes."]
    many = work(*(batch(f"tool:{number:02}", number) for number in range(12)))
    assert list(matches("*", many))[-1] == "  and 2 more: coursesyncd integrations"


def plan(*records: tuple[bytes, journal.Value], course: str | None = None, end: int = 10) -> Plan:
    made = Plan("tool:1", course, "topic", (end,))
    made.add(inspected_partition(POSITION, *records, partition=0))
    return made


TASK = journal.task_key("b-(1, 2)"), Task("t", 60_000)
WAITS = (
    (journal.wait_key("tool:1", "a"), Wait(item(3, "a"), BODY)),
    (journal.wait_key("tool:1", "b"), Wait(item(10, "b"), BODY)),
    (journal.wait_key("tool:2", "a"), Wait(item(4, "a"), BODY)),
)


def test_changes_of_the_integration_before_the_end_are_counted() -> None:
    made = plan(*WAITS, batch("tool:1", 1, 2), TASK, batch("tool:1", 5), batch("tool:2", 6))
    assert (made.waiting, made.submissions, made.submission_changes) == (1, 1, 1)
    assert (made.tasks, made.task_changes, made.shared, made.unread) == (1, 2, 0, 0)
    assert made.question(open_tasks=False) == (
        "Give up 1 waiting change, 1 submission without a task of tool:1?"
    )
    assert "2 changes in 1 open task: go on" in "\n".join(made.told(open_tasks=False))
    assert "1 open task of tool:1?" in made.question(open_tasks=True)
    assert "2 changes in 1 open task: TIMED_OUT" in "\n".join(made.told(open_tasks=True))


def test_a_batch_is_given_up_as_a_whole_or_not_at_all() -> None:
    of_a_course = plan(batch("tool:1", 1, 2), batch("tool:1", 3), TASK, course="c2")
    assert (of_a_course.submissions, of_a_course.tasks, of_a_course.shared) == (0, 0, 1)
    assert "1 submission or open task with other changes as well" in "\n".join(
        of_a_course.told(open_tasks=True)
    )
    assert plan(batch("tool:1", 1, 2), end=2).shared == 1, "the second one came later"


def test_one_course_is_counted_alone() -> None:
    made = plan(*WAITS, course="a")
    assert made.waiting == 1
    assert made.question(open_tasks=False) == "Give up 1 waiting change of tool:1, a?"


def test_records_that_are_not_read_yet_are_counted_for_all_integrations() -> None:
    made = plan(end=120)
    assert (made.unread, made.is_nothing) == (20, False)
    assert list(made.told(open_tasks=False)) == [
        "tool:1: has nothing under way. Is this its id?",
        "not read yet up to 20 records, of all integrations: those of tool:1 are given up when they are read",
    ]
    assert made.question(open_tasks=False) == "Give up what is published of tool:1?"
    never_read = Plan("tool:1", None, "topic", (120,))
    never_read.add(inspected_partition(partition=0))
    assert never_read.unread == 120


def test_if_all_is_read_and_nothing_is_under_way_there_is_nothing_to_do() -> None:
    assert plan().is_nothing
    assert not plan(WAITS[0]).is_nothing
    assert not plan(batch("tool:1", 1, 2), course="c2").is_nothing, "it is not retried"
    blind = plan()
    blind.unreadable = ["partition 1 cannot be read"]
    assert not blind.is_nothing
