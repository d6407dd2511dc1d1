"""What operators have decided: of all decisions that name an integration, the last one counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.control import Control, GiveUp, Pause, covers, given_up_error, nothing_decided

NOW = 1_000_000


def pause(name: str, *, paused: bool = True, until: int | None = None) -> Pause:
    return Pause(name, paused, until, "ann", None, 0)


def resume(name: str) -> Pause:
    return pause(name, paused=False)


def give_up(
    *before: int,
    integration: str = "tool:1",
    course: str | None = None,
    open_tasks: bool = False,
    topic: str = "topic",
) -> GiveUp:
    return GiveUp(integration, course, open_tasks, topic, before, "ann", None, 0)


def control(*decisions: Pause | GiveUp, wall: int = NOW) -> Control:
    """With decisions at the offsets 0, 1, …, at this time."""
    made = Control()
    for offset, decision in enumerate(decisions):
        made.apply(offset, decision)
    made.loaded()
    made.advance(wall)
    return made


def names(pauses: list[Pause]) -> list[str]:
    return [each.integration for each in pauses]


# --- before the topic is read ---------------------------------------------------------------------


def test_until_all_decisions_are_read_everything_is_paused() -> None:
    made = Control()
    made.apply(0, resume("*"))
    made.advance(NOW)
    assert made.is_paused("tool:1")
    made.loaded()
    assert not made.is_paused("tool:1")
    made.clear()
    assert made.is_paused("tool:1"), "the topic was created again"


def test_what_may_change_the_answers_changes_the_version() -> None:
    made = control()
    versions = [(made.version, made.give_up_version)]

    def changes() -> tuple[bool, bool]:
        versions.append((made.version, made.give_up_version))
        before, after = versions[-2:]
        return after[0] > before[0], after[1] > before[1]

    made.loaded()
    assert changes() == (False, False), "it was loaded before"
    made.apply(0, pause("a", until=NOW + 1))
    assert changes() == (True, False)
    made.apply(1, give_up(1))
    assert changes() == (True, True)
    made.advance(NOW)
    assert changes() == (False, False)
    made.advance(NOW + 1)
    assert changes() == (True, False), "the pause is over"
    made.clear()
    assert changes() == (True, True)
    assert made.pauses == []
    assert list(made.given_up) == []


# --- pauses ---------------------------------------------------------------------------------------


def test_without_a_decision_nothing_is_paused() -> None:
    assert not nothing_decided().is_paused("tool:1")
    assert nothing_decided().pause("tool:1") is None


def test_an_id_names_one_integration() -> None:
    made = control(pause("tool:1"))
    assert made.pause("tool:1") == pause("tool:1")
    assert not made.is_paused("tool:12")


def test_a_pattern_names_all_ids_that_begin_with_it() -> None:
    made = control(pause("tool:*"))
    assert made.is_paused("tool:1")
    assert made.is_paused("tool:")
    assert not made.is_paused("tool")
    assert control(pause("*")).is_paused("anything")


@pytest.mark.parametrize(
    ("decisions", "expected"),
    [
        ((pause("tool:*"), resume("tool:1")), False),
        ((resume("tool:1"), pause("tool:*")), True),
        ((pause("tool:1"), resume("tool:*")), False),
        ((resume("*"), pause("tool:*"), resume("t*")), False),
        ((pause("tool:1"), resume("tool:1"), pause("tool:1")), True),
        ((pause("tool:1"), resume("other:*")), True),
    ],
)
def test_the_last_decision_that_names_an_integration_counts(
    decisions: tuple[Pause, ...], expected: bool
) -> None:
    assert control(*decisions).is_paused("tool:1") is expected


def test_the_offset_orders_decisions_not_the_order_of_reading() -> None:
    made = Control()
    made.apply(7, resume("tool:1"))
    made.apply(3, pause("tool:*"))
    made.loaded()
    made.advance(NOW)
    assert not made.is_paused("tool:1")


def test_a_pause_ends_by_itself_at_its_time() -> None:
    made = control(pause("tool:1", until=NOW), wall=NOW - 1)
    assert made.is_paused("tool:1")
    made.advance(NOW)
    assert not made.is_paused("tool:1")


def test_when_a_pause_is_over_the_decision_before_it_counts_again() -> None:
    made = control(pause("tool:*"), pause("tool:1", until=NOW), wall=NOW - 1)
    assert made.pause("tool:1") == pause("tool:1", until=NOW)
    made.advance(NOW)
    assert made.pause("tool:1") == pause("tool:*")
    resumed = control(pause("tool:*"), resume("tool:1"), pause("t*", until=NOW), wall=NOW - 1)
    assert resumed.is_paused("tool:1")
    resumed.advance(NOW)
    assert not resumed.is_paused("tool:1")


def test_the_pauses_that_hold_are_listed_in_the_order_of_the_decisions() -> None:
    made = control(pause("c"), pause("a*", until=NOW + 1), pause("b"), resume("b"), pause("over", until=NOW))
    assert names(made.pauses) == ["c", "a*"]


def test_a_pause_is_not_listed_if_a_later_decision_names_all_it_named() -> None:
    assert names(control(pause("tool:1"), resume("tool:*")).pauses) == []
    assert names(control(pause("tool:1"), pause("tool:*")).pauses) == ["tool:*"]
    assert names(control(pause("tool:*"), resume("tool:1")).pauses) == ["tool:*"], "others are still paused"
    assert names(control(pause("tool:*"), resume("t*")).pauses) == []
    over = control(pause("tool:1"), pause("tool:*", until=NOW))
    assert names(over.pauses) == ["tool:1"], "the later one is over"


@pytest.mark.parametrize(
    ("within", "expected"),
    [
        ("tool:*", ["*", "tool:1"]),
        ("tool:1", ["tool:1"]),
        ("tool:2", ["*"]),
        ("other:*", []),
        ("other:1", []),
        ("o*", ["*"]),
    ],
)
def test_pauses_within_a_pattern_are_those_that_count_for_a_part_of_it(
    within: str, expected: list[str]
) -> None:
    assert names(control(pause("*"), pause("tool:1"), resume("other:*")).pauses_within(within)) == expected


NAMES = st.sampled_from(["*", "a*", "ab*", "a", "ab", "b", "b*"])
PAUSES = st.builds(pause, NAMES, paused=st.booleans(), until=st.sampled_from([None, NOW, NOW + 1]))


@given(st.lists(PAUSES, max_size=6), st.sampled_from(["a", "ab", "abc", "b", "c"]))
def test_the_lists_agree_with_the_decision_of_each_integration(
    decisions: list[Pause], integration: str
) -> None:
    made = control(*decisions)
    found = made.pause(integration)
    assert made.pauses_within(integration) == ([] if found is None else [found])
    assert found is None or found in made.pauses


@given(NAMES, NAMES)
def test_a_name_covers_another_if_it_names_all_that_the_other_names(one: str, other: str) -> None:
    ids = ["", "a", "ab", "abc", "ax", "b", "bx", "c"]

    def named(name: str) -> set[str]:
        return {id_ for id_ in ids if id_ == name or (name.endswith("*") and id_.startswith(name[:-1]))}

    assert covers(one, other) is (named(other) <= named(one))


# --- what is given up -----------------------------------------------------------------------------


def test_changes_before_the_offset_of_their_partition_are_given_up() -> None:
    decision = give_up(10, 20)
    made = control(decision)
    assert made.give_up("tool:1", "c", "topic", 0, 9) == decision
    assert made.give_up("tool:1", "c", "topic", 0, 10) is None
    assert made.give_up("tool:1", "c", "topic", 1, 19) == decision
    assert made.give_up("tool:1", "c", "topic", 2, 0) is None, "the partition was added later"
    assert made.give_up("tool:2", "c", "topic", 0, 0) is None


def test_in_a_topic_that_was_created_again_nothing_is_given_up() -> None:
    assert control(give_up(10)).give_up("tool:1", "c", "another", 0, 0) is None


def test_one_course_is_given_up_without_the_others() -> None:
    made = control(give_up(10, course="c"))
    assert made.give_up("tool:1", "c", "topic", 0, 0) is not None
    assert made.give_up("tool:1", "d", "topic", 0, 0) is None


def test_the_last_decision_replaces_the_one_of_the_same_key() -> None:
    made = control(give_up(10), give_up(20))
    assert made.give_up("tool:1", "c", "topic", 0, 15) == give_up(20)
    assert made.given_up_of("tool:1") == [give_up(20)]


@pytest.mark.parametrize("in_order", [True, False])
def test_of_several_one_that_ends_open_tasks_counts(in_order: bool) -> None:
    course, all_courses = give_up(10, course="c", open_tasks=in_order), give_up(10, open_tasks=not in_order)
    found = control(course, all_courses).give_up("tool:1", "c", "topic", 0, 0)
    assert found is not None
    assert found.open_tasks


def test_what_was_given_up_is_listed_by_integration() -> None:
    made = control(give_up(1), give_up(2, course="c"), give_up(3, integration="tool:2"), pause("tool:3"))
    assert set(made.given_up) == {"tool:1", "tool:2"}
    assert made.given_up_of("tool:1") == [give_up(1), give_up(2, course="c")]
    assert made.given_up_of("tool:3") == []


def test_the_result_of_a_given_up_change_says_who_and_why() -> None:
    error = given_up_error(GiveUp("tool:1", None, False, "topic", (1,), "ann@ops", "tool gone", 0))
    assert error.code == "COURSESYNC.GIVEN_UP"
    assert error.message.startswith("ann@ops has given up this change: tool gone. ")
    assert given_up_error(give_up(1)).message.startswith("ann has given up this change. ")
