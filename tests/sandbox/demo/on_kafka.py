"""`make demo`: sends changes through a real Kafka, the daemon and a misbehaving API, with kill -9 in the middle."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from daemon.log.topic_access import read_topic
from tests.sandbox import profile
from tests.sandbox.checker.command import print_verdict
from tests.sandbox.checker.readers import check_run
from tests.sandbox.profile import Demo
from tests.sandbox.publishing import Publishing
from tests.sandbox.report import print_api, print_results, write_report
from tests.sandbox.results_view import ResultsView
from tests.sandbox.stack import Stack
from tests.sandbox.watching import Watching

_LOOK_EVERY = 0.2
"""Seconds for which the demo waits for results before it checks everything else."""


def run_demo(demo: Demo, directory: Path, console: Console) -> bool:
    """Run it, print the results and write `report.json` into `directory`.

    Returns whether the contract was kept.

    Raises:
        SandboxError, LogError: a part failed; everything has been ended.
    """
    report = directory / "report.json"
    report.unlink(missing_ok=True)
    with Stack(directory, faults="demo", seed=demo.seed, say=console.print) as stack:
        console.print("Starting coursesyncd …")
        stack.start_daemon()
        stack.await_ready()
        run = _Run(demo, stack, console)
        run.watch()
        # The daemon must have published everything before the run is judged.
        stack.drain_daemon()
        return run.judge(report)


class _Run:
    """One run, from the first change to the verdict."""

    def __init__(self, demo: Demo, stack: Stack, console: Console) -> None:
        self._demo = demo
        self._stack = stack
        self._console = console
        self._kills = 0
        self._seconds = 0.0
        self._plan = demo.plan(time.time_ns() // 1_000_000)

    def watch(self) -> None:
        """Publish, follow the results, kill the daemon in the middle, and publish the catalogue again. Ends when every change
        has its result, or at the deadline."""
        at, demo = self._stack.addresses, self._demo
        began = time.monotonic()
        with (
            ResultsView(at.connection, at.topics.results) as view,
            Watching(self._console, demo.changes) as watching,
            Publishing(
                at.connection,
                at.topics.changes,
                self._plan,
                demo.rate,
                hold_at=demo.changes - demo.republished,
            ) as publishing,
        ):
            while not publishing.done or len(view.resolved) < demo.changes:
                if time.monotonic() - began > demo.deadline:
                    self._console.print(f"[bold red]Not finished after {demo.deadline:g} s; giving up.")
                    break
                view.poll(_LOOK_EVERY)
                watching.update(publishing.published, view.statuses)
                if demo.may_republish(len(view.resolved)):
                    publishing.release()
                if not self._kills and len(view.resolved) >= demo.kill_at * demo.changes:
                    self._kill()
                self._stack.assert_running()
            watching.update(publishing.published, view.statuses)
        self._seconds = time.monotonic() - began

    def _kill(self) -> None:
        self._stack.kill_daemon()
        self._kills += 1
        self._stack.start_daemon()
        self._console.print("[yellow]coursesyncd was ended by kill -9, and is started again.")

    def judge(self, report: Path) -> bool:
        """Run the checker, print everything and write the report. Returns whether the contract was kept."""
        at = self._stack.addresses
        with ResultsView(at.connection, at.topics.results) as view:
            while view.poll(_LOOK_EVERY):
                pass
            print_results(self._console, self._latencies(view))
        print_api(self._console, self._stack.ask_simulator("stats"))
        verdict = check_run(
            at.connection,
            at.topics.changes,
            at.topics.results,
            at.simulator.url,
            profile.check_limits(),
            at.topics.courses,
        )
        print_verdict(self._console, verdict)
        write_report(report, verdict, kills=self._kills, seconds=self._seconds, log="kafka")
        self._console.print(
            f"{self._seconds:.0f} seconds; kill -9: {self._kills}. The report is {report}, the logs are beside it.",
            soft_wrap=True,
        )
        return verdict.ok

    def _latencies(self, view: ResultsView) -> Mapping[str, Sequence[float]]:
        """Seconds from a change's record to its result's record, by status."""
        at = self._stack.addresses
        latencies = defaultdict(list)
        for change in read_topic(at.connection, at.topics.changes):
            if result := view.resolved.get((change.partition, change.offset)):
                latencies[result.status].append((result.timestamp - change.timestamp) / 1000)
        return latencies
