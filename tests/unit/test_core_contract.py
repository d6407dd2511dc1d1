"""The contract, of one shard, in any history: random changes, answers of all kinds, time, crashes anywhere."""

import random
from collections import Counter

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from daemon.config import Settings
from tests.unit.core_world import FULL, SETTINGS, UNUSUAL, USUAL, Action, World


def run(seed: int, steps: int, trouble: float, settings: Settings = SETTINGS) -> World:
    """One history; returns the world as it has healed."""
    r = random.Random(seed)
    world = World(seed, settings)
    for _ in range(steps):
        action = r.choice(UNUSUAL if r.random() < trouble else USUAL)
        action(world, r)
        world.check()
    world.heal()
    return world


@pytest.mark.parametrize("trouble", [0.0, 0.05, 0.3])
def test_long_histories(trouble: float) -> None:
    statuses: set[str] = set()
    codes: set[str | None] = set()
    corrections = 0
    for seed in range(90):
        world = run(seed, 500, trouble)
        statuses |= {result.status.value for result in world.bench.results.values()}
        codes |= {result.error.code for result in world.bench.results.values() if result.error is not None}
        corrections += len(world.bench.corrections)
    # A test that never comes where it wants to go proves nothing.
    assert statuses >= {"SUCCEEDED", "FAILED", "SUPERSEDED", "REJECTED", "UNCHANGED"}
    assert codes >= {"PLATFORM.INPUT_INVALID", "COURSESYNC.COURSE_UNKNOWN", None}
    if trouble:
        assert "TIMED_OUT" in statuses
        assert "COURSESYNC.STALE_REPLAY" in codes
        assert "COURSESYNC.DEACTIVATION_UNCONFIRMED" in codes
        assert "COURSESYNC.OUTCOME_CONTRADICTORY" in codes
        assert corrections


def test_long_histories_at_full_limits() -> None:
    codes: Counter[str | None] = Counter()
    for seed in range(40):
        world = run(seed, 500, 0.05, FULL)
        codes.update(r.error.code for r in world.bench.results.values() if r.status == "REJECTED" and r.error)
    assert codes["COURSESYNC.BACKLOG_FULL"] > 300


SEEDS = st.integers(0, 1023)


class ShardMachine(RuleBasedStateMachine):
    """The same world, its history chosen, and made short when it fails, by hypothesis."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    @rule(action=st.sampled_from(USUAL), seed=SEEDS)
    def usual(self, action: Action, seed: int) -> None:
        action(self.world, random.Random(seed))

    @rule(seed=SEEDS)
    def one_change_goes_its_way(self, seed: int) -> None:
        """Publish to seal to POST, committed between: what random steps alone seldom bring together."""
        r = random.Random(seed)
        for action in (World.publish, World.read, World.pass_time, World.tick, World.take_step, World.commit):
            action(self.world, r)
        self.world.submit(r)

    @rule(action=st.sampled_from(UNUSUAL), seed=SEEDS)
    def unusual(self, action: Action, seed: int) -> None:
        action(self.world, random.Random(seed))

    @invariant()
    def all_is_well(self) -> None:
        self.world.check()

    def teardown(self) -> None:
        self.world.heal()


ShardMachine.TestCase.settings = hypothesis_settings(
    max_examples=100, stateful_step_count=40, deadline=None, derandomize=True
)
TestShardInAnyHistory = ShardMachine.TestCase
