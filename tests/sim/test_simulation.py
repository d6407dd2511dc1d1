"""A few hundred histories that must be clean, and the deliberate bugs that must not be."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.sim.campaign import parse, run_many, shrink_and_show, summary
from tests.sim.history import run
from tests.sim.hunt import PAGE, hunt_all, hunt_by_the_page
from tests.sim.mutants import MUTANTS
from tests.sim.parameters import Kind

HISTORIES = 300
FIRST_SEED = 5_000_000_000
"""Apart from those of campaigns and hunts."""


def test_histories_are_clean_and_a_seed_is_one_history_to_the_byte() -> None:
    """The same seeds in other processes, whose hashes differ, must send and write the very same bytes."""
    seeds = range(FIRST_SEED, FIRST_SEED + HISTORIES)
    outcomes = list(run_many(seeds, os.cpu_count() or 1))
    bad = [f"{outcome.seed}: {outcome.lines[:3]}" for outcome in outcomes if not outcome.ok]
    assert not bad, "run one again with python -m tests.sim --only SEED"
    assert {outcome.kind for outcome in outcomes} == set(Kind)
    for outcome in outcomes[::15]:
        again = run(outcome.seed)
        assert (again.digest, again.steps, again.lines) == (outcome.digest, outcome.steps, outcome.lines)
    assert len({outcome.digest for outcome in outcomes}) == HISTORIES


def test_every_deliberate_bug_is_caught() -> None:
    hunts = list(hunt_all(hunt_by_the_page))
    assert len(hunts) == len(MUTANTS)
    assert [one.mutant for one in hunts if not one.caught_by] == []


def test_every_rule_has_a_deliberate_bug() -> None:
    rules = {mutant.rule for mutant in MUTANTS}
    assert {f"R{number}" for number in range(1, 15)} <= rules
    assert {f"C{number}" for number in range(1, 9)} <= rules


def test_the_page_lists_every_deliberate_bug() -> None:
    page = PAGE.read_text()
    assert [mutant.name for mutant in MUTANTS if f"| `{mutant.name}` | {mutant.breaks} |" not in page] == []


def test_a_failing_history_is_reduced_and_can_be_run_again(capsys: pytest.CaptureFixture[str]) -> None:
    with deliberate("rejected-without-result"):
        failed = next(outcome for outcome in map(run, range(FIRST_SEED, FIRST_SEED + 50)) if not outcome.ok)
        shrink_and_show(failed)
        printed = capsys.readouterr().out
        assert "no result" in printed
        again = parse(shlex.split(printed.rsplit("python -m tests.sim", 1)[1]))
        assert again.only is not None
        reduced = run(again.only, without=again.left_out)
        assert "lost" in reduced.counts
        assert reduced.changes == 1, "one record that is rejected is all it takes"
        assert not reduced.faults, "none of the faults is needed"
    assert run(again.only, without=again.left_out).ok


def test_the_line_at_the_end_counts_what_was_broken() -> None:
    with deliberate("completed-means-succeeded"):
        outcomes = list(map(run, range(FIRST_SEED, FIRST_SEED + 50)))
    line = summary(7, outcomes, 1.5)
    assert line["histories"] == 50
    assert line["changes"] == sum(outcome.changes for outcome in outcomes)
    assert line["false_successes"] == sum(outcome.counts["false_successes"] for outcome in outcomes) > 0
    assert line["bad_histories"] == sum(not outcome.ok for outcome in outcomes)
    for column in ("lost", "duplicate", "misordered", "unconverged", "crashes", "zombies", "rebalances"):
        assert isinstance(line[column], int)


@contextmanager
def deliberate(name: str) -> Iterator[None]:
    with next(mutant for mutant in MUTANTS if mutant.name == name).applied():
        yield
