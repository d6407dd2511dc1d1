"""The three clocks of the process, behind one port."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

from daemon.core.model import Now

_BOOT_TIME = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Linux has a separate clock that counts during sleep. On macOS, the monotonic clock does."""


class Clock(Protocol):
    def now(self) -> Now:
        """The wall clock and the event loop's monotonic clock, read together."""
        ...

    def boot(self) -> float:
        """Seconds of a clock that also counts while the machine sleeps. Used for the lease (R6)."""
        ...


class SystemClock:
    """The real clocks. `now` needs a running event loop."""

    def now(self) -> Now:
        return Now(time.time_ns() // 1_000_000, asyncio.get_running_loop().time())

    def boot(self) -> float:
        return time.clock_gettime(_BOOT_TIME)
