"""Silence is death: a thread that ends the process when one of its loops has gone silent.

The client of Kafka may hang for ever inside its network loop or in a commit, and an event loop may be blocked;
neither heals by itself, and neither shows outside (heartbeats may even go on). A commit that hangs is given up
and its partition opened anew, but its thread and its connections stay. So a thread of its own looks from outside
and, when somebody has been silent for too long, writes the stacks of all threads and ends the process without
any clean-up: what is not committed is in the journal, and the orchestrator starts it anew.
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
"""Exit code of a process that its watchdog has ended."""
LOOKS = 10
"""In the time that a loop may be silent."""


def dump_and_exit(reason: str) -> None:
    """The stacks of all threads on stderr, then the end."""
    log.critical("watchdog.fired", reason=reason)
    faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
    sys.stderr.flush()
    os._exit(EXIT_SILENT)


class Watchdog:
    """`sources` tell for how many seconds each loop has been silent; they are called from the thread."""

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
        """Look at one more loop. Before `start`, or while it runs."""
        self._sources = {**self._sources, name: silence}

    def beat(self) -> None:
        """The event loop goes round; called from it at least every few seconds."""
        self._beat_at = self._clock()

    def start(self) -> None:
        self._beat_at = self._looked_at = self._awake_since = self._clock()
        self.watch("event loop", lambda: self._clock() - self._beat_at)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def look(self) -> None:
        """One look at all loops."""
        now = self._clock()
        slept, self._looked_at = now - self._looked_at, now
        if slept > 3 * self._interval:
            self._awake_since = now  # the whole process was stopped: everybody was silent
        for name, silence in self._sources.items():
            seconds = min(silence(), now - self._awake_since)
            if seconds > self._silence_max:
                self._die(f"the {name} has been silent for {seconds:.0f} s (at most {self._silence_max:g} s)")

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            self.look()
