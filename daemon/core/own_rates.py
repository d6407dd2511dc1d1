"""Limits the calls per second of single integrations whose policy sets a rate, in addition to the limit for all of them."""

from __future__ import annotations

from collections import OrderedDict

from daemon.config import Policies
from daemon.core.rate import Rate

UNUSED_SECONDS = 60.0
"""A rate that was not asked for this long is forgotten. Its buckets are full by then: at the lowest rate, a call in ten
seconds, they hold two calls.
"""


class OwnRates:
    """All times are monotonic seconds."""

    def __init__(self, policy: Policies, poll_share: float) -> None:
        self._policy = policy
        self._poll_share = poll_share
        self._rates: OrderedDict[str, tuple[Rate, float]] = OrderedDict()
        """And when each was asked for last; the one that was not asked for longest is first."""

    def of(self, integration_id: str, now: float) -> Rate | None:
        """None if the integration has no limit of its own. A limit that has changed begins with full buckets."""
        self.forget(now)
        per_second = self._policy(integration_id).requests_per_second_max
        if per_second is None:
            return None
        rate, _ = self._rates.pop(integration_id, (None, 0.0))
        if rate is None or rate.per_second != per_second:
            rate = Rate(per_second, self._poll_share)
        self._rates[integration_id] = (rate, now)
        return rate

    def __len__(self) -> int:
        return len(self._rates)

    def forget(self, now: float) -> None:
        """Forget the rates that were not asked for for `UNUSED_SECONDS`."""
        while self._rates:
            integration_id, (_, used_at) = next(iter(self._rates.items()))
            if used_at + UNUSED_SECONDS > now:
                return
            del self._rates[integration_id]
