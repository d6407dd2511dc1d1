"""The tables of `tests.bench.beside` and `tests.bench.isolation` leave nothing out."""

from __future__ import annotations

from collections import Counter

import msgspec

from tests.bench import isolation, killed
from tests.bench.beside import ROWS
from tests.bench.isolation import HEAVY, HEAVY_FACTOR, OTHERS, PLAN, Pair, Run
from tests.sandbox.checker import Kind
from tests.sandbox.simulator.faults import FaultPlan, parse_plan


def test_every_finding_of_the_checker_is_in_one_row() -> None:
    assert Counter(kind for kinds in ROWS.values() for kind in kinds) == Counter(Kind)


def test_both_programs_are_killed_after_the_same_times_at_work() -> None:
    delays = killed.kill_delays(8, seed=1)
    assert len(delays) == 8
    assert delays == killed.kill_delays(8, seed=1)
    assert delays != killed.kill_delays(8, seed=2)


def test_the_others_publish_the_same_with_and_without_the_four() -> None:
    alone = isolation._schedule(20.0, seed=1, beside=False)
    beside = isolation._schedule(20.0, seed=1, beside=True)
    assert [due for due in beside if due.integration_id in OTHERS] == alone
    counts = Counter(due.integration_id for due in beside)
    assert len(counts) == 50
    usual = sum(counts[name] for name in OTHERS) / len(OTHERS)
    assert 0.9 < counts[HEAVY] / (HEAVY_FACTOR * usual) < 1.1


def test_no_fault_concerns_the_others() -> None:
    plan: FaultPlan = parse_plan(msgspec.json.encode(PLAN).decode())
    assert plan == PLAN
    assert all(rule.integrations and not set(rule.integrations) & set(OTHERS) for rule in plan.rules)


def test_growth_is_the_median_of_the_pairs() -> None:
    pairs = [Pair(Run(100, 500, 0.1, 0.0), Run(beside, 500, 0.2, 0.0)) for beside in (110, 150, 90)]
    figures = isolation.figures(pairs)
    assert (figures["post_growth"], figures["result_growth"]) == (0.1, 0.0)
    assert figures["post_growth_each"] == [0.1, 0.5, -0.1]
