"""Times as the topics carry them: ISO 8601, UTC, milliseconds."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache


def iso_ms(epoch_ms: int) -> str:
    """1764000000123 → ``2025-11-24T16:00:00.123Z``. Results of one second share most of the work."""
    seconds, ms = divmod(epoch_ms, 1000)
    return f"{_second(seconds)}.{ms:03d}Z"


@lru_cache(maxsize=4096)
def _second(epoch_s: int) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")
