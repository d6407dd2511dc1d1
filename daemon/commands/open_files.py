"""The limit of open files: raised as far as the system allows, and compared with the needs of the daemon.

A process that reaches the limit can neither open nor accept connections. API calls, the admin port and the process itself
are known at the start; partitions are known when they are assigned. So the first part is checked before anything is
opened, and the total is checked again whenever the number of partitions grows.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
from dataclasses import dataclass

import structlog

from daemon.admin.gate import DESCRIPTORS_MAX as ADMIN_MAX
from daemon.telemetry.health import Health

log = structlog.get_logger()

PROCESS_MAX = 64
"""Standard streams, event loop, thread wake-ups, and the Kafka clients that exist once: 16 were measured with one broker;
each further broker adds one."""
PARTITION_MAX = 12
"""A transactional producer: 5 were measured with one broker. 3 are its own; the rest are connections, at most one to each
broker and one to its coordinator. So this is enough for eight brokers."""
_OPEN_MAX = 10_240
"""What macOS accepts where it reports no hard limit."""
_LOOK_EVERY = 10.0
"""Seconds between two checks of the number of partitions."""


def raise_limit() -> int:
    """Raise the soft limit to the hard limit. Returns the resulting limit.

    The soft limit is 1,024 on many systems because of programs that use select(2). This program does not.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in (hard, _OPEN_MAX) if soft != hard else ():
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            break
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


@dataclass(frozen=True, slots=True)
class OpenFiles:
    limit: int
    in_flight_max: int
    """``http.in_flight_max``: each call has a connection."""

    @property
    def partitions_max(self) -> int:
        """The number of partitions for which the limit is enough; negative if it is not enough for any."""
        return (self.limit - self.in_flight_max - ADMIN_MAX - PROCESS_MAX) // PARTITION_MAX

    def needed(self, partitions: int) -> int:
        return self.in_flight_max + ADMIN_MAX + PROCESS_MAX + partitions * PARTITION_MAX

    def mistake(self) -> str | None:
        """What is wrong with the settings; None if at least one partition can be served."""
        if self.limit == resource.RLIM_INFINITY or self.partitions_max >= 1:
            return None
        fits = self.in_flight_max - (self.needed(1) - self.limit)
        lower = f"lower http.in_flight_max to {fits}, or " if fits >= 2 else ""
        return (
            f"http.in_flight_max: {self.in_flight_max} calls in flight, the admin port ({ADMIN_MAX}), the process "
            f"({PROCESS_MAX}) and one partition ({PARTITION_MAX}) need {self.needed(1)} open files, but this process "
            f"may have {self.limit}; {lower}raise the hard limit of open files: ulimit -Hn in a shell, LimitNOFILE "
            "of systemd, --ulimit nofile of a container"
        )

    def is_short(self, partitions: int) -> bool:
        return self.limit != resource.RLIM_INFINITY and partitions > self.partitions_max


async def watch_open_files(files: OpenFiles, health: Health, interval: float = _LOOK_EVERY) -> None:
    """Run forever: log a warning when the limit is too low for the assigned partitions."""
    seen = 0
    while True:
        partitions = len(health.partitions)
        if partitions > seen and files.is_short(partitions):
            log.warning(
                "open_files.short",
                partitions=partitions,
                partitions_max=files.partitions_max,
                needed=files.needed(partitions),
                limit=files.limit,
            )
        seen = partitions
        await asyncio.sleep(interval)
