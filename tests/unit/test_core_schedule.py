"""The heap against a sorted list, and the intervals of polls."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from daemon.core.schedule import REBUILD_MIN, PollIntervals, Schedule, poll_seed

KEYS = st.integers(0, 8)
TIMES = st.integers(0, 20).map(float)
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("push"), TIMES, KEYS),
        st.tuples(st.just("discard"), KEYS),
        st.tuples(st.just("pop"), TIMES),
        st.tuples(st.just("due")),
    ),
    max_size=80,
)


class SortedList:
    """What a schedule is, without any cleverness: (due, order of scheduling, key), kept sorted."""

    def __init__(self) -> None:
        self.entries: list[tuple[float, int, int]] = []
        self.pushed = 0

    def push(self, due: float, key: int) -> None:
        self.discard(key)
        self.pushed += 1
        self.entries.append((due, self.pushed, key))
        self.entries.sort()

    def discard(self, key: int) -> None:
        self.entries = [entry for entry in self.entries if entry[2] != key]

    def due(self) -> float | None:
        return self.entries[0][0] if self.entries else None

    def pop_due(self, now: float) -> tuple[float, int] | None:
        if not self.entries or self.entries[0][0] > now:
            return None
        due, _, key = self.entries.pop(0)
        return due, key


@hypothesis_settings(max_examples=300, deadline=None, derandomize=True)
@given(OPERATIONS)
def test_the_heap_is_a_sorted_list_only_faster(operations: list[tuple[Any, ...]]) -> None:
    heap: Schedule[int] = Schedule()
    model = SortedList()
    for name, *arguments in operations:
        if name == "push":
            heap.push(*arguments)
            model.push(*arguments)
        elif name == "discard":
            heap.discard(*arguments)
            model.discard(*arguments)
        elif name == "pop":
            assert heap.pop_due(*arguments) == model.pop_due(*arguments)
        assert heap.due() == model.due()
        assert len(heap) == len(model.entries)
        assert set(heap) == {key for _, _, key in model.entries}
        assert all((key in heap) == (key in set(heap)) for key in range(9))
    while model.entries:
        assert heap.pop_due(99.0) == model.pop_due(99.0)
    assert heap.pop_due(99.0) is None


def test_equal_times_come_in_the_order_of_scheduling() -> None:
    heap: Schedule[str] = Schedule()
    for key in "cab":
        heap.push(1.0, key)
    assert [heap.pop_due(1.0) for _ in range(3)] == [(1.0, "c"), (1.0, "a"), (1.0, "b")]


def test_keys_that_can_not_be_compared_are_fine() -> None:
    heap: Schedule[int | str] = Schedule()
    heap.push(1.0, 1)
    heap.push(1.0, "one")
    assert [heap.pop_due(1.0) for _ in range(2)] == [(1.0, 1), (1.0, "one")]


def test_rescheduling_does_not_let_the_heap_grow() -> None:
    heap: Schedule[int] = Schedule()
    for key in range(REBUILD_MIN):
        heap.push(float(key), key)
    for round_ in range(50):
        for key in range(REBUILD_MIN):
            heap.push(float(key + round_), key)
    assert len(heap) == REBUILD_MIN
    assert len(heap._heap) <= 2 * REBUILD_MIN + 1
    assert heap.pop_due(1e9) == (49.0, 0)


# --- intervals ------------------------------------------------------------------------------------

POLICY = PollIntervals(first_after=15.0, factor=1.6, interval_max=300.0)
SEEDS = st.integers(0, 2**32 - 1)


def test_intervals_grow_to_their_maximum_and_stay() -> None:
    delays = [POLICY.delay(polls, 100, seed=1) for polls in range(12)]
    for polls, delay in enumerate(delays):
        assert delay == pytest.approx(min(15.0 * 1.6**polls, 300.0), rel=0.1001)
    assert POLICY.delay(10**9, 100, seed=1) == pytest.approx(300.0, rel=0.1001)


def test_large_batches_start_later_and_stay_slower_but_never_beyond_an_hour() -> None:
    assert POLICY.delay(0, 500, seed=1) == pytest.approx(75.0, rel=0.1001)
    assert POLICY.delay(0, 1, seed=1) == POLICY.delay(0, 100, seed=1)
    assert POLICY.delay(20, 1000, seed=1) == pytest.approx(3000.0, rel=0.1001)
    slow = PollIntervals(first_after=15.0, factor=1.6, interval_max=1800.0)
    assert slow.delay(20, 1000, seed=1) == pytest.approx(3600.0, rel=0.1001)
    slower = PollIntervals(first_after=15.0, factor=1.6, interval_max=7200.0)
    assert slower.delay(40, 1, seed=1) == pytest.approx(7200.0, rel=0.1001)


def test_jitter_spreads_what_was_submitted_together_and_is_the_same_in_every_process() -> None:
    delays = {POLICY.delay(0, 100, poll_seed(f"3-{offset}-1")) for offset in range(1000)}
    assert len(delays) == 1000
    assert 13.5 <= min(delays) < 13.6
    assert 16.4 < max(delays) <= 16.5
    assert POLICY.delay(3, 100, poll_seed("3-1042-1")) == pytest.approx(61.2682, abs=1e-3)


@given(elapsed=st.floats(0, 10_000_000), items=st.integers(1, 1000), seed=SEEDS)
@hypothesis_settings(max_examples=200, deadline=None, derandomize=True)
def test_a_restart_goes_on_with_the_schedule_that_the_task_had(elapsed: float, items: int, seed: int) -> None:
    polls, wait = POLICY.resume(elapsed, items, seed)
    times, at = [], 0.0
    for number in range(polls + 1):
        at += POLICY.delay(number, items, seed)
        times.append(at)
    assert 0 <= wait <= POLICY.delay(polls, items, seed)
    if times[-1] >= elapsed:
        assert elapsed + wait == pytest.approx(times[-1])
        assert polls == 0 or times[-2] < elapsed
    else:
        assert 15.0 * 1.6**polls >= 300.0, (
            "only what polls at the longest interval already starts anywhere in it"
        )


def test_a_restart_is_no_herd() -> None:
    waits = sorted(POLICY.resume(86_400.0, 100, poll_seed(f"3-{n}-1"))[1] for n in range(1000))
    assert waits[99] == pytest.approx(30.0, abs=10)
    assert waits[499] == pytest.approx(150.0, abs=20)
    assert waits[899] == pytest.approx(270.0, abs=20)


def test_intervals_that_do_not_grow_cost_a_restart_no_more() -> None:
    """With a factor of 1 each interval since the acceptance was counted: millions of them for each task."""
    flat = PollIntervals(first_after=0.1, factor=1.0, interval_max=300.0)
    polls, wait = flat.resume(30 * 86_400.0, 100, seed=5)
    assert polls <= 64
    assert 0 <= wait <= 0.11
