"""The states of a partition: a table, a page that is made from it, and what cannot happen."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.runtime.partition_state import TRANSITIONS, PartitionLifecycle, PartitionState, PartitionTrigger
from tests.tools.partition_states_page import page

PAGE = Path(__file__).parents[2] / "docs" / "partition-states.md"


def test_the_page_is_the_table() -> None:
    assert page() == PAGE.read_text(), (
        "python -m tests.tools.partition_states_page > docs/partition-states.md"
    )


def test_every_state_can_be_reached_and_left() -> None:
    reached, open_ = set(), {PartitionState.OPENING}
    while open_:
        state = open_.pop()
        reached.add(state)
        open_ |= {to for (from_, _), to in TRANSITIONS.items() if from_ is state} - reached
    assert reached == set(PartitionState)
    for state in set(PartitionState) - {PartitionState.STOPPING}:
        assert (state, PartitionTrigger.FAILED) in TRANSITIONS or state is PartitionState.BLOCKED
        assert TRANSITIONS[state, PartitionTrigger.STOPPED] is PartitionState.STOPPING


def test_what_cannot_happen_raises() -> None:
    life = PartitionLifecycle()
    with pytest.raises(AssertionError, match="a partition that is opening cannot be proven"):
        life.proven()


def test_a_partition_that_stops_goes_on_stopping() -> None:
    life = PartitionLifecycle()
    life.on(PartitionTrigger.STOPPED)
    for trigger in PartitionTrigger:
        life.on(trigger)
    life.revoke()
    assert life.give_back()
    life.restored()
    assert life.stopping


@pytest.mark.parametrize(
    ("meanwhile", "state"),
    [
        ((), PartitionState.SERVING),
        (("revoke",), PartitionState.SUSPENDED),
        (("revoke", "give_back"), PartitionState.REJOINING),
        (("revoke", "give_back", "revoke"), PartitionState.SUSPENDED),
    ],
)
def test_what_the_group_says_while_a_partition_is_restored_counts_when_it_is(
    meanwhile: tuple[str, ...], state: PartitionState
) -> None:
    life = PartitionLifecycle()
    life.new_producer()
    for said in meanwhile:
        getattr(life, said)()
    assert life.state is PartitionState.OPENING
    life.restored()
    assert life.state is state


def test_a_new_producer_is_proof_of_all_that_was_before_it() -> None:
    life = PartitionLifecycle()
    life.revoke()
    life.give_back()
    life.new_producer()
    life.restored()
    assert life.serving


def test_coming_back_takes_a_proof_and_a_revocation_meanwhile_takes_it_away() -> None:
    life = PartitionLifecycle()
    life.restored()
    assert not life.give_back(), "it was not away"
    life.revoke()
    life.give_back()
    assert life.rejoining
    before = life.revocations
    life.revoke()
    assert (life.state, life.revocations) == (PartitionState.SUSPENDED, before + 1)
    life.give_back()
    life.proven()
    assert life.serving
    assert not life.returned
