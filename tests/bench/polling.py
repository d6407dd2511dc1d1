"""Polls and detection lag of the learned schedule, beside the growing intervals and a fixed interval.

`python -m tests.bench.polling` plays tasks of generated durations in virtual time, from a process that has learned nothing
yet, and prints one JSON line for each shape of durations. All three schedules poll the same tasks:

    learned   `core.learned_polls`, as the daemon uses it
    growing   `poll.first_after`, `.factor` and `.interval_max` alone, as without data; the same settings
    fixed     one interval, chosen so that the mean lag is that of the learned schedule

`polls_of_fixed` and the two `of_growing` are ratios, learned to other. The exit code is 1 if one misses its goal.
"""

from __future__ import annotations

import heapq
import json
import math
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from daemon.core.learned_polls import LearnedPolls, PollProgress, PollTerms
from daemon.core.schedule import PollIntervals
from daemon.core.task_durations import likeness

TASKS = 4000
ITEMS = 100
DAY = 86_400.0
DEFAULT = PollIntervals(15.0, 1.6, 300.0)
PATIENT = PollIntervals(15.0, 1.6, 1800.0)
"""As the README sets it for a slow learning system."""
OF_FIXED_MAX = 0.5
OF_GROWING_MAX = 1.05

Draw = Callable[[random.Random, float], float]
"""The second argument goes from 0 to 1 during the run."""


class Shape(NamedTuple):
    name: str
    draw: Draw
    intervals: PollIntervals = DEFAULT
    every: float = 3.0
    """Mean seconds between two acceptances."""
    beats_fixed: bool = True
    """Whether the goal against a fixed interval holds."""


def around(median: float, spread: float = 0.2) -> Draw:
    """Log-normal: two thirds lie within this share of the median."""
    return lambda rng, _at: rng.lognormvariate(math.log(median), spread)


def either(share: float, one: Draw, other: Draw) -> Draw:
    return lambda rng, at: (one if rng.random() < share else other)(rng, at)


def drifting(rng: random.Random, at: float) -> float:
    """From one minute to ten and back."""
    return around(60.0 * 10 ** math.sin(math.pi * at))(rng, at)


def jumping(rng: random.Random, at: float) -> float:
    """Every quarter of the run is suddenly slower or faster than the one before."""
    return around(600.0 if int(at * 4) % 2 else 60.0)(rng, at)


SHAPES = (
    Shape("fast", around(40.0)),
    Shape("medium", around(240.0)),
    Shape("slow", around(3600.0), PATIENT, every=120.0),
    Shape("two humps", either(0.6, around(45.0), around(900.0))),
    Shape("drifting", drifting),
    Shape("jumping", jumping, beats_fixed=False),
    Shape("slow, default bounds", around(3600.0), every=120.0, beats_fixed=False),
    Shape("heavy tail", lambda rng, _: min(DAY, 30.0 * rng.paretovariate(1.1)), beats_fixed=False),
    # No schedule is better than a fixed interval if the age of a task says nothing about its end.
    Shape("memoryless", lambda rng, _: rng.expovariate(1 / 300.0), beats_fixed=False),
    Shape("any of four minutes", lambda rng, _: rng.uniform(1.0, 240.0), beats_fixed=False),
)


@dataclass
class Task:
    accepted: float
    duration: float
    terms: PollTerms
    progress: PollProgress


class Figures(NamedTuple):
    lag: float
    """Mean seconds."""
    polls: float
    """A task."""


def tasks_of(shape: Shape, seed: int) -> list[Task]:
    rng, at, found = random.Random(seed), 0.0, []
    for number in range(TASKS):
        at += rng.expovariate(1 / shape.every)
        terms = PollTerms(likeness("tool:1", ITEMS), ITEMS, number, shape.intervals, DAY)
        found.append(Task(at, shape.draw(rng, number / TASKS), terms, PollProgress()))
    return found


def play(tasks: Sequence[Task], *, learns: bool) -> Figures:
    """Virtual time. Polls are answered at once."""
    learned, lag, polls = LearnedPolls(), 0.0, 0
    due: list[tuple[float, int]] = [(task.accepted, number) for number, task in enumerate(tasks)]
    heapq.heapify(due)
    open_tasks: set[int] = set()
    while due:
        now, number = heapq.heappop(due)
        task = tasks[number]
        age = now - task.accepted
        if number in open_tasks:
            polls += 1
            if age >= task.duration:
                lag += age - task.duration
                if learns:
                    learned.ended(task.terms, task.progress, age, task.duration, len(open_tasks))
                open_tasks.discard(number)
                continue
            learned.polled(task.terms, task.progress, age, len(open_tasks))
        open_tasks.add(number)
        heapq.heappush(due, (now + learned.delay(task.terms, task.progress, age, now), number))
    return Figures(lag / len(tasks), polls / len(tasks))


def fixed(durations: Sequence[float], interval: float) -> Figures:
    polls = [max(1, math.ceil(each / interval)) for each in durations]
    lag = sum(n * interval - each for n, each in zip(polls, durations, strict=True))
    return Figures(lag / len(durations), sum(polls) / len(durations))


def fixed_with(lag: float, durations: Sequence[float]) -> Figures:
    """Of the fixed intervals with at most this mean lag, the longest."""
    low, high = 0.0, 4 * lag
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if fixed(durations, middle).lag <= lag else (low, middle)
    return fixed(durations, low)


def measure(shape: Shape, seed: int) -> dict[str, object]:
    learned = play(tasks_of(shape, seed), learns=True)
    growing = play(tasks_of(shape, seed), learns=False)
    same_lag = fixed_with(learned.lag, [task.duration for task in tasks_of(shape, seed)])
    return {
        "shape": shape.name,
        "lag_s": round(learned.lag, 1),
        "polls": round(learned.polls, 2),
        "growing_lag_s": round(growing.lag, 1),
        "growing_polls": round(growing.polls, 2),
        "fixed_polls": round(same_lag.polls, 2),
        "polls_of_fixed": round(learned.polls / same_lag.polls, 2),
        "lag_of_growing": round(learned.lag / growing.lag, 2),
        "polls_of_growing": round(learned.polls / growing.polls, 2),
    }


def misses(shape: Shape, seed: int, figures: dict[str, object]) -> list[str]:
    found = [
        name
        for name, limit in (
            ("polls_of_fixed", OF_FIXED_MAX if shape.beats_fixed else math.inf),
            ("lag_of_growing", OF_GROWING_MAX),
            ("polls_of_growing", OF_GROWING_MAX),
        )
        if float(str(figures[name])) > limit
    ]
    return [f"{shape.name}, seed {seed}: {name} is {figures[name]}" for name in found]


def main() -> None:
    missed = []
    for seed in (1, 2):
        for shape in SHAPES:
            figures = measure(shape, seed)
            print(json.dumps({"seed": seed, **figures}), flush=True)
            missed += misses(shape, seed, figures)
    for sentence in missed:
        print(sentence, file=sys.stderr)
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
