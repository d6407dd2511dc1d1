"""Limits the calls per second over all integrations, with two token buckets: one for submissions and one for polls.

Each bucket fills at its share of the rate. Tokens that do not fit into a full bucket go to the other one. So each
kind has the whole rate while the other is idle, and only its share while both are busy: a flood of submissions never
delays finished tasks. Both buckets start full. So in any time T at most ``per_second · T`` calls are sent, plus the
content of two full buckets: the calls of a tenth of a second, at least one each.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

BURST_SECONDS = 0.1
"""A bucket holds the tokens of this time. A call that is delayed for less than this, by a late timer or by a wait for a
lease, does not lower the rate, because the tokens of that time are kept.
"""
TOLERANCE = 1e-6
"""A bucket that holds one token minus this has a token. Otherwise, at the time that `due` returned, rounding could
leave the bucket just below one token, and the call would be due again immediately.
"""


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
        """Add tokens. Returns those that do not fit."""
        self.tokens += tokens
        over = max(0.0, self.tokens - self.capacity)
        self.tokens -= over
        return over

    def seconds_to(self, tokens: float) -> float:
        """Seconds until it holds this many tokens, from its own share."""
        return max(0.0, tokens - self.tokens) / self.per_second


class Rate:
    """Times are monotonic seconds. Without a limit (None) every call may be sent."""

    def __init__(self, per_second: float | None, poll_share: float) -> None:
        self.per_second = per_second
        self._buckets: dict[Call, _Bucket] | None = None
        self._filled_at: float | None = None
        if per_second is not None:
            shares = {Call.SUBMIT: 1 - poll_share, Call.POLL: poll_share}
            self._buckets = {call: _full(per_second * share) for call, share in shares.items()}

    def has_room(self, call: Call, now: float) -> bool:
        return self._buckets is None or self._filled(self._buckets, now)[call].has_one

    def take(self, call: Call, now: float) -> bool:
        """Whether the call may be sent now. If so it is counted."""
        if self._buckets is None:
            return True
        bucket = self._filled(self._buckets, now)[call]
        if not bucket.has_one:
            return False
        bucket.tokens -= 1
        return True

    def due(self, call: Call, now: float) -> float | None:
        """The earliest time after now at which such a call may be sent. None if it may be sent now."""
        if self._buckets is None or self.has_room(call, now):
            return None
        submit, poll = self._buckets[Call.SUBMIT], self._buckets[Call.POLL]
        mine, other = (submit, poll) if call is Call.SUBMIT else (poll, submit)
        alone = mine.seconds_to(1)
        shared = other.seconds_to(other.capacity)
        if alone <= shared:
            return now + alone
        # From `shared` on, the overflow of the other bucket is added.
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
