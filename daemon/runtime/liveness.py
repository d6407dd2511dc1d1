"""Reports that the process is alive, from before it reaches Kafka until it ends, and whether Kafka answers it."""

from __future__ import annotations

import asyncio

import structlog

from daemon.log.port import EventLog
from daemon.runtime.watchdog import Watchdog
from daemon.telemetry.health import KAFKA_SILENCE_MAX_S, Health

_log = structlog.get_logger(__name__)

LOOPS = ("events", "consumer")
"""The loops that must stay alive: this event loop, and the reading side of the log."""
INTERVAL = 1.0
"""Seconds."""


async def report_liveness(health: Health, log: EventLog, watchdog: Watchdog) -> None:
    """Tick until cancelled. Neither a restore nor an unavailable broker stops the ticks: both yield to the event loop."""
    was_silent = False
    while True:
        watchdog.beat()
        health.tick("events")
        if log.silence() < 2 * INTERVAL:
            health.tick("consumer")
        unanswered = log.unanswered()
        health.kafka_answered(unanswered)
        is_silent = unanswered is not None and unanswered >= KAFKA_SILENCE_MAX_S
        if is_silent and not was_silent:
            _log.error(
                "kafka.silent",
                seconds=KAFKA_SILENCE_MAX_S,
                action="see docs/runbook.md#coursesynckafkaunreachable",
            )
        elif was_silent and not is_silent:
            _log.warning("kafka.answers_again")
        was_silent = is_silent
        await asyncio.sleep(INTERVAL)
