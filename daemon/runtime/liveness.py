"""Reports that the process is alive, from before it reaches Kafka until it ends."""

from __future__ import annotations

import asyncio

from daemon.log.port import EventLog
from daemon.runtime.watchdog import Watchdog
from daemon.telemetry.health import Health

LOOPS = ("events", "consumer")
"""The loops that must stay alive: this event loop, and the reading side of the log."""
INTERVAL = 1.0
"""Seconds."""


async def report_liveness(health: Health, log: EventLog, watchdog: Watchdog) -> None:
    """Tick until cancelled. Neither a restore nor an unavailable broker stops the ticks: both yield to the event loop."""
    while True:
        watchdog.beat()
        health.tick("events")
        if log.silence() < 2 * INTERVAL:
            health.tick("consumer")
        health.kafka_answered(log.unanswered())
        await asyncio.sleep(INTERVAL)
