"""When an integration that was refused is sent to again, and what it counts as meanwhile."""

import random
from collections import Counter
from typing import Any

import pytest

from daemon.core.breaker import BackOff, Breaker, Census, IntegrationState
from tests.unit.core_bench import settings_with

HEALTHY, THROTTLED, BREAKER_OPEN, PARKED = IntegrationState


def test_the_states_are_those_that_operators_know() -> None:
    assert [state.value for state in IntegrationState] == ["healthy", "throttled", "breaker_open", "parked"]


def test_a_refusal_opens_it_and_a_good_answer_closes_it() -> None:
    breaker = Breaker(Census())
    assert breaker.state is HEALTHY
    breaker.strike(BREAKER_OPEN)
    breaker.open(10.0)
    breaker.back_off_ended()
    assert breaker.state is BREAKER_OPEN, "the probe has not come back"
    breaker.succeeded()
    assert breaker.state is HEALTHY


def test_a_good_answer_shortens_no_wait() -> None:
    breaker = Breaker(Census())
    breaker.strike(THROTTLED)
    breaker.open(10.0)
    breaker.succeeded()
    assert (breaker.state, breaker.until) == (THROTTLED, 10.0)
    breaker.back_off_ended()
    assert breaker.state is HEALTHY


def test_a_wait_is_never_shortened() -> None:
    breaker = Breaker(Census())
    assert breaker.open(300.0) == 300.0
    assert breaker.open(2.0) == 300.0


def test_the_last_refusal_tells_the_state_but_only_a_good_answer_ends_parking() -> None:
    breaker = Breaker(Census())
    for state, shown in (
        (BREAKER_OPEN, BREAKER_OPEN),
        (THROTTLED, THROTTLED),
        (PARKED, PARKED),
        (BREAKER_OPEN, PARKED),
    ):
        breaker.strike(state)
        breaker.open(1.0)
        breaker.back_off_ended()
        assert breaker.state is shown
    breaker.succeeded()
    breaker.strike(BREAKER_OPEN)
    assert breaker.state is BREAKER_OPEN


def test_what_was_under_way_together_counts_once() -> None:
    breaker = Breaker(Census())
    for _ in range(8):
        assert breaker.strike(BREAKER_OPEN) == 0
        breaker.open(1.0)
    breaker.back_off_ended()
    assert breaker.strike(BREAKER_OPEN) == 1


def test_parking_begins_anew_whatever_went_before() -> None:
    breaker = Breaker(Census())
    for _ in range(5):
        breaker.strike(BREAKER_OPEN)
    assert breaker.strike(PARKED) == 0
    assert breaker.strike(PARKED) == 1


def test_the_census_is_what_counting_all_of_them_gives() -> None:
    rng, census = random.Random(3), Census()
    breakers = [Breaker(census) for _ in range(20)]
    for step in range(3000):
        breaker = rng.choice(breakers)
        match rng.randrange(5):
            case 0 | 1:
                breaker.strike(rng.choice([THROTTLED, BREAKER_OPEN, PARKED]))
                breaker.open(step + 5.0)
            case 2:
                breaker.back_off_ended()
            case 3:
                breaker.succeeded()
            case 4:
                breaker.leave_census()
                breakers.remove(breaker)
                breakers.append(Breaker(census))
        assert +census == Counter(each.state for each in breakers)


# --- how long -------------------------------------------------------------------------------------


def drawn(method: str, before: int, *arguments: float | None, **groups: Any) -> list[float]:
    settings = settings_with(**groups)
    policy = () if method == "slow" else (settings.retry,)
    return [
        getattr(BackOff(settings, random.Random(seed)), method)(*policy, before, *arguments)
        for seed in range(300)
    ]


@pytest.mark.parametrize(("before", "bound"), list(enumerate([1, 2, 4, 8, 16, 32, 60, 60])))
def test_a_failure_is_followed_by_full_jitter_below_a_growing_bound(before: int, bound: int) -> None:
    waits = drawn("after_failure", before, None)
    assert max(waits) <= bound
    assert max(waits) > bound * 0.9
    assert min(waits) < bound * 0.1


@pytest.mark.parametrize(("before", "about"), list(enumerate([1, 2, 4, 8, 16, 32])))
def test_too_many_at_a_time_are_followed_by_about_a_second_and_more_each_time(
    before: int, about: int
) -> None:
    waits = drawn("after_overload", before, None)
    assert about * 0.75 <= min(waits) < about * 0.8
    assert about * 1.2 < max(waits) <= about * 1.25
    assert max(drawn("after_overload", 30, None)) == 60


@pytest.mark.parametrize("method", ["after_failure", "after_overload"])
def test_never_sooner_than_the_server_asks(method: str) -> None:
    assert min(drawn(method, 0, 7.0)) == 7.0
    assert max(drawn(method, 5, 7.0)) > 7.0


@pytest.mark.parametrize(("before", "about"), list(enumerate([60, 120, 240, 480, 960, 1800, 1800])))
def test_what_waits_for_its_customer_is_probed_ever_more_slowly(before: int, about: int) -> None:
    waits = drawn("slow", before)
    assert about * 0.9 <= min(waits) < max(waits) <= about * 1.1
