"""Calls a second: never more than the rate allows, never less than it would, and to each kind its share."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from daemon.core.rate import BURST_SECONDS, Call, Rate


def take_all(rate: Rate, call: Call, now: float) -> int:
    count = 0
    while rate.take(call, now):
        count += 1
    return count


def busy(rate: Rate, seconds: float, *calls: Call, step: float = 0.01) -> dict[Call, int]:
    """How many calls of each kind went while there was always another one to go."""
    counts = dict.fromkeys(calls, 0)
    for tick in range(round(seconds / step) + 1):
        for call in calls:
            counts[call] += take_all(rate, call, 1000 + tick * step)
    return counts


def test_without_a_limit_everything_goes() -> None:
    rate = Rate(None, 0.25)
    assert all(rate.take(call, 0.0) for call in Call for _ in range(10_000))
    assert rate.due(Call.POLL, 0.0) is None


@pytest.mark.parametrize("call", Call)
def test_one_kind_has_the_whole_rate_while_the_other_rests(call: Call) -> None:
    assert busy(Rate(20, 0.25), 60, call)[call] == pytest.approx(60 * 20, abs=3)


def test_each_kind_has_its_share_while_both_want_more() -> None:
    counts = busy(Rate(20, 0.25), 60, Call.SUBMIT, Call.POLL)
    assert counts[Call.POLL] == pytest.approx(60 * 5, abs=2)
    assert counts[Call.SUBMIT] == pytest.approx(60 * 15, abs=3)


def test_a_kind_that_rested_goes_at_once() -> None:
    rate = Rate(20, 0.25)
    busy(rate, 10, Call.SUBMIT)
    assert rate.take(Call.POLL, 1010.0)


def test_what_is_a_little_late_costs_no_rate() -> None:
    """A timer that fires 50 ms after its time finds what it has missed."""
    rate = Rate(200, 0.25)
    assert busy(rate, 30, Call.SUBMIT, step=0.05)[Call.SUBMIT] == pytest.approx(30 * 200, rel=0.01)


def test_less_than_one_a_second() -> None:
    rate = Rate(0.1, 0.5)
    assert take_all(rate, Call.SUBMIT, 0.0) == 1
    assert rate.due(Call.SUBMIT, 0.0) == pytest.approx(10.0), "the other's bucket is full and passes on"
    assert take_all(rate, Call.POLL, 0.0) == 1
    assert rate.due(Call.SUBMIT, 0.0) == pytest.approx(20.0)
    assert take_all(rate, Call.SUBMIT, 19.9) == 0
    assert take_all(rate, Call.SUBMIT, 20.0) == 1


WANTS = st.lists(
    st.tuples(st.sampled_from(Call), st.floats(0, 3), st.integers(1, 30)), min_size=1, max_size=60
)


@given(
    per_second=st.floats(0.1, 500), share=st.floats(0.01, 0.99), wants=WANTS, start=st.floats(0, 10_000_000)
)
@hypothesis_settings(max_examples=300, deadline=None, derandomize=True)
def test_in_any_time_no_more_than_the_rate_and_two_full_buckets(
    per_second: float, share: float, wants: list[tuple[Call, float, int]], start: float
) -> None:
    rate, now, went = Rate(per_second, share), start, []
    for call, pause, count in wants:
        now += pause
        went += [now for _ in range(count) if rate.take(call, now)]
    buckets = sum(max(1.0, per_second * part * BURST_SECONDS) for part in (share, 1 - share))
    for first, begin in enumerate(went):
        for last in range(first, len(went)):
            assert last - first + 1 <= (went[last] - begin) * per_second + buckets + 1e-3


@given(per_second=st.floats(0.1, 500), share=st.floats(0.01, 0.99), wants=WANTS)
@hypothesis_settings(max_examples=300, deadline=None, derandomize=True)
def test_when_a_call_is_due_it_may_go_and_not_before(
    per_second: float, share: float, wants: list[tuple[Call, float, int]]
) -> None:
    rate, now = Rate(per_second, share), 0.0
    for call, pause, count in wants:
        now += pause
        for _ in range(count):
            due = rate.due(call, now)
            if due is None:
                assert rate.take(call, now)
                continue
            assert due > now
            for time, goes in ((now + (due - now) * 0.99, False), (due, True)):
                assert rate.has_room(call, time) is goes, "the other kind took nothing meanwhile"
            now = due


@given(share=st.floats(0.05, 0.95), pauses=st.lists(st.integers(1, 50), min_size=20, max_size=50))
@hypothesis_settings(max_examples=100, deadline=None, derandomize=True)
def test_nothing_is_lost_while_somebody_wants_it(share: float, pauses: list[int]) -> None:
    """However the looks are spread: what both kinds together got is what the whole rate is."""
    rate, now = Rate(100, share), 0.0
    for call in Call:
        take_all(rate, call, now)
    went = 0
    for pause in pauses:
        now += pause / 1000
        went += sum(take_all(rate, call, now) for call in Call)
    assert went == pytest.approx(now * 100, abs=2.1)


def test_due_times_of_a_long_queue_are_even() -> None:
    rate, now, times = Rate(10, 0.25), 0.0, []
    for _ in range(20):
        due = rate.due(Call.SUBMIT, now)
        now = now if due is None else due
        assert rate.take(Call.SUBMIT, now)
        times.append(now)
    gaps = [later - sooner for sooner, later in pairwise(times)]
    assert gaps[2:] == [pytest.approx(0.1)] * len(gaps[2:])
