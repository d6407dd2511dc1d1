"""Calls a second, over all integrations: two token buckets, one for submissions and one for polls.

Each bucket fills at its share of the rate. What does not fit into a full one goes to the other, so either
kind has the whole rate while the other rests, and no more than its share while both want more: a flood of
submissions never makes finished tasks wait. Both begin full. So in any time T at most ``per_second · T``
calls leave, and beyond it what two full buckets hold: a tenth of a second's calls, one each at least.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

BURST_SECONDS = 0.1
"""A bucket holds what it is filled with in so long: what is late by less, a timer or a lease, costs no rate."""
TOLERANCE = 1e-6
"""A token that lacks so much is whole: when one is due, rounding must not make it due again at once."""


class Call(Enum):
    SUBMIT = "submit"
    POLL = "poll"


@dataclass(slots=True)
class _Bucket:
    per_second: float
    capacity: float
    tokens: float

    @property
    def has_one(self) -> bool:
        return self.tokens >= 1 - TOLERANCE

    def pour(self, tokens: float) -> float:
        """Returns what does not fit."""
        self.tokens += tokens
        over = max(0.0, self.tokens - self.capacity)
        self.tokens -= over
        return over

    def seconds_to(self, tokens: float) -> float:
        """Until it holds so many, by its own share."""
        return max(0.0, tokens - self.tokens) / self.per_second


class Rate:
    """Times are monotonic seconds. Without a limit (None) every call may go."""

    def __init__(self, per_second: float | None, poll_share: float) -> None:
        self._buckets: dict[Call, _Bucket] | None = None
        self._filled_at: float | None = None
        if per_second is not None:
            shares = {Call.SUBMIT: 1 - poll_share, Call.POLL: poll_share}
            self._buckets = {call: _full(per_second * share) for call, share in shares.items()}

    def has_room(self, call: Call, now: float) -> bool:
        return self._buckets is None or self._filled(self._buckets, now)[call].has_one

    def take(self, call: Call, now: float) -> bool:
        """Whether the call may go now; if so it is counted."""
        if self._buckets is None:
            return True
        bucket = self._filled(self._buckets, now)[call]
        if not bucket.has_one:
            return False
        bucket.tokens -= 1
        return True

    def due(self, call: Call, now: float) -> float | None:
        """When, after now, such a call may go, at the earliest. None: it may already."""
        if self._buckets is None or self.has_room(call, now):
            return None
        submit, poll = self._buckets[Call.SUBMIT], self._buckets[Call.POLL]
        mine, other = (submit, poll) if call is Call.SUBMIT else (poll, submit)
        alone = mine.seconds_to(1)
        shared = other.seconds_to(other.capacity)
        if alone <= shared:
            return now + alone
        # From `shared` on, what the other one does not hold comes too.
        return now + (1 - mine.tokens + shared * other.per_second) / (mine.per_second + other.per_second)

    def _filled(self, buckets: dict[Call, _Bucket], now: float) -> dict[Call, _Bucket]:
        elapsed = 0.0 if self._filled_at is None else now - self._filled_at
        self._filled_at = now
        if elapsed > 0:
            submit, poll = buckets[Call.SUBMIT], buckets[Call.POLL]
            over = submit.pour(elapsed * submit.per_second)
            spilled = poll.pour(elapsed * poll.per_second + over)
            submit.pour(spilled)
        return buckets


def _full(per_second: float) -> _Bucket:
    capacity = max(1.0, per_second * BURST_SECONDS)
    return _Bucket(per_second, capacity, capacity)
