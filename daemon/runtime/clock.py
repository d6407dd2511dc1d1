"""The three clocks of the process, behind one port."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

from daemon.core.model import Now

_BOOT_TIME = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Linux has it under a name of its own; that of macOS goes on during sleep under the usual one."""


class Clock(Protocol):
    def now(self) -> Now:
        """Wall clock and the event loop's monotonic clock, read together."""
        ...

    def boot(self) -> float:
        """Seconds of a clock that also counts while the machine sleeps; for the lease (R6)."""
        ...


class SystemClock:
    """Inside a running event loop."""

    def now(self) -> Now:
        return Now(time.time_ns() // 1_000_000, asyncio.get_running_loop().time())

    def boot(self) -> float:
        return time.clock_gettime(_BOOT_TIME)
