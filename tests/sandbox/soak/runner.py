"""Runs a soak: overload with a measurement every second, then the rest at the API's full speed, then the checker."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
from rich.console import Console

from tests.sandbox import profile
from tests.sandbox.checker.command import print_verdict
from tests.sandbox.checker.readers import check_run
from tests.sandbox.publishing import Publishing
from tests.sandbox.results_view import ResultsView
from tests.sandbox.soak import load
from tests.sandbox.soak.looking import Look, look_at
from tests.sandbox.soak.outcome import SoakOutcome
from tests.sandbox.stack import Stack
from tests.sandbox.watching import Watching

_LOOK_EVERY = 1.0
"""Seconds between two measurements of the daemon."""
_LINES = 10
"""Number of measurements that are printed, at equal intervals."""
_PATIENCE = 60.0
"""Seconds without any result after which the remaining changes count as lost: several times what the daemon needs for a
batch that the API has lost or never ends."""


def run_soak(minutes: float, seed: int, directory: Path, console: Console) -> SoakOutcome:
    """Run it, and print the progress and the checker's verdict.

    Raises:
        SandboxError, LogError: a part failed; everything has been ended.
    """
    with Stack(
        directory,
        faults=msgspec.json.encode(load.OVERLOADED).decode(),
        seed=seed,
        say=console.print,
        task_seconds=load.RELIEVED_TASK_SECONDS,
        settings=load.SETTINGS,
    ) as stack:
        run = _Run(stack, console, minutes, seed)
        run.play()
        # The daemon must have published everything before the run is judged.
        stack.drain_daemon()
        return run.judge()


class _Run:
    def __init__(self, stack: Stack, console: Console, minutes: float, seed: int) -> None:
        self._stack = stack
        self._console = console
        self._minutes = minutes
        self._plan = load.plan_of(seed, minutes * 60)
        self._looks: list[Look] = []
        self._overloaded_at = 0.0
        self._seconds = 0.0

    def play(self) -> None:
        """Run from the first change to the last result, or until no more results arrive."""
        at, head_start = self._stack.addresses, load.head_start(self._minutes * 60)
        began = time.monotonic()
        with (
            ResultsView(at.connection, at.topics.results) as view,
            Watching(self._console, self._plan.changes) as watching,
            Publishing(at.connection, at.topics.changes, self._plan, load.RATE, head_start) as publishing,
        ):
            self._start_daemon(publishing, head_start)
            self._overloaded_at = time.monotonic()
            self._overload(view, watching, publishing)
            self._console.print("From now on the API is fast and without faults.")
            self._stack.tell_simulator("faults", msgspec.json.encode(load.RELIEVED))
            self._relieve(view, watching, publishing)
        self._seconds = time.monotonic() - began

    def _start_daemon(self, publishing: Publishing, head_start: int) -> None:
        while publishing.published < head_start and not publishing.done:
            time.sleep(0.05)
        self._console.print("Starting coursesyncd …")
        self._stack.start_daemon()
        self._stack.await_ready()

    def _overload(self, view: ResultsView, watching: Watching, publishing: Publishing) -> None:
        seconds, told = self._minutes * 60, 0
        while self._elapsed < seconds:
            look = self._look(view, watching, publishing)
            self._looks.append(look)
            tenths = int(_LINES * self._elapsed / seconds)
            if tenths > told:
                told = tenths
                self._console.print(f"{look.at / 60:5.1f} min  {_say(look)}", soft_wrap=True)

    def _relieve(self, view: ResultsView, watching: Watching, publishing: Publishing) -> None:
        resolved, since = -1, 0.0
        while not publishing.done or len(view.resolved) < self._plan.changes:
            self._look(view, watching, publishing)
            if len(view.resolved) > resolved:
                resolved, since = len(view.resolved), time.monotonic()
            elif time.monotonic() - since > _PATIENCE:
                missing = self._plan.changes - resolved
                self._console.print(
                    f"[bold red]{missing} changes have no result; none came for {_PATIENCE:g} s."
                )
                break

    def _look(self, view: ResultsView, watching: Watching, publishing: Publishing) -> Look:
        """Measure the daemon, read results until the next measurement is due, and show both."""
        until = time.monotonic() + _LOOK_EVERY
        self._stack.assert_running()
        look = look_at(self._stack.daemon, self._elapsed)
        while (left := until - time.monotonic()) > 0:
            view.poll(left)
        watching.update(publishing.published, view.statuses, _say(look))
        return look

    @property
    def _elapsed(self) -> float:
        """Seconds of overload, counted from when the daemon was ready."""
        return time.monotonic() - self._overloaded_at

    def judge(self) -> SoakOutcome:
        """Run the checker and print its verdict."""
        at = self._stack.addresses
        verdict = check_run(
            at.connection,
            at.topics.changes,
            at.topics.results,
            at.simulator.url,
            profile.check_limits(),
            at.topics.courses,
        )
        self._console.print()  # the progress bars leave the cursor at the end of their last line
        print_verdict(self._console, verdict)
        return SoakOutcome(
            minutes=self._minutes,
            looks=self._looks,
            published=self._plan.changes,
            backlog_limit=load.BACKLOG_LIMIT,
            verdict=verdict,
            seconds=self._seconds,
        )


def _say(look: Look) -> str:
    """Short enough for one line of a terminal."""
    return (
        f"RSS {look.rss_mb:.1f} MiB  waiting {look.waiting:,}  paused {look.paused}/{look.partitions}  "
        f"lag {look.lag:,}  tasks {look.pending_tasks}"
    )
