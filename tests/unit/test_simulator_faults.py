"""Fault plans: how they are written, and whom and when a rule hits."""

import random
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from tests.sandbox.simulator.faults import (
    DEMO,
    NONE,
    Dice,
    FaultPlan,
    Integration,
    PlanError,
    TaskFails,
    load_plan,
    parse_plan,
)

PLAN = FaultPlan(rules=(TaskFails(probability=0.5, codes=("PLATFORM.TASK_TIMED_OUT",)),), concurrency_limit=3)
TOML = """
concurrency_limit = 3
[[rules]]
fault = "task_fails"
probability = 0.5
codes = ["PLATFORM.TASK_TIMED_OUT"]
"""
JSON = msgspec.json.encode(PLAN).decode()


def test_a_plan_comes_by_name_inline_or_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(TOML)
    (tmp_path / "plan.json").write_text(JSON)
    assert load_plan("none") == NONE
    assert load_plan("demo") == DEMO
    assert load_plan(JSON) == load_plan(f"\n {JSON}") == PLAN
    assert load_plan(str(tmp_path / "plan.toml")) == PLAN
    assert load_plan(str(tmp_path / "plan.json")) == PLAN


def test_the_demo_can_be_written_out_and_read_in_again() -> None:
    assert parse_plan(msgspec.json.encode(DEMO).decode()) == DEMO


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("nightmare", "none, demo"),
        ("/no/such/plan.toml", "No such file"),
        ("{", "not valid"),
        ('{"rules":[{"fault":"task_fials"}]}', "task_fials"),
        ('{"rules":[{"fault":"task_fails","probability":1.5}]}', "probability"),
        ('{"rules":[{"fault":"task_fails","chance":1}]}', "chance"),
        ('{"rules":[{"fault":"task_fails","codes":[]}]}', "codes"),
        ('{"concurrency_limit":0}', "concurrency_limit"),
    ],
)
def test_a_wrong_plan_says_what_is_wrong(argument: str, says: str) -> None:
    with pytest.raises(PlanError, match=says):
        load_plan(argument)


def test_a_file_that_is_no_toml_is_named(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_text("rules = [")
    with pytest.raises(PlanError, match=str(path)):
        load_plan(str(path))


def hits(rule: TaskFails, *integrations: Integration, now: int = 0, began_at: int = 0) -> list[str]:
    dice = Dice(FaultPlan(rules=(rule,)), random.Random(1), began_at, Counter())
    return [one.id for one in integrations if dice.roll(TaskFails, now, one)]


INTEGRATIONS = [Integration(f"{tool}:{number}", number, 0) for number, tool in enumerate("abababab", 1)]


def test_a_rule_can_name_integrations() -> None:
    assert hits(TaskFails(integrations=("a:1", "b:4")), *INTEGRATIONS) == ["a:1", "b:4"]
    assert hits(TaskFails(integrations=("b:*",)), *INTEGRATIONS) == ["b:2", "b:4", "b:6", "b:8"]
    assert hits(TaskFails(integrations=()), *INTEGRATIONS) == []


def test_a_rule_can_hit_every_nth_integration() -> None:
    assert hits(TaskFails(every=3), *INTEGRATIONS) == ["a:3", "b:6"]


@pytest.mark.parametrize(
    ("now", "seen_at", "began_at", "hit"),
    [
        (1_999, 0, 0, False),
        (2_000, 0, 0, True),
        (4_999, 0, 0, True),
        (5_000, 0, 0, False),
        (5_000, 3_000, 0, True),  # counted from the integration's first request…
        (5_000, 0, 4_000, False),  # … or from the start of the plan, if that is later
        (6_000, 0, 4_000, True),
    ],
)
def test_a_rule_can_hold_for_a_while(now: int, seen_at: int, began_at: int, hit: bool) -> None:
    rule = TaskFails(start_seconds=2, end_seconds=5)
    assert bool(hits(rule, Integration("w:1", 1, seen_at), now=now, began_at=began_at)) is hit


def test_the_first_rule_that_hits_is_taken_and_counted() -> None:
    counter: Counter[str] = Counter()
    rules = (TaskFails(probability=0.0), TaskFails(probability=0.5, codes=("A",)), TaskFails(codes=("B",)))
    dice = Dice(FaultPlan(rules=rules), random.Random(1), 0, counter)
    codes: Counter[str] = Counter()
    for _ in range(1000):
        rule = dice.roll(TaskFails, 0, INTEGRATIONS[0])
        assert rule is not None
        codes[rule.codes[0]] += 1
    assert 400 < codes["A"] < 600
    assert codes["A"] + codes["B"] == counter["task_fails"] == 1000
