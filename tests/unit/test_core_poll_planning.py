"""Plans: they cost less than the growing intervals, keep their bounds, and are the best there are."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.core.poll_planning import GrowingAges, Plan, plan
from daemon.core.schedule import PollIntervals
from daemon.core.task_durations import Sketch

INTERVALS = PollIntervals(first_after=15.0, factor=1.6, interval_max=300.0)
GROWING = GrowingAges(INTERVALS, 100)


def between(low: float, high: float) -> Callable[[Sequence[float]], list[float]]:
    """Any duration between the two, equally likely."""
    return lambda ages: [min(1.0, max(0.0, (age - low) / (high - low))) for age in ages]


def polls_of(found: Plan, until: float) -> list[float]:
    ages = [0.0]
    while ages[-1] < until and (following := found.after(ages[-1])) is not None:
        ages.append(following)
    return ages[1:]


def mean_cost(after: Callable[[float], float], durations: Sequence[float]) -> tuple[float, float]:
    lag = polls = 0.0
    for duration in durations:
        age = 0.0
        while age < duration:
            age = after(age)
            polls += 1
        lag += age - duration
    return lag / len(durations), polls / len(durations)


# --- the growing intervals ------------------------------------------------------------------------


@pytest.mark.parametrize("items", [1, 100, 250])
def test_growing_ages_are_the_sums_of_the_intervals(items: int) -> None:
    growing, age = GrowingAges(INTERVALS, items), 0.0
    for polls in range(40):
        interval = INTERVALS.interval(polls, items)
        assert growing.after(age) == pytest.approx(age + interval)
        age = growing.after(age)
        assert growing.count(age + 0.01) == polls + 1
        assert growing.count(age - 0.01) == polls
    assert growing.shortest == INTERVALS.interval(0, items)
    assert growing.longest == INTERVALS.interval(64, items)


def test_constant_intervals_are_growing_ones_as_well() -> None:
    constant = GrowingAges(PollIntervals(20.0, 1.0, 300.0), 1)
    assert constant.longest == constant.shortest == 20.0
    assert [constant.after(age) for age in (0.0, 19.0, 20.0, 6000.0)] == [20.0, 20.0, 40.0, 6020.0]


@given(st.floats(0.1, 60.0), st.floats(1.0, 3.0), st.floats(60.0, 900.0), st.floats(0.0, 1e6))
def test_the_next_age_is_always_later(first: float, factor: float, longest: float, age: float) -> None:
    growing = GrowingAges(PollIntervals(first, factor, longest), 1)
    for _ in range(5):
        following = growing.after(age)
        assert age < following <= age + growing.longest * 1.001
        age = following


def test_ages_until() -> None:
    assert GROWING.until(100.0) == pytest.approx([15.0, 39.0, 77.4])
    long = GROWING.until(5000.0)
    assert long[-1] < 5000.0 <= GROWING.after(long[-1])
    assert len(long) == GROWING.count(4999.9)


# --- plans ----------------------------------------------------------------------------------------


def test_tasks_that_end_at_one_time_are_polled_then() -> None:
    found = plan(between(240.0, 250.0), GROWING)
    assert found is not None
    first = found.after(0.0)
    assert first is not None
    assert 235.0 < first < 275.0


def test_between_two_humps_there_are_no_polls() -> None:
    early, late = between(30.0, 50.0), between(250.0, 290.0)
    found = plan(lambda ages: [(a + b) / 2 for a, b in zip(early(ages), late(ages), strict=True)], GROWING)
    assert found is not None
    polls = polls_of(found, 300.0)
    assert not [age for age in polls if 75.0 < age < 240.0]
    assert [age for age in polls if age < 60.0]
    assert [age for age in polls if age > 250.0]


@pytest.mark.parametrize(("low", "high"), [(20.0, 30.0), (100.0, 140.0), (1500.0, 1800.0), (0.0, 1000.0)])
def test_a_plan_lowers_lag_and_polls(low: float, high: float) -> None:
    rng = random.Random(3)
    durations = [rng.uniform(low, high) for _ in range(1000)]
    found = plan(between(low, high), GROWING)
    assert found is not None

    def planned(age: float) -> float:
        return found.after(age) or GROWING.after(age)

    lag, polls = mean_cost(planned, durations)
    usual_lag, usual_polls = mean_cost(GROWING.after, durations)
    assert lag < usual_lag
    assert polls < usual_polls * 1.01
    assert lag * polls < 0.9 * usual_lag * usual_polls


def test_no_schedule_of_the_grid_is_cheaper() -> None:
    """Compared with every first and second poll that the bounds allow."""
    ended = between(40.0, 90.0)
    found = plan(ended, GROWING)
    assert found is not None
    rng = random.Random(5)
    durations = [rng.uniform(40.0, 90.0) for _ in range(2000)]

    def product(after: Callable[[float], float]) -> float:
        lag, polls = mean_cost(after, durations)
        return lag * polls

    ours = product(lambda age: found.after(age) or GROWING.after(age))
    for first in range(45, 100, 5):
        for second in range(first + 15, 120, 5):
            ages = [float(first), float(second), *(second + 15.0 * n for n in range(1, 10))]
            other = product(lambda age, ages=ages: next(each for each in ages if each > age))  # type: ignore[misc]
            assert ours < other * 1.1


def test_where_the_growing_intervals_cannot_be_improved_there_is_no_plan() -> None:
    assert plan(between(0.5, 1.0), GROWING) is None, "the first poll comes as soon as it may"
    constant = GrowingAges(PollIntervals(20.0, 1.0, 300.0), 1)
    assert plan(between(200.0, 250.0), constant) is None, "all intervals are equal"


def test_a_plan_ends_where_hardly_any_task_is_open() -> None:
    found = plan(between(100.0, 120.0), GROWING)
    assert found is not None
    assert found.after(100.0) is not None
    assert found.after(130.0) is None


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.floats(0.1, 20_000.0), min_size=20, max_size=60),
    st.sampled_from([(15.0, 1.6, 300.0), (0.1, 1.6, 2.0), (60.0, 3.0, 60.0), (10.0, 1.2, 3600.0)]),
    st.sampled_from([1, 100, 700]),
)
def test_polls_of_a_plan_keep_the_bounds(
    durations: list[float], intervals: tuple[float, float, float], items: int
) -> None:
    sketch, growing = Sketch(), GrowingAges(PollIntervals(*intervals), items)
    for duration in durations:
        sketch.add(duration)
    found = plan(sketch.ended, growing)
    if found is not None:
        for before, after in pairwise([0.0, *polls_of(found, 20_000.0)]):
            assert growing.shortest * 0.999 <= after - before <= growing.longest * 1.001
