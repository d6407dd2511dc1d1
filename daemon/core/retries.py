"""Decides how often a submitted change is submitted again after a failure, and when."""

from __future__ import annotations

import random
from enum import StrEnum
from typing import assert_never

from daemon.config import Policies, RetrySettings, Settings
from daemon.core.breaker import DOUBLINGS_MAX
from daemon.core.model import Item, Now


class Retry(StrEnum):
    """Why a submitted change is submitted again. This determines how often and for how long."""

    COUNTED = "counted"
    """A transient error: up to `retry.attempts_max` attempts."""
    PARKED = "parked"
    """A problem on the customer's side: for up to `wait.age_max`."""
    OUR_SIDE = "our_side"
    """A fault on our side: it ends no change, however long it lasts (contract C7)."""


class Retries:
    """`rng` only draws jitter. Changes that failed together do not come back together, and hardly ever in the same order,
    which would produce the same bytes again (R14).
    """

    def __init__(self, settings: Settings, policy: Policies, rng: random.Random) -> None:
        self._park = settings.park
        self._policy = policy
        self._rng = rng

    def is_over(self, integration_id: str, item: Item, failures: int, why: Retry, now: Now) -> bool:
        """Whether the attempts or the time of the change are used up. `failures` includes this one if it is counted."""
        match why:
            case Retry.COUNTED:
                return failures >= self._policy(integration_id).retry.attempts_max
            case Retry.PARKED:
                return self.is_too_old(integration_id, item, now)
            case Retry.OUR_SIDE:
                return False
            case _:
                assert_never(why)

    def is_too_old(self, integration_id: str, item: Item, now: Now) -> bool:
        """Whether the change was consumed more than `wait.age_max` ago."""
        return now.wall - item.consumed_at > self._policy(integration_id).wait.age_max * 1000

    def delay(self, integration_id: str, item: Item, failures: int, why: Retry) -> float:
        """Seconds until the change may be submitted again."""
        match why:
            case Retry.COUNTED:
                return self._backoff(self._policy(integration_id).retry, failures)
            case Retry.PARKED:
                # The integration itself is probed at growing intervals (`core.flow`).
                return self._half_jitter(self._park.probe_min)
            case Retry.OUR_SIDE:
                # The integration goes on, so the wait of the change itself has to grow.
                doublings = min(item.seal_count - 1, DOUBLINGS_MAX)
                return self._half_jitter(min(self._park.probe_max, self._park.probe_min * 2.0**doublings))
            case _:
                assert_never(why)

    def left(self, integration_id: str, not_before: int | None, now: Now) -> float | None:
        """The end of a restored wait on the monotonic clock; None if it is over."""
        if not_before is None or not_before <= now.wall:
            return None
        # A clock that was set back must not make a wait longer than its maximum.
        limit = max(self._policy(integration_id).retry.backoff_max, self._park.probe_max)
        return now.mono + min((not_before - now.wall) / 1000, limit)

    def _half_jitter(self, wait: float) -> float:
        return wait * (0.5 + 0.5 * self._rng.random())

    def _backoff(self, retry: RetrySettings, failures: int) -> float:
        """Full jitter."""
        low, high = retry.backoff_min, retry.backoff_max
        return low + self._rng.random() * (min(high, low * 2.0 ** min(failures, DOUBLINGS_MAX)) - low)
