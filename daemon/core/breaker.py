"""Decides when to send again to an integration after a refusal.

Each integration has a breaker. A closed breaker is *healthy*. A refusal or a missing answer opens it for a time. Then
one submission goes out as a probe, and its answer closes the breaker or opens it for a longer time. The state of an
open breaker is its reason::

    throttled      the API asked to retry later, or with fewer concurrent requests (429)
    breaker_open   the integration fails, does not answer, or is refused for a reason that is not its customer's
    parked         it needs action by its customer: wrong credentials, an incomplete set-up

A refusal because of too many concurrent requests is not a failure. The vendor asks for a pause of about a second,
which doubles with each consecutive refusal. After this pause there is no single probe: the integration continues with
half of the submissions that it had in flight (`concurrency`), and with one after several consecutive refusals.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from daemon.config import RetrySettings, Settings

RETRY_AFTER_MAX = 86_400.0
"""Seconds. A longer ``Retry-After`` is absurd and ignored: it comes from a misconfigured proxy, or from a date that was
computed with a wrong clock.
"""
DOUBLINGS_MAX = 30
"""With more doublings every wait is at its maximum anyway. The limit bounds the power of two."""


class IntegrationState(StrEnum):
    HEALTHY = "healthy"
    THROTTLED = "throttled"
    BREAKER_OPEN = "breaker_open"
    PARKED = "parked"


Census = Counter[IntegrationState]
"""The number of integrations in each state."""


@dataclass(slots=True)
class Breaker:
    """The breaker of one integration. It updates the census."""

    census: Census
    state: IntegrationState = IntegrationState.HEALTHY
    strikes: int = 0
    """The number of consecutive back-offs."""
    until: float | None = None
    """End of the current back-off; None if there is none."""
    reason: str = ""
    """What the last back-off started with: the API's code, an HTTP status, or why there was no answer."""

    def __post_init__(self) -> None:
        self.census[self.state] += 1

    def leave_census(self) -> None:
        """The integration was removed: it leaves the census."""
        self.census[self.state] -= 1

    def strike(self, state: IntegrationState) -> int:
        """Start a back-off. Returns the number of consecutive back-offs before it. Requests that were in flight
        together are refused together and count once. Only a good answer ends the parked state. Parking always starts
        at the shortest probe interval, regardless of previous back-offs.
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
        """Back off until this time. A later end that was set before still applies. Returns the end that applies."""
        self.until = max(until, self.until or until)
        return self.until

    def succeeded(self) -> None:
        """A good answer arrived. A back-off that has not ended still applies."""
        self.strikes = 0
        if self.until is None:
            self._become(IntegrationState.HEALTHY)

    def back_off_ended(self) -> None:
        """The back-off is over."""
        self.until = None
        if not self.strikes:
            self._become(IntegrationState.HEALTHY)

    def _become(self, state: IntegrationState) -> None:
        if self.state is not state:
            self.census[self.state] -= 1
            self.census[state] += 1
            self.state = state


class BackOff:
    """Computes the length of a back-off in seconds from the number of consecutive ones before it. `rng` draws jitter.

    ``Retry-After`` counts up to `park.probe_max`: no answer stops an integration for longer without a probe.
    """

    def __init__(self, settings: Settings, rng: random.Random) -> None:
        self._park = settings.park
        self._rng = rng

    def after_failure(self, retry: RetrySettings, before: int, retry_after: float | None) -> float:
        """Full jitter between zero and an exponential bound; not less than the server asked for."""
        bound = min(retry.backoff_max, retry.backoff_min * 2.0**before)
        return max(self.asked(retry_after), bound * self._rng.random())

    def after_overload(self, retry: RetrySettings, before: int, retry_after: float | None) -> float:
        """The vendor asks for about one second and exponential back-off. Jitter of a quarter separates two clients
        that were refused together, and still leaves each of them a pause.
        """
        wait = retry.backoff_min * 2.0**before * (0.75 + 0.5 * self._rng.random())
        return max(self.asked(retry_after), min(retry.backoff_max, wait))

    def asked(self, retry_after: float | None) -> float:
        """The part of ``Retry-After`` that counts."""
        if retry_after is None or retry_after > RETRY_AFTER_MAX:
            return 0.0
        return min(retry_after, self._park.probe_max)

    def slow(self, before: int) -> float:
        """The probe interval, which doubles up to its maximum: for an integration that is parked, or whose refusal does
        not end by itself soon.
        """
        wait = min(self._park.probe_max, self._park.probe_min * 2.0**before)
        return wait * (0.9 + 0.2 * self._rng.random())


class BackOffs(NamedTuple):
    """The integrations that back off in one state for one reason."""

    state: IntegrationState
    reason: str
    """As in `Breaker`."""
    integrations: int
    first_until: float | None
    """When the first of these back-offs ends. None if all of them have ended, and probes are queued or in flight."""
    last_until: float | None


def by_reason(breakers: Iterable[Breaker]) -> list[BackOffs]:
    """Those that are not healthy, by state and reason, the back-offs that end last first."""
    groups: dict[tuple[IntegrationState, str], list[float | None]] = {}
    for breaker in breakers:
        if breaker.state is not IntegrationState.HEALTHY:
            groups.setdefault((breaker.state, breaker.reason), []).append(breaker.until)
    found = []
    for (state, reason), ends in groups.items():
        known = [until for until in ends if until is not None]
        found.append(BackOffs(state, reason, len(ends), min(known, default=None), max(known, default=None)))
    return sorted(found, key=lambda group: group.last_until or 0.0, reverse=True)
