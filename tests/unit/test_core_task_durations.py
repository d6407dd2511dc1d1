"""The sketch of task durations: what it knows after some tasks, and how it forgets."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from daemon.core import task_durations
from daemon.core.task_durations import (
    BINS,
    MEMORY,
    SHORTEST,
    SKETCHES_MAX,
    Likeness,
    SizeClass,
    Sketch,
    TaskDurations,
    likeness,
    size_class,
)


def sketch(*durations: float) -> Sketch:
    found = Sketch()
    for seconds in durations:
        found.add(seconds)
    return found


def test_the_share_that_has_ended_is_that_of_the_durations() -> None:
    rng = random.Random(7)
    durations = [rng.uniform(60.0, 120.0) for _ in range(2000)]
    young, middle, old = sketch(*durations).ended([50.0, 90.0, 140.0])
    assert young < 0.02
    assert middle == pytest.approx(0.5, abs=0.15)
    assert 0.97 < old < 1.0, "an age at which all have ended is never certain"


def test_shares_grow_with_the_age_and_never_reach_one() -> None:
    ages = [0.0, *(SHORTEST * 1.07**n for n in range(300))]
    shares = sketch(0.0, 0.05, 3.0, 400.0, 1e9).ended(ages)
    assert shares[0] == 0.0
    assert all(before < after for before, after in pairwise(shares))
    assert shares[-1] < 1.0


def test_the_median_is_that_of_the_durations_to_within_two_bins() -> None:
    assert sketch(*[10.0] * 3, *[500.0] * 2).median == pytest.approx(10.0, rel=0.2)


def test_durations_outside_the_bins_are_counted_in_the_first_and_the_last_one() -> None:
    assert sketch(0.0).median < SHORTEST * 1.1
    assert sketch(1e12).median == pytest.approx(SHORTEST * 2 ** (BINS / 8), rel=0.1)


def test_the_last_tasks_have_most_of_the_weight() -> None:
    found = sketch(*[10.0] * 1000, *[500.0] * int(MEMORY))
    (share,) = found.ended([100.0])
    assert share == pytest.approx(0.37, abs=0.03), "1/e"
    for _ in range(3 * int(MEMORY)):
        found.add(500.0)
    (share,) = found.ended([100.0])
    assert share < 0.05


def test_weights_stay_in_range(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = sketch(*[20.0, 90.0] * 200).ended([50.0, 100.0])
    monkeypatch.setattr(task_durations, "WEIGHT_MAX", 1.5)
    found = sketch(*[20.0, 90.0] * 200)
    assert found.ended([50.0, 100.0]) == pytest.approx(expected)
    assert found.tasks == 400


@pytest.mark.parametrize(
    ("items", "size"),
    [(1, SizeClass.SINGLE), (2, SizeClass.SMALL), (20, SizeClass.SMALL), (21, SizeClass.LARGE)],
)
def test_size_classes(items: int, size: SizeClass) -> None:
    assert size_class(items) is size


def test_tasks_of_one_tool_and_size_are_alike() -> None:
    assert likeness("workday:a", 50) == likeness("workday:b:c", 100) == Likeness("workday", SizeClass.LARGE)
    assert likeness("workday:a", 50) != likeness("workday:a", 1)
    assert likeness("workday", 1).tool == "workday"


def test_the_sketches_whose_tasks_ended_last_are_kept() -> None:
    durations = TaskDurations()
    for number in range(SKETCHES_MAX):
        durations.add(likeness(f"tool-{number}:1", 1), 5.0)
    durations.add(likeness("tool-0:1", 1), 5.0)
    durations.add(likeness("one-more:1", 1), 5.0)
    assert len(durations) == SKETCHES_MAX
    kept = durations.get(likeness("tool-0:2", 1))
    assert kept is not None
    assert kept.tasks == 2
    assert durations.get(likeness("tool-1:1", 1)) is None
