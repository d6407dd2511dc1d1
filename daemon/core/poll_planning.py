"""Plans the polls of tasks whose durations are known: at which age a poll is worth most.

A poll costs one call. A task that has ended and was not polled yet costs the time until its next poll: the detection
lag. With a price of a poll in seconds of lag, the best age of the next poll follows from the ages after it (the
classical problem of inspections: Barlow, Hunter and Proschan, "Optimum checking procedures", 1963). So a plan is
computed backwards over a grid of ages. Each price gives a plan. The growing intervals of `poll.*` have a mean lag and
a mean number of polls, too, for the same durations. Of all plans, that one is used which lowers both by the same
factor. If none does, there is no plan.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from daemon.core.schedule import GROWING_POLLS_MAX, PollIntervals

GRID_FINENESS = 0.05
"""Neighbouring ages of the grid differ by this share, by a quarter of the shortest interval at least, and by a third of
the longest one at most."""
AGES_MAX = 400
"""Bounds the time that a plan takes. Older tasks are polled at the growing intervals."""
OPEN_MIN = 0.005
"""A plan ends at the age at which so few tasks are still open."""
PRICE_STEPS = 3
PRICE_FACTOR = 4.0
PRICE_PRECISION = 1.3
"""So many steps of this factor below and above the price of the growing intervals are tried, then the neighbours of the best
one, until they differ by the last factor."""
USEFUL = 0.95
"""A plan must lower the product of lag and polls at least to this share."""

Ended = Callable[[Sequence[float]], Sequence[float]]
"""Ages, ascending, in seconds → the share of tasks that have ended by then."""


class GrowingAges:
    """The ages at which the growing intervals poll a batch of this size, without jitter, in seconds."""

    __slots__ = ("_ages", "longest", "shortest")

    def __init__(self, intervals: PollIntervals, items: int) -> None:
        self.shortest = intervals.interval(0, items)
        self.longest = intervals.interval(GROWING_POLLS_MAX, items)
        age = self.shortest
        self._ages = [age]
        """Up to the first interval that is the longest one."""
        for polls in range(1, GROWING_POLLS_MAX):
            interval = intervals.interval(polls, items)
            age += interval
            self._ages.append(age)
            if interval >= self.longest:
                break

    def count(self, age: float) -> int:
        """The number of polls up to this age."""
        last = self._ages[-1]
        if age < last:
            return bisect_right(self._ages, age)
        return len(self._ages) + int((age - last) / self.longest)

    def after(self, age: float) -> float:
        """The first of them after this age."""
        polls = self.count(age)
        if polls < len(self._ages):
            return self._ages[polls]
        following = self._ages[-1] + (polls - len(self._ages) + 1) * self.longest
        return following if following > age else following + self.longest  # rounding may have lost one

    def until(self, age: float) -> list[float]:
        """All of them before this age."""
        found = [each for each in self._ages if each < age]
        while (following := self.after(found[-1] if found else 0.0)) < age:
            found.append(following)
        return found


@dataclass(frozen=True, slots=True)
class Cost:
    """Of a schedule, the means over all tasks."""

    lag: float
    """Seconds from the end of a task to the poll that sees it."""
    polls: float

    @property
    def product(self) -> float:
        """Of all fixed intervals, this is about the same: half the mean duration."""
        return self.lag * self.polls


@dataclass(frozen=True, slots=True)
class Plan:
    """At which age to poll next, for each age at which a task was seen pending."""

    _ages: tuple[float, ...]
    _next: tuple[float, ...]
    """By the same index. It ends before `_ages`."""

    def after(self, age: float) -> float | None:
        """The age of the next poll, if the task was pending at this age; None where the plan has ended. It may be too
        soon or too late by the distance of two ages of the grid: the caller has to bound it.
        """
        place = bisect_right(self._ages, age) - 1
        return self._next[place] if place < len(self._next) else None


class _Grid:
    """The durations on a grid of ages, with which plans are computed and compared."""

    def __init__(self, ended: Ended, growing: GrowingAges) -> None:
        self._growing = growing
        ages = _grid(growing)
        shares = ended(ages)
        end = bisect_left(shares, 1 - OPEN_MIN) + 1
        self.ages = ages[:end]
        self._ended = list(shares[:end])
        self._integral = [0.0]
        """Of `_ended`, over the ages: the mean lag from one age to another follows from it."""
        for (low, high), (before, after) in zip(pairwise(self.ages), pairwise(self._ended), strict=True):
            self._integral.append(self._integral[-1] + (high - low) * (before + after) / 2)

    def best(self, price: float) -> list[int]:
        """By the index of an age: the index of the age of the next poll. `price`: of a poll, in seconds of lag."""
        ages, ended, integral = self.ages, self._ended, self._integral
        shortest, longest = self._growing.shortest, self._growing.longest
        last = len(ages) - 1
        costs, following = [0.0] * len(ages), [last] * last
        first, end = last, last
        for place in range(last - 1, -1, -1):
            age, share = ages[place], ended[place]
            while first - 1 > place and ages[first - 1] >= age + shortest:
                first -= 1
            while end > first and ages[end] > age + longest:
                end -= 1
            least, chosen = costs[first] + integral[first] - ages[first] * share, first
            for candidate in range(first + 1, end + 1):
                cost = costs[candidate] + integral[candidate] - ages[candidate] * share
                if cost < least:
                    least, chosen = cost, candidate
            costs[place] = least - integral[place] + age * share + price * (1 - share)
            following[place] = chosen
        return following

    def cost(self, following: Sequence[int]) -> Cost:
        lag = polls = 0.0
        place, ages, ended, integral = 0, self.ages, self._ended, self._integral
        while place < len(following):
            chosen = following[place]
            polls += 1 - ended[place]
            lag += integral[chosen] - integral[place] - (ages[chosen] - ages[place]) * ended[place]
            place = chosen
        return Cost(lag, polls)

    def cost_of_growing(self) -> Cost:
        lag = polls = 0.0
        share, integral, age = self._ended[0], 0.0, 0.0
        for following in (*self._growing.until(self.ages[-1]), self.ages[-1]):
            share_then, integral_then = self._at(following)
            polls += 1 - share
            lag += integral_then - integral - (following - age) * share
            share, integral, age = share_then, integral_then, following
        return Cost(lag, polls)

    def _at(self, age: float) -> tuple[float, float]:
        """The share that has ended at this age, and its integral."""
        place = max(1, bisect_left(self.ages, age))
        low, before = self.ages[place - 1], self._ended[place - 1]
        slope = (self._ended[place] - before) / (self.ages[place] - low)
        share = before + slope * (age - low)
        return share, self._integral[place - 1] + (age - low) * (before + share) / 2


def _grid(growing: GrowingAges) -> list[float]:
    ages, age = [0.0], growing.shortest
    while len(ages) < AGES_MAX:
        ages.append(age)
        age += min(max(growing.shortest / 4, age * GRID_FINENESS), growing.longest / 3)
    return ages


def plan(ended: Ended, growing: GrowingAges) -> Plan | None:
    """The plan for these durations; None if the growing intervals are as good."""
    grid = _Grid(ended, growing)
    usual = grid.cost_of_growing()
    middle, factor = usual.lag / usual.polls, PRICE_FACTOR
    best: list[int] | None = None
    least = usual.product * USEFUL
    prices = [middle * factor**step for step in range(-PRICE_STEPS, PRICE_STEPS + 1)]
    while factor > PRICE_PRECISION:
        for price in prices:
            following = grid.best(price)
            cost = grid.cost(following)
            if cost.product < least and cost.lag <= usual.lag and cost.polls <= usual.polls:
                best, least, middle = following, cost.product, price
        factor **= 0.5
        prices = [middle / factor, middle * factor]
    if best is None:
        return None
    return Plan(tuple(grid.ages), tuple(grid.ages[place] for place in best))
