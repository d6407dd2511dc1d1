"""When an integration that was refused is sent to again.

Each integration has a breaker. Closed, it is *healthy*. A refusal or a missing answer opens it for a while;
then one submission goes, and what comes back closes it or opens it for longer. Why it is open is its state::

    throttled      we were told to come later or with fewer at a time (429)
    breaker_open   it fails, or does not answer
    parked         it waits for its customer: wrong credentials, a set-up that is not finished

A refusal for too many at a time is no sickness. The pause is the vendor's, about a second and twice as long
each time in a row; but afterwards no single probe goes: the integration goes on with half of the submissions
that it had in flight (`concurrency`), which after some refusals in a row is one as well.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

from daemon.config import RetrySettings, Settings

DOUBLINGS_MAX = 30
"""Beyond it every wait is at its maximum; keeps the power of two a sane number."""


class IntegrationState(StrEnum):
    HEALTHY = "healthy"
    THROTTLED = "throttled"
    BREAKER_OPEN = "breaker_open"
    PARKED = "parked"


Census = Counter[IntegrationState]
"""How many integrations are in which state."""


@dataclass(slots=True)
class Breaker:
    """Of one integration; it keeps the census up to date."""

    census: Census
    state: IntegrationState = IntegrationState.HEALTHY
    strikes: int = 0
    """How often in a row it had to stand back."""
    until: float | None = None
    """It stands back until then."""

    def __post_init__(self) -> None:
        self.census[self.state] += 1

    def leave_census(self) -> None:
        """Nobody knows the integration any more."""
        self.census[self.state] -= 1

    def strike(self, state: IntegrationState) -> int:
        """It has to stand back; returns how often in a row it had before. What was under way together is
        refused together, and counts once. Only a good answer ends parking, which begins slowly whatever
        went before.
        """
        stays_parked = self.state is IntegrationState.PARKED and self.strikes > 0
        if state is IntegrationState.PARKED and not stays_parked:
            self.strikes = 0
        if self.until is None or not self.strikes:
            self.strikes += 1
        if not stays_parked:
            self._become(state)
        return min(self.strikes - 1, DOUBLINGS_MAX)

    def open(self, until: float) -> float:
        """Stand back until then; never for less than was said before. Returns the time that holds."""
        self.until = max(until, self.until or until)
        return self.until

    def succeeded(self) -> None:
        """An answer was good. A time that it has to sit out holds all the same."""
        self.strikes = 0
        if self.until is None:
            self._become(IntegrationState.HEALTHY)

    def back_off_ended(self) -> None:
        """Its time is over."""
        self.until = None
        if not self.strikes:
            self._become(IntegrationState.HEALTHY)

    def _become(self, state: IntegrationState) -> None:
        if self.state is not state:
            self.census[self.state] -= 1
            self.census[state] += 1
            self.state = state


class BackOff:
    """How long to stand back, in seconds, after so many times in a row before. `rng` draws jitter."""

    def __init__(self, settings: Settings, rng: random.Random) -> None:
        self._park = settings.park
        self._rng = rng

    def after_failure(self, retry: RetrySettings, before: int, retry_after: float | None) -> float:
        """Full jitter between nothing and an exponential bound; never less than the server asked for."""
        bound = min(retry.backoff_max, retry.backoff_min * 2.0**before)
        return max(retry_after or 0.0, bound * self._rng.random())

    def after_overload(self, retry: RetrySettings, before: int, retry_after: float | None) -> float:
        """The vendor asks for about a second and exponential back-off: a quarter more or less of it keeps
        two apart who were refused together, and leaves nobody without a pause.
        """
        wait = retry.backoff_min * 2.0**before * (0.75 + 0.5 * self._rng.random())
        return max(retry_after or 0.0, min(retry.backoff_max, wait))

    def parked(self, before: int) -> float:
        """Ever more slowly."""
        wait = min(self._park.probe_max, self._park.probe_min * 2.0**before)
        return wait * (0.9 + 0.2 * self._rng.random())
