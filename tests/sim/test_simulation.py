"""A few hundred histories that must be clean, and the deliberate bugs that must not be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.sim.campaign import run_many
from tests.sim.history import run
from tests.sim.hunt import hunt_all
from tests.sim.mutants import MUTANTS
from tests.sim.telling import quiet

HISTORIES = 300
FIRST_SEED = 5_000_000_000
"""Apart from those of campaigns and hunts."""
PAGE = Path(__file__).parents[2] / "docs" / "simulation.md"


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    quiet()


def test_histories_are_clean() -> None:
    bad = [
        f"{outcome.seed}: {outcome.lines[:3]}"
        for outcome in run_many(range(FIRST_SEED, FIRST_SEED + HISTORIES), os.cpu_count() or 1)
        if not outcome.ok
    ]
    assert not bad, "run one again with python -m tests.sim --only SEED"


def test_a_seed_is_one_history_to_the_byte() -> None:
    first, second = run(FIRST_SEED + 7), run(FIRST_SEED + 7)
    assert first.trace
    assert first.trace == second.trace
    assert (first.steps, first.results, first.lines) == (second.steps, second.results, second.lines)


def test_every_deliberate_bug_is_caught() -> None:
    hunts = list(hunt_all())
    assert len(hunts) == len(MUTANTS)
    assert [one.mutant for one in hunts if not one.caught_by] == []


def test_every_rule_has_a_deliberate_bug() -> None:
    rules = {mutant.rule for mutant in MUTANTS}
    assert {f"R{number}" for number in range(1, 15)} <= rules
    assert {f"C{number}" for number in range(1, 9)} <= rules


def test_the_page_lists_every_deliberate_bug() -> None:
    page = PAGE.read_text()
    assert [mutant.name for mutant in MUTANTS if f"`{mutant.name}`" not in page] == []
