"""Whether spans are exported, by the environment variables of OpenTelemetry, which are the only settings of it.

Nothing of OpenTelemetry is imported unless an endpoint is configured, so that without it tracing costs nothing. A mistake is
reported and never stops the daemon: it works the same without its spans.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Mapping
from typing import Protocol

import structlog

from daemon.telemetry.events import Observer

log = structlog.get_logger()

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
PROTOCOL = "http/protobuf"
CLOSE_MAX = 5.0
"""Seconds at the end of the process for the spans that are not sent yet. With the last commits (`LAST_COMMIT_MAX` of the engine),
it is less than the 20 s by which orchestrators have to wait longer than `drain.timeout`."""


class Exporter(Observer, Protocol):
    def close(self) -> None:
        """Send what is queued. Blocks until that is done or given up."""
        ...


class Tracing:
    """The exporter of spans, if there is one, and what to tell operators about it."""

    def __init__(self, exporter: Exporter | None = None, problem: str | None = None) -> None:
        self.exporter = exporter
        self.problem = problem
        """Why no spans are exported although an endpoint is configured, and what to do."""

    def report(self) -> None:
        """Call once logging is set up."""
        if self.problem is not None:
            log.warning("traces.not_exported", reason=self.problem)
        elif self.exporter is not None:
            log.info("traces.exported", protocol=PROTOCOL)

    async def close(self) -> None:
        """Give the exporter `CLOSE_MAX` to send what is queued. The thread of a collector that does not answer is left behind,
        and ends with the process.
        """
        exporter, self.exporter = self.exporter, None
        if exporter is None:
            return
        loop, closed = asyncio.get_running_loop(), asyncio.Event()

        def close() -> None:
            exporter.close()
            with contextlib.suppress(RuntimeError):  # nobody waits any more, and the loop is closed
                loop.call_soon_threadsafe(closed.set)

        threading.Thread(target=close, name="traces", daemon=True).start()
        try:
            async with asyncio.timeout(CLOSE_MAX):
                await closed.wait()
        except TimeoutError:
            log.warning(
                "traces.lost", reason=f"the collector has not taken the last spans within {CLOSE_MAX:g} s"
            )


def from_environment(environment: Mapping[str, str], *, version: str, topic: str, group: str) -> Tracing:
    """`topic` is that of the input. Never raises: a mistake is in `Tracing.problem`."""
    if not _is_wanted(environment):
        return Tracing()
    protocol = next((value for name in PROTOCOLS if (value := environment.get(name))), PROTOCOL)
    if protocol != PROTOCOL:
        return Tracing(
            problem=f"the protocol {protocol} is not supported; set {PROTOCOLS[1]}={PROTOCOL}, "
            "and the endpoint to the collector's HTTP port (4318 by default)"
        )
    try:
        from daemon.telemetry.spans import SpanExport

        return Tracing(SpanExport(version=version, topic=topic, group=group))
    except ModuleNotFoundError:
        return Tracing(
            problem="the extra otel is not installed: pip install 'course-sync-daemon[otel]'; "
            "OTEL_SDK_DISABLED=true turns this warning off"
        )
    except Exception as error:
        return Tracing(problem=f"{type(error).__name__}: {error}; correct the environment variables OTEL_…")


def _is_wanted(environment: Mapping[str, str]) -> bool:
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporter = environment.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    return exporter == "otlp" or (exporter == "" and any(environment.get(name) for name in ENDPOINTS))
