"""Learned polls: when a plan counts, its bounds, and its budget."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from daemon.core import learned_polls
from daemon.core.learned_polls import (
    JITTER,
    PLANNING_INTERVAL,
    PLANS_MAX,
    TASKS_MIN,
    TIMEOUT_MARGIN,
    LearnedPolls,
    PollProgress,
    PollTerms,
)
from daemon.core.poll_planning import Ended, GrowingAges, Plan, plan
from daemon.core.schedule import PollIntervals
from daemon.core.task_durations import likeness

INTERVALS = PollIntervals(first_after=15.0, factor=1.6, interval_max=300.0)
DAY = 86_400.0
ITEMS = 100
SPREAD = JITTER * INTERVALS.first_after


def terms(
    integration_id: str = "tool:1",
    items: int = ITEMS,
    *,
    intervals: PollIntervals = INTERVALS,
    timeout: float = DAY,
    seed: int = 7,
) -> PollTerms:
    return PollTerms(likeness(integration_id, items), items, seed, intervals, timeout)


def teach(learned: LearnedPolls, *durations: float, of: PollTerms | None = None) -> None:
    """Tasks have ended, and a poll has seen each of them a minute later."""
    for duration in durations:
        learned.ended(of or terms(), PollProgress(3, 0.0), duration + 60.0, duration, 1)


def taught(*durations: float) -> LearnedPolls:
    learned = LearnedPolls()
    teach(learned, *durations)
    return learned


def poll_ages(learned: LearnedPolls, until: float, of: PollTerms, progress: PollProgress) -> list[float]:
    """The polls of a task that stays pending."""
    ages, age = [], 0.0
    while age < until:
        age += learned.delay(of, progress, age, 1e6)
        ages.append(age)
        learned.polled(of, progress, age, 1)
    return ages


ABOUT_FOUR_MINUTES = [240.0 + number % 20 for number in range(TASKS_MIN)]


# --- when a plan counts ---------------------------------------------------------------------------


@pytest.mark.parametrize("known", [0, TASKS_MIN - 1])
def test_without_enough_data_polls_are_exactly_those_of_the_growing_intervals(known: int) -> None:
    learned, progress = taught(*ABOUT_FOUR_MINUTES[:known]), PollProgress()
    age = 0.0
    for polls in range(20):
        delay = learned.delay(terms(), progress, age, 0.0)
        assert delay == INTERVALS.delay(polls, ITEMS, 7)
        age += delay
        learned.polled(terms(), progress, age, 1)
    assert learned.saved == 0


def test_tasks_are_polled_when_they_are_likely_to_have_ended() -> None:
    delay = taught(*ABOUT_FOUR_MINUTES).delay(terms(), PollProgress(), 0.0, 0.0)
    assert 235.0 < delay < 300.0


@pytest.mark.parametrize("other", [terms("elsewhere:1"), terms(items=1)], ids=["tool", "size"])
def test_other_tasks_are_not_planned(other: PollTerms) -> None:
    learned, progress = taught(*ABOUT_FOUR_MINUTES), PollProgress()
    assert learned.delay(other, progress, 0.0, 0.0) == INTERVALS.delay(0, other.items, 7)
    assert not progress.is_planned


def test_a_task_that_began_without_a_plan_follows_one_later() -> None:
    learned, progress = LearnedPolls(), PollProgress()
    first = learned.delay(terms(), progress, 0.0, 0.0)
    learned.polled(terms(), progress, first, 1)
    teach(learned, *ABOUT_FOUR_MINUTES)
    assert 235.0 < first + learned.delay(terms(), progress, first, 0.0) < 300.0


def test_a_tool_that_becomes_slower_is_followed() -> None:
    learned = taught(*ABOUT_FOUR_MINUTES)
    learned.delay(terms(), PollProgress(), 0.0, 0.0)
    rng = random.Random(2)
    for now in range(1, 15):
        teach(learned, *(rng.uniform(280.0, 290.0) for _ in range(TASKS_MIN)))
        delay = learned.delay(terms(), PollProgress(), 0.0, now * PLANNING_INTERVAL)
    assert delay > 280.0


def test_a_plan_is_kept_for_some_tasks_and_some_time(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def counted(ended: Ended, growing: GrowingAges) -> Plan | None:
        made.append(growing)
        return plan(ended, growing)

    monkeypatch.setattr(learned_polls, "plan", counted)
    learned = taught(*ABOUT_FOUR_MINUTES)
    other = terms("other:1")
    teach(learned, *ABOUT_FOUR_MINUTES, of=other)

    def poll(of: PollTerms, now: float) -> int:
        learned.delay(of, PollProgress(), 0.0, now)
        return len(made)

    assert poll(terms(), 0.0) == 1
    assert poll(terms(), 10.0) == 1, "no other task has ended"
    assert poll(other, 0.5) == 1, "too soon after the last plan"
    assert poll(other, PLANNING_INTERVAL) == 2
    teach(learned, *ABOUT_FOUR_MINUTES[1:])
    assert poll(terms(), 20.0) == 2
    teach(learned, 240.0)
    assert poll(terms(), 20.0) == 3


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learned_polls, "PLANS_MAX", 3)
    learned = LearnedPolls()
    for number in range(10):
        each = terms(f"tool-{number}:1", intervals=INTERVALS._replace(interval_max=300.0 + number))
        teach(learned, *ABOUT_FOUR_MINUTES, of=each)
        learned.delay(each, PollProgress(), 0.0, number * PLANNING_INTERVAL)
    assert len(learned._plans) == len(learned._growing) == 3
    assert PLANS_MAX > 3


# --- what is learned ------------------------------------------------------------------------------


def test_an_end_that_the_api_does_not_report_lies_between_two_polls() -> None:
    learned = LearnedPolls()
    for _ in range(TASKS_MIN):
        learned.ended(terms(), PollProgress(2, age=200.0), 260.0, None, 1)
    (share,) = learned._durations.get(terms().alike).ended([200.0])  # type: ignore[union-attr]
    assert share < 0.2
    assert 225.0 < learned.delay(terms(), PollProgress(), 0.0, 0.0) < 290.0


@pytest.mark.parametrize(("reported", "known"), [(-5.0, 0.0), (1e9, 100.0), (50.0, 50.0)])
def test_a_duration_is_no_longer_than_the_age_and_not_negative(reported: float, known: float) -> None:
    learned, expected = LearnedPolls(), LearnedPolls()
    learned.ended(terms(), PollProgress(), 100.0, reported, 1)
    expected.ended(terms(), PollProgress(), 100.0, known, 1)
    ages = [10.0, 60.0, 200.0]
    sketches = [each._durations.get(terms().alike) for each in (learned, expected)]
    assert sketches[0].ended(ages) == sketches[1].ended(ages)  # type: ignore[union-attr]


# --- bounds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("items", [ITEMS, 1000])
@pytest.mark.parametrize("durations", [(20.0,), (240.0, 250.0), (5000.0, 6000.0), (20.0, 900.0)])
def test_planned_polls_keep_the_bounds_of_the_growing_intervals(
    durations: tuple[float, ...], items: int
) -> None:
    learned = LearnedPolls()
    teach(learned, *durations * TASKS_MIN, of=terms(items=ITEMS))
    learned.saved = 1000
    of, age = terms(items=items), 0.0
    for following in poll_ages(learned, 9000.0, of, PollProgress()):
        least, most = INTERVALS.interval(0, items), INTERVALS.interval(64, items)
        assert least <= following - age <= most + JITTER * least
        age = following


def test_a_plan_does_not_skip_a_time_out() -> None:
    learned = taught(*[*[40.0] * 4, 400.0] * 20)
    polls = poll_ages(learned, 350.0, terms(), PollProgress())
    before, after = max(pairwise(polls), key=lambda pair: pair[1] - pair[0])
    assert after - before > 100.0
    timeout = (before + after) / 2
    learned.saved = 4
    noticing = poll_ages(learned, 500.0, terms(timeout=timeout), PollProgress())
    over = timeout + TIMEOUT_MARGIN
    assert over <= min(age for age in noticing if age > timeout) <= over + SPREAD


def test_a_poll_for_a_time_out_comes_no_sooner_than_it_may() -> None:
    learned = taught(*[*[40.0] * 4, 400.0] * 20)
    polls = poll_ages(learned, 350.0, terms(), PollProgress())
    before, _ = max(pairwise(polls), key=lambda pair: pair[1] - pair[0])
    learned.saved = 4
    noticing = poll_ages(learned, 500.0, terms(timeout=before + 2.0), PollProgress())
    gaps = [after - before for before, after in pairwise([0.0, *noticing])]
    assert min(gaps) >= INTERVALS.first_after


def test_polls_after_the_plan_are_those_of_the_growing_intervals() -> None:
    learned, progress = taught(*[40.0] * 200), PollProgress()
    polls = poll_ages(learned, 20_000.0, terms(), progress)
    assert progress.is_planned
    assert polls[-1] - polls[-2] == pytest.approx(300.0, abs=SPREAD)


def test_after_a_poll_that_showed_nothing_the_growing_intervals_count() -> None:
    learned, progress = taught(*ABOUT_FOUR_MINUTES), PollProgress()
    age = learned.delay(terms(), progress, 0.0, 0.0)
    learned.polled(terms(), progress, age, 1)
    delay = learned.delay_unplanned(terms(), progress, age)
    assert INTERVALS.first_after <= delay <= 300.0 + SPREAD


# --- the budget -----------------------------------------------------------------------------------


def test_what_a_plan_saves_may_be_spent() -> None:
    learned, progress = taught(*ABOUT_FOUR_MINUTES), PollProgress()
    age = learned.delay(terms(), progress, 0.0, 0.0)
    assert learned.saved == 0
    assert not progress.is_early
    learned.polled(terms(), progress, age, 1)
    saved = learned.saved
    assert saved > 0, "the growing intervals have had several polls by then"
    delay = learned.delay(terms(), progress, age, 0.0)
    assert progress.is_early
    assert delay < 60.0
    assert learned.saved == saved - 1


def test_without_a_budget_a_task_waits_for_its_growing_interval() -> None:
    learned, progress = taught(*ABOUT_FOUR_MINUTES), PollProgress()
    age = learned.delay(terms(), progress, 0.0, 0.0)
    learned.polled(terms(), progress, age, 1)
    learned.saved = 0
    delay = learned.delay(terms(), progress, age, 0.0)
    assert not progress.is_early
    assert learned.saved == 0
    assert delay > 90.0


def test_what_is_saved_is_bounded_by_the_scheduled_tasks() -> None:
    learned = taught(*ABOUT_FOUR_MINUTES)
    for scheduled, most in ((1, 4), (3, 12), (0, 4)):
        for _ in range(20):
            progress = PollProgress()
            age = learned.delay(terms(), progress, 0.0, 0.0)
            learned.polled(terms(), progress, age, scheduled)
        assert learned.saved == most


def test_an_end_gives_back_what_the_growing_intervals_would_have_spent() -> None:
    """They make a poll after the end as well, and so do the polls that were saved before it."""
    learned = taught(*ABOUT_FOUR_MINUTES)
    late, early = PollProgress(), PollProgress()
    age = learned.delay(terms(), late, 0.0, 0.0)
    learned.ended(terms(), late, age, 60.0, 10)
    assert learned.saved == 2, "at 15 and 39 s"
    learned.saved, early.age, early.is_planned, early.is_early = 0, 200.0, True, True
    learned.ended(terms(), early, 220.0, 215.0, 10)
    assert learned.saved == 1


def test_together_tasks_make_no_more_polls_than_by_the_growing_intervals() -> None:
    """Even if they take longer than all that were learned."""
    learned, growing_polls, polls = taught(*[30.0] * 30, *[600.0, 640.0] * 3), 0, 0
    for seed in range(200):
        of = terms(seed=seed)
        ages = poll_ages(learned, 700.0, of, PollProgress())
        polls += len(ages)
        growing_polls += learned._growing_ages(of).count(ages[-1])
    assert polls <= growing_polls
