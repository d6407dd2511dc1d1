"""Shows that the process lives, from before it has reached Kafka until it ends."""

from __future__ import annotations

import asyncio

from daemon.log.port import EventLog
from daemon.runtime.watchdog import Watchdog
from daemon.telemetry.health import Health

LOOPS = ("events", "consumer")
"""What has to show life: this event loop, and the log's reading side."""
INTERVAL = 1.0
"""Seconds."""


async def pulse(health: Health, log: EventLog, watchdog: Watchdog) -> None:
    """Tick for ever. A restore or a broker that is away silences nobody: each gives way to the loop."""
    while True:
        watchdog.beat()
        health.tick("events")
        if log.silence() < 2 * INTERVAL:
            health.tick("consumer")
        await asyncio.sleep(INTERVAL)
