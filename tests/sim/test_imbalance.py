"""The daemon's own balance of changes (`coursesync_contract_imbalance`): 0 at every moment of histories full of
faults, and not 0 where something is broken. Nothing else in the simulation judges by it.
"""

from __future__ import annotations

from collections import Counter
from unittest.mock import patch

import pytest

from tests.sim.history import run
from tests.sim.loop import SteppedLoop
from tests.sim.mutants import MUTANTS
from tests.sim.world import World

FIRST_SEED = 6_000_000_000
"""Apart from those of campaigns, hunts and the other tests."""
HISTORIES = 100


def balances(seed: int) -> Counter[int]:
    """How often which balance was seen: of every partition that runs, after every callback of its replica. A scrape
    may come in between any two of them.
    """
    seen: Counter[int] = Counter()
    worlds: list[World] = []
    step = SteppedLoop.step

    def step_and_look(loop: SteppedLoop) -> None:
        step(loop)
        replica = worlds[0].stepping
        if replica is not None and replica.engine is not None:
            for partition, _ in replica.engine._partitions.values():
                if partition.shard is not None:
                    seen[partition.imbalance] += 1

    with patch.object(SteppedLoop, "step", step_and_look):
        run(seed, telling=worlds.append)
    return seen


def test_it_is_0_between_any_two_steps_whatever_happens() -> None:
    seen = sum((balances(FIRST_SEED + number) for number in range(HISTORIES)), Counter())
    assert set(seen) == {0}
    assert seen[0] > 100 * HISTORIES


@pytest.mark.parametrize(
    "name",
    [
        "rejected-without-result",
        "superseded-without-result",
        "waiting-changes-forgotten",
        "split-loses-a-half",
        "results-outside",
        "memory-survives-failure",
        "keys-collide",
    ],
)
def test_a_change_that_is_lost_or_ends_twice_shows(name: str) -> None:
    (mutant,) = [mutant for mutant in MUTANTS if mutant.name == name]
    with mutant.applied():
        assert any(set(balances(FIRST_SEED + number)) - {0} for number in range(HISTORIES))
