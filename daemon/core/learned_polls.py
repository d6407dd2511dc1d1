"""Decides when a task is polled next: by the plan for tasks that are alike, or at the growing intervals.

How it works::

    ended(…)    → the duration of a task is learned (`task_durations`)
    delay(…)    → seconds until the next poll. If enough alike tasks have ended and a plan is better than the growing
                  intervals (`poll_planning`), the plan counts; otherwise the growing intervals do

A planned poll keeps the bounds of the growing intervals: it comes no sooner after the last poll than the first interval,
and no later than the longest one. A plan does not skip the moment of a time-out. All plans of a process have one budget:
together they make no more polls than the growing intervals would have made by then. A plan saves polls while a task
cannot have ended yet, and spends them when it probably has. If none are saved, the task waits for the time at which the
growing intervals would poll it.

Nothing here is durable. After a restart, the growing intervals count until enough tasks have ended.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from daemon.core.poll_planning import GrowingAges, Plan, plan
from daemon.core.schedule import ITEMS_PER_UNIT, PollIntervals, jitter
from daemon.core.task_durations import Likeness, TaskDurations

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")

TASKS_MIN = 20
"""So many alike tasks must have ended before their polls are planned, and again before they are planned anew."""
PLANNING_INTERVAL = 1.0
"""Seconds between two plans, at least. One takes 3 to 8 ms with usual settings, and 30 ms if `poll.*` are far apart."""
PLANS_MAX = 256
"""Each takes about 10 KB. The oldest ones are dropped."""
SAVED_PER_TASK = 4
"""Polls: the budget keeps this many for each open task. What is saved beyond that is not spent."""
TIMEOUT_MARGIN = 1.5
"""Seconds from the time-out of a task to the poll that notices it. The `Date` of an answer has a resolution of a second."""
JITTER = 0.1
"""Planned polls are spread over this share of the shortest interval, so that tasks that were accepted together are not
polled together."""


class PollTerms(NamedTuple):
    """What counts for the polls of a task at the moment."""

    alike: Likeness
    items: int
    seed: int
    """Of the jitter."""
    intervals: PollIntervals
    timeout: float
    """Seconds."""


@dataclass(slots=True)
class PollProgress:
    """The polls of one task in this process. Ages are in seconds from its acceptance."""

    polls: int = 0
    age: float = 0.0
    """At the last poll, or when this process has begun to poll it."""
    is_planned: bool = False
    """A plan has counted for it."""
    is_early: bool = False
    """Its next poll was taken from the budget: the growing intervals have none until then."""


class _Planned(NamedTuple):
    plan: Plan | None
    tasks: int
    """How many tasks the sketch had seen."""


class LearnedPolls:
    """Of one process."""

    def __init__(self) -> None:
        self._durations = TaskDurations()
        self._plans: OrderedDict[tuple[Likeness, PollIntervals], _Planned] = OrderedDict()
        self._growing: OrderedDict[tuple[PollIntervals, int], GrowingAges] = OrderedDict()
        self._planned_at: float | None = None
        self.saved = 0
        """Polls that were saved and not spent."""

    def delay(self, terms: PollTerms, progress: PollProgress, age: float, now: float) -> float:
        """Seconds until the next poll of a task that has just been accepted, or whose last poll, at this age, has shown that
        it is pending. `now`: monotonic, seconds.
        """
        planned = self._plan(terms, now)
        following = None if planned is None else planned.after(age)
        if following is None:
            return self.delay_unplanned(terms, progress, age)
        progress.is_planned = True
        growing = self._growing_ages(terms)
        following = min(max(following, age + growing.shortest), age + growing.longest)
        over = terms.timeout + TIMEOUT_MARGIN
        if age < over < following:
            following = max(over, age + growing.shortest)
        if following < growing.after(age):
            if self.saved < 1:
                return self.delay_unplanned(terms, progress, age)
            self.saved -= 1
            progress.is_early = True
        else:
            progress.is_early = False
        return following - age + _spread(terms, progress, growing)

    def delay_unplanned(self, terms: PollTerms, progress: PollProgress, age: float) -> float:
        """The same by the growing intervals alone; also for a task of which the last poll has shown nothing."""
        progress.is_early = False
        if not progress.is_planned:
            return terms.intervals.delay(progress.polls, terms.items, terms.seed)
        growing = self._growing_ages(terms)
        usual = max(growing.after(age) - age, growing.shortest)
        return usual + _spread(terms, progress, growing)

    def polled(self, terms: PollTerms, progress: PollProgress, age: float, open_tasks: int) -> None:
        """A poll of a task of this age was answered, and did not end the task. `open_tasks`: those of the process that have
        not timed out.
        """
        if progress.is_planned:
            self._save(terms, progress, age, 0 if progress.is_early else -1, open_tasks)
        progress.polls += 1
        progress.age = age

    def ended(
        self, terms: PollTerms, progress: PollProgress, age: float, duration: float | None, open_tasks: int
    ) -> None:
        """A poll of a task of this age has shown that the task has ended, `duration` seconds after its start. None: the API
        has not reported that. Then the end lies between the last poll and this one.
        """
        known = min(max(duration, 0.0), age) if duration is not None else (progress.age + age) / 2
        self._durations.add(terms.alike, known)
        if progress.is_planned:
            # The growing intervals would have made one more poll, too, after the end.
            seen = max(known, progress.age)
            self._save(terms, progress, seen, 1 if progress.is_early else 0, open_tasks)

    def _save(
        self, terms: PollTerms, progress: PollProgress, age: float, others: int, open_tasks: int
    ) -> None:
        """Save what the growing intervals would have made since the last poll, and `others`."""
        growing = self._growing_ages(terms)
        saved = growing.count(age) - growing.count(progress.age) + others
        self.saved = min(self.saved + saved, SAVED_PER_TASK * max(1, open_tasks))

    def _plan(self, terms: PollTerms, now: float) -> Plan | None:
        sketch = self._durations.get(terms.alike)
        if sketch is None or sketch.tasks < TASKS_MIN:
            return None
        key = (terms.alike, terms.intervals)
        planned = self._plans.get(key)
        is_old = planned is None or sketch.tasks >= planned.tasks + TASKS_MIN
        if is_old and (self._planned_at is None or now >= self._planned_at + PLANNING_INTERVAL):
            self._planned_at = now
            planned = _Planned(plan(sketch.ended, self._growing_ages(terms)), sketch.tasks)
            _keep(self._plans, key, planned)
        return None if planned is None else planned.plan

    def _growing_ages(self, terms: PollTerms) -> GrowingAges:
        key = (terms.intervals, max(terms.items, ITEMS_PER_UNIT))
        growing = self._growing.get(key)
        if growing is None:
            growing = GrowingAges(terms.intervals, terms.items)
            _keep(self._growing, key, growing)
        return growing


def _keep(kept: OrderedDict[_Key, _Value], key: _Key, value: _Value) -> None:
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > PLANS_MAX:
        kept.popitem(last=False)


def _spread(terms: PollTerms, progress: PollProgress, growing: GrowingAges) -> float:
    return JITTER * growing.shortest * jitter(progress.polls, terms.seed)
