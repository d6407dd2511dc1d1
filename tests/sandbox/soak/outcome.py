"""The outcome of a soak."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.sandbox.checker.verdict import Verdict
from tests.sandbox.soak.looking import Look

MARKS = (0.1, 0.5, 1.0)
"""Shares of the overload at which memory is reported: minutes 1, 5 and 10 of ten."""
BEFORE_MARK = 0.05
"""The reported value is the median of this share of all measurements, taken before the mark: half a minute of ten. Single
values vary by some megabytes, because large fetches come and go."""
GROWTH_MAX = 0.1
"""Maximum relative growth from the first mark to the last."""
JUDGED_FROM_MINUTES = 5.0
"""In a shorter run, the first mark comes while the backlog is still filling and the buffers still grow. Growth from then on
has no significance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SoakOutcome:
    minutes: float
    """Minutes of overload."""
    looks: Sequence[Look]
    """During the overload, in order; at least two."""
    published: int
    """Number of changes published during the overload."""
    backlog_limit: int
    """Sum over all partitions."""
    verdict: Verdict
    seconds: float
    """From the first change to the last result."""

    @property
    def growth(self) -> float:
        """Relative growth of the memory from the first mark to the last: 0.05 is 5 %."""
        first, last = (self._at(mark, lambda look: look.rss_mb) for mark in (MARKS[0], MARKS[-1]))
        return last / first - 1

    @property
    def flat(self) -> bool | None:
        """Whether memory use stayed constant. None if the run was too short to decide."""
        return None if self.minutes < JUDGED_FROM_MINUTES else self.growth <= GROWTH_MAX

    @property
    def ok(self) -> bool:
        return self.verdict.ok and self.flat is not False

    def as_dict(self) -> dict[str, Any]:
        """For one line of JSON."""
        first, last, looks = self.looks[0], self.looks[-1], self.looks
        return {
            "minutes": self.minutes,
            "seconds": round(self.seconds, 1),
            "changes": self.verdict.changes,
            "published_rate": round(self.published / (self.minutes * 60), 1),
            "resolved_rate": round((last.resolved - first.resolved) / (last.at - first.at), 1),
            "rss_mb": self._by_minute(lambda look: look.rss_mb),
            "rss_peak_mb": round(last.peak_mb, 1),
            "rss_growth": round(self.growth, 4),
            "flat": self.flat,
            "threads": self._by_minute(lambda look: look.threads),
            "descriptors": self._by_minute(lambda look: look.descriptors),
            "waiting_max": max(look.waiting for look in looks),
            "backlog_limit": self.backlog_limit,
            "paused_share": round(sum(look.paused / look.partitions for look in looks) / len(looks), 3),
            "lag_max": max(look.lag for look in looks),
            **self.verdict.bad_columns(),
        }

    def _by_minute(self, figure: Callable[[Look], float]) -> dict[str, float]:
        return {f"{self.minutes * mark:g}": round(self._at(mark, figure), 1) for mark in MARKS}

    def _at(self, mark: float, figure: Callable[[Look], float]) -> float:
        until = [look for look in self.looks if look.at <= mark * self.minutes * 60] or self.looks[:1]
        window = max(1, round(BEFORE_MARK * len(self.looks)))
        return statistics.median_low(figure(look) for look in until[-window:])
