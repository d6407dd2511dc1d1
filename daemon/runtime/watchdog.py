"""A thread that ends the process when one of its loops no longer makes progress.

The Kafka client can hang forever in its network loop or in a commit, and an event loop can be blocked. Neither recovers by
itself, and neither is visible from outside (heartbeats may even continue). A commit that hangs is abandoned and its
partition is reopened, but its thread and its connections remain. So a separate thread checks all loops. When a loop has
been silent for too long, the thread writes the stacks of all threads and ends the process without any clean-up. That is
safe: the journal holds everything that the next process needs, and the orchestrator starts one.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable

import structlog

log = structlog.get_logger()

EXIT_SILENT = 3
"""Exit code of a process that the watchdog has ended."""
LOOKS = 10
"""Number of checks within the time for which a loop may be silent."""


def dump_and_exit(reason: str) -> None:
    """Write the stacks of all threads to stderr, then end the process."""
    log.critical("watchdog.fired", reason=reason)
    faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
    sys.stderr.flush()
    os._exit(EXIT_SILENT)


class Watchdog:
    """Each watched source returns for how many seconds its loop has been silent. Sources are called from the thread."""

    def __init__(
        self,
        silence_max: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        die: Callable[[str], None] = dump_and_exit,
    ) -> None:
        self._silence_max = silence_max
        self._interval = silence_max / LOOKS
        self._clock = clock
        self._die = die
        self._sources: dict[str, Callable[[], float]] = {}
        self._beat_at = self._looked_at = self._awake_since = clock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def watch(self, name: str, silence: Callable[[], float]) -> None:
        """Watch one more loop. May be called before `start` or while the thread runs."""
        self._sources = {**self._sources, name: silence}

    def beat(self) -> None:
        """The event loop makes progress. Called from it at least every few seconds."""
        self._beat_at = self._clock()

    def start(self) -> None:
        self._beat_at = self._looked_at = self._awake_since = self._clock()
        self.watch("event loop", lambda: self._clock() - self._beat_at)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def look(self) -> None:
        """Check all loops once."""
        now = self._clock()
        slept, self._looked_at = now - self._looked_at, now
        if slept > 3 * self._interval:
            self._awake_since = now  # the whole process was stopped, so every loop was silent
        for name, silence in self._sources.items():
            seconds = min(silence(), now - self._awake_since)
            if seconds > self._silence_max:
                self._die(f"the {name} has been silent for {seconds:.0f} s (limit: {self._silence_max:g} s)")

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            self.look()
