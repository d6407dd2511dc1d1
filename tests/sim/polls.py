"""The bounds of learned polls: when a task may be polled, when it must be, and how many polls a process may make.

Everything is computed anew from the settings, in the plainest way. What the daemon has learned is not known here, and need not
be: whatever it is,

* two polls of a task are no closer together than `poll.first_after`, less the jitter;
* they are no further apart than the longest interval, with the jitter;
* a process makes no more polls than the growing intervals would have made of the same tasks, beside few that it has saved;
* a task that is over its time-out is polled no later than by the growing intervals, and then times out at once.

Judged in histories of kind `polled`, where nothing else delays a poll.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from daemon.config import Settings
from tests.sim.seen import Who

JITTER = 0.1
"""Of an interval, at most, either way."""
SLACK = 0.3
"""Seconds from one poll to the next beside the interval: two ways through the network, and a commit."""
DATE_RESOLUTION = 1.5
"""Seconds after the time-out until an answer can show it: a `Date` has whole seconds."""


@dataclass
class Seen:
    """The polls of one task by one process."""

    since: float
    """When it was accepted, if this process has heard that; otherwise its first poll."""
    ownership: int
    is_own: bool
    """This process has heard that it was accepted."""
    last: float
    """Its last poll, or its acceptance."""
    ended: float | None = None
    is_overdue: bool = False
    """This process has heard that it is too old."""


class PollsJudge:
    """`accuse` is called with the kind of the violation and a sentence."""

    def __init__(
        self, settings: Settings, clock: Callable[[], float], accuse: Callable[[str, str], None]
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._accuse = accuse
        self._tasks: defaultdict[Who, dict[str, Seen]] = defaultdict(dict)
        self._saved: defaultdict[Who, int] = defaultdict(int)
        self.saved_per_task = 0
        """`core.learned_polls.SAVED_PER_TASK`."""
        self.is_prompt = False
        """Nothing else delays a poll, and the settings do not change."""

    def accepted(self, who: Who, task_id: str, ownership: int) -> None:
        now = self._clock()
        self._tasks[who].setdefault(task_id, Seen(now, ownership, is_own=True, last=now))

    def polled(self, who: Who, task_id: str, ownership: int) -> None:
        """A poll leaves now. `ownership`: the number of that of its partition."""
        now = self._clock()
        seen = self._tasks[who].setdefault(task_id, Seen(now, ownership, is_own=False, last=now))
        if not self.is_prompt or seen.ended is not None:
            return
        if seen.is_own and seen.ownership == ownership:
            self._judge_gap(who, task_id, seen, now)
            self._judge_time_out(who, task_id, seen, now)
        self._judge_budget(who, seen, now)
        seen.last = now

    def heard_overdue(self, who: Who, task_id: str) -> None:
        """The answer to a poll says that the task is pending and, by the API's clock, too old (R11)."""
        seen = self._tasks[who].get(task_id)
        if seen is not None and self._clock() - seen.since > self._settings.task.timeout:
            seen.is_overdue = True

    def ended(self, task_id: str) -> None:
        """The task has ended or timed out, for all that is told."""
        for who, tasks in self._tasks.items():
            if (seen := tasks.get(task_id)) is not None and seen.ended is None:
                seen.ended = self._clock()
                self._saved[who] += 1  # the growing intervals, too, poll once after the end

    def _judge_gap(self, who: Who, task_id: str, seen: Seen, now: float) -> None:
        poll, gap = self._settings.poll, now - seen.last
        if gap < poll.first_after * (1 - JITTER) - 0.001:
            self._accuse("hurry", f"{who[0]} polls the task {task_id} again after {gap:.3f} s")
        if gap > poll.interval_max * (1 + JITTER) + SLACK:
            self._accuse("idle_polls", f"{who[0]} does not poll the task {task_id} for {gap:.3f} s")

    def _judge_time_out(self, who: Who, task_id: str, seen: Seen, now: float) -> None:
        if seen.is_overdue:
            self._accuse(
                "overstayed", f"{who[0]} knows that the task {task_id} is too old, and polls it again"
            )
        poll, timeout = self._settings.poll, self._settings.task.timeout
        over = seen.since + timeout + DATE_RESOLUTION
        usual = max(self._growing_interval(timeout + DATE_RESOLUTION), poll.first_after)
        if seen.last < over < now and now > over + usual * (1 + JITTER) + SLACK:
            self._accuse(
                "overstayed", f"{who[0]} polls the task {task_id} {now - over:.3f} s after its time-out"
            )

    def _judge_budget(self, who: Who, seen: Seen, now: float) -> None:
        """Another poll leaves, and the growing intervals have made so many since the one before it. What is saved is kept up to a
        number for each task, and may be spent by any of them.
        """
        age, before = now - seen.since, seen.last - seen.since
        gained = self._growing_polls(age / (1 - JITTER)) - self._growing_polls(before / (1 - JITTER)) - 1
        scheduled = sum(each.ended is None for each in self._tasks[who].values())
        kept = (self.saved_per_task + 1) * scheduled
        self._saved[who] = min(self._saved[who] + gained, kept)
        if self._saved[who] < -scheduled - 1:
            self._accuse(
                "hurry", f"{who[0]} has made {-self._saved[who]} polls more than the growing intervals make"
            )

    def _growing_polls(self, age: float) -> int:
        poll, count = self._settings.poll, 0
        interval = at = poll.first_after
        while at <= age:
            count += 1
            interval = min(interval * poll.factor, poll.interval_max)
            at += interval
        return count

    def _growing_interval(self, age: float) -> float:
        """The interval in which a task of this age is."""
        poll = self._settings.poll
        growth = poll.factor ** self._growing_polls(age / (1 - JITTER))
        return min(poll.first_after * growth, poll.interval_max)
