"""Counts the failures of one partition: how long it waits before it is opened again, and when it is blocked instead."""

from __future__ import annotations

from daemon.runtime.opening import RETRY_DELAY_MAX

REFUSALS_MAX = 3
"""The partition is blocked when this many steps could not be written or decided. A commit in between does not reset the
count: it does not show that the refused record would now be accepted.
"""
CALM = 4 * RETRY_DELAY_MAX
"""Seconds without a transient refusal after which the refused record counts as accepted. A partition that is opened again
writes it within seconds."""


class Retries:
    def __init__(self) -> None:
        self.unconfirmed = False
        """The last attempt failed. Then a new producer is created only after the assignment is confirmed (R4)."""
        self._failures = 0
        """In a row."""
        self._refusals = 0
        """Since the process took the partition."""
        self._deferrals = 0
        self._deferred_at = float("-inf")

    def failed(self) -> None:
        self._failures += 1
        self.unconfirmed = True

    def refused(self) -> bool:
        """A step cannot be written or decided. Returns whether the partition has to be blocked."""
        self._refusals += 1
        return self._refusals >= REFUSALS_MAX

    def deferred(self, now: float) -> None:
        """A record was refused for a transient reason. As other steps may be committed meanwhile, that does not reset the
        wait. `now` is monotonic.
        """
        self._deferrals = self._recent_deferrals(now) + 1
        self._deferred_at = now

    def committed(self) -> None:
        self._failures = 0
        self.unconfirmed = False

    def in_a_row(self, now: float) -> int:
        """The number of failures that determines the next wait."""
        return max(self._failures, self._recent_deferrals(now))

    def _recent_deferrals(self, now: float) -> int:
        return self._deferrals if now - self._deferred_at <= CALM else 0
