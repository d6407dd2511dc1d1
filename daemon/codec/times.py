"""Times in the topics: ISO 8601, UTC, milliseconds."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

_FIRST_MS = -62_135_596_800_000
_LAST_MS = 253_402_300_799_999
"""The range of ISO 8601 with four digits for the year."""


@lru_cache(maxsize=4096)
def iso_ms(epoch_ms: int) -> str:
    """1764000000123 → ``2025-11-24T16:00:00.123Z``. A time outside the years 1 to 9999 becomes the nearest one that
    can be written, because no time from outside may make the transaction fail that publishes it (R7).

    The texts are cached, because the changes of a batch have most of their times in common. So are the conversions of
    whole seconds, for times that are not.
    """
    seconds, ms = divmod(min(max(epoch_ms, _FIRST_MS), _LAST_MS), 1000)
    return f"{_second(seconds)}.{ms:03d}Z"


@lru_cache(maxsize=4096)
def _second(epoch_s: int) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="seconds").removesuffix("+00:00")
