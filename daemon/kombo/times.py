"""The times in answers of the API, and which of them are plausible (R14).

Times of the API decide which task is fresh and which has timed out, so one wrong time must not affect later tasks.
`created_at` and `completed_at` must be in the years 2000 to 2099 and at most `AHEAD_MAX_MS` after the answer's own `Date`.
A `Date` that differs from the local clock by a day or more is ignored. If the `Date` is ignored or missing, the local clock
is used instead.

Nothing here raises, whatever the texts are: one that cannot be read is None.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any

AHEAD_MAX_MS = 300_000
"""Maximum time by which the times of a task may be after the `Date` of the answer. The clocks of one API's servers
differ by less.
"""
DATE_OFF_MAX_MS = 86_400_000
"""Maximum difference between a `Date` and the local clock. It is more than a wrong time zone on either side explains.
"""
TIME_MIN_MS = 946_684_800_000
TIME_END_MS = 4_102_444_800_000
"""Start of the year 2000 and of the year 2100."""
RETRY_AFTER_SECONDS_MAX = 1e9
"""A longer wait is returned as this one. What is sensible is decided in `core.breaker`, which ignores it."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:?\d\d)?", re.ASCII)
_SECONDS = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_DATE_CHARS_MAX = 64


def timestamp(value: Any) -> int | None:
    """Converts ISO 8601 to ms since the epoch, rounded down. A time without a zone is UTC, as the vendor documents."""
    if not isinstance(value, str) or not _TIMESTAMP.fullmatch(value):
        return None
    try:
        return _milliseconds(datetime.fromisoformat(value.upper()))
    except (ValueError, OverflowError):
        return None


def implausible(moment: int, clock: int) -> str | None:
    """Why this cannot be the time of a task; `clock` is the time of the answer."""
    if not TIME_MIN_MS <= moment < TIME_END_MS:
        return "not in the years 2000 to 2099"
    if moment > clock + AHEAD_MAX_MS:
        return f"{(moment - clock) // 1000} s ahead of the API's clock"
    return None


def api_time_of(headers: Mapping[str, str], now: int) -> int | None:
    """The `Date` of an answer; None if it is missing or implausible."""
    date = http_date(headers.get("date"))
    return date if date is not None and abs(date - now) < DATE_OFF_MAX_MS else None


@lru_cache(maxsize=8)
def http_date(value: str | None) -> int | None:
    """Converts an HTTP date in any of the forms of RFC 9110 (5.6.7) to ms. Cached, because it changes once a second."""
    if value is None or len(value) > _DATE_CHARS_MAX:
        return None
    try:
        return _milliseconds(parsedate_to_datetime(value))
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def retry_after(value: str | None, now: int) -> float | None:
    """Seconds from `now` (ms), for both forms of the field; 0 for a time in the past."""
    if value is None:
        return None
    value = value.strip()
    if _SECONDS.fullmatch(value):
        return min(float(value), RETRY_AFTER_SECONDS_MAX)
    moment = http_date(value)
    if moment is None:
        return None
    return min(max((moment - now) / 1000, 0.0), RETRY_AFTER_SECONDS_MAX)


def _milliseconds(moment: datetime) -> int:
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // _MILLISECOND
