"""Runs storms and measurements while changes are published, then the checker."""

from __future__ import annotations

import functools
import heapq
import itertools
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from daemon.config.units import parse_duration
from daemon.log.topic_access import read_topic
from tests.sandbox import profile
from tests.sandbox.chaos import takeover
from tests.sandbox.chaos.fleet import Fleet
from tests.sandbox.chaos.outcome import ChaosOutcome
from tests.sandbox.chaos.schedule import REPLICAS, Kind, Round, Strike, rounds
from tests.sandbox.chaos.strikes import Strikes
from tests.sandbox.checker.command import print_verdict
from tests.sandbox.checker.readers import check_run
from tests.sandbox.generator import Plan
from tests.sandbox.publishing import Publishing
from tests.sandbox.results_view import ResultsView
from tests.sandbox.stack import Stack

RATE = 100.0
"""Changes per second."""
CHANGES_MAX = 10_000_000
"""More than any run needs: publishing is stopped when the storms are over."""
CALM_SECONDS = 2.0
"""Seconds for which each partition must have run in exactly one replica. Within this time a zombie detects its state."""
CALM_PATIENCE = 180.0
"""Seconds after a storm after which anything that does not work counts as stuck. The start of a broker, a session timeout,
the longest client timeouts and a restore take a quarter of it if they happen one after the other."""
RESULTS_PATIENCE = 180.0
"""Seconds to wait for the last results."""
_TICK = 0.05

SESSION_TIMEOUT = parse_duration(profile.TIMES["kafka.session_timeout"])


def run_chaos(kills: int, seed: int, directory: Path, console: Console) -> ChaosOutcome:
    """Run it, and print the progress and the checker's verdict.

    Raises:
        SandboxError, LogError: a part failed; everything has been ended.
    """
    with (
        Stack(directory, faults="demo", seed=seed, say=console.print, own_kafka=True) as stack,
        Fleet(stack) as fleet,
    ):
        run = _Run(stack, fleet, console, seed)
        run.begin()
        run.play(rounds(kills, seed, SESSION_TIMEOUT))
        run.drain()
        return run.judge()


class _Run:
    def __init__(self, stack: Stack, fleet: Fleet, console: Console, seed: int) -> None:
        self._stack = stack
        self._fleet = fleet
        self._console = console
        self._seed = seed
        self._strikes = Strikes(stack, fleet)
        self._takeovers: list[float] = []
        self._restarts: list[float] = []
        self._stuck: str | None = None
        self._exits_told = 0
        self._began = time.monotonic()
        self._seconds = 0.0

    def begin(self) -> None:
        self._console.print(f"Starting {REPLICAS} replicas of coursesyncd …")
        for number in range(REPLICAS):
            self._fleet[number].join()
        self._await_calm()

    def play(self, planned: list[Round]) -> None:
        """Run all rounds. Ends early if something is stuck."""
        at = self._stack.addresses
        plan = Plan(
            seed=self._seed,
            changes=CHANGES_MAX,
            retire_share=profile.RETIRE_SHARE,
            first_time_ms=time.time_ns() // 1_000_000,
        )
        self._began = time.monotonic()
        with Publishing(at.connection, at.topics.changes, plan, RATE) as publishing:

            def look() -> None:
                self._look()
                assert not publishing.done

            for number, one in enumerate(planned, start=1):
                if self._stuck is not None:
                    break
                self._console.print(
                    f"Round {number} of {len(planned)}, {publishing.published:,} changes so far"
                )
                if one.measured:
                    self._measure(one.strikes[0], look)
                else:
                    self._storm(one, look)
                self._await_calm()

    # --- a round ----------------------------------------------------------------------------------

    def _measure(self, strike: Strike, look: Callable[[], None]) -> None:
        victim = self._fleet[strike.target]
        self._strikes.done[Kind.KILL] += 1
        if strike.seconds:
            seconds = takeover.take_over(self._fleet, victim, look)
            self._takeovers.append(seconds)
            self._tell(f"kill -9 of {victim.name}, which stayed away: taken over after {seconds:.2f} s")
            victim.join()
        else:
            seconds = takeover.restart(victim, look)
            self._restarts.append(seconds)
            self._tell(f"kill -9 of {victim.name}: back after {seconds:.2f} s")

    def _storm(self, storm: Round, look: Callable[[], None]) -> None:
        began = time.monotonic()
        order = itertools.count()
        due: list[tuple[float, int, Callable[[], None]]] = []

        def schedule(at: float, act: Callable[[], None]) -> None:
            heapq.heappush(due, (at, next(order), act))

        def begin(strike: Strike) -> None:
            self._tell(f"{strike.kind} {self._target(strike)}for {strike.seconds:.1f} s")
            schedule(strike.at + strike.seconds, self._strikes.begin(strike))

        for strike in storm.strikes:
            schedule(strike.at, functools.partial(begin, strike))
        while due:
            now = time.monotonic() - began
            while due and due[0][0] <= now:
                heapq.heappop(due)[2]()
            look()
            time.sleep(_TICK)

    def _target(self, strike: Strike) -> str:
        return f"({self._fleet[strike.target].name}) " if strike.target >= 0 else ""

    # --- between rounds ---------------------------------------------------------------------------

    def _await_calm(self) -> None:
        """After everything was healed, wait until everything works, or note what is stuck."""
        self._stack.broker.await_answer()
        deadline = time.monotonic() + CALM_PATIENCE
        calm_since: float | None = None
        while calm_since is None or time.monotonic() - calm_since < CALM_SECONDS:
            self._look()
            if not self._fleet.whole():
                calm_since = None
            elif calm_since is None:
                calm_since = time.monotonic()
            if time.monotonic() > deadline:
                self._stuck = (
                    f"After {CALM_PATIENCE:g} s without any fault: {'; '.join(self._fleet.describe())}"
                )
                self._console.print(f"[bold red]{self._stuck}")
                return
            time.sleep(2 * _TICK)

    def _look(self) -> None:
        self._fleet.look()
        for line in self._fleet.exits[self._exits_told :]:
            self._tell(f"unexpected end: {line}")
        self._exits_told = len(self._fleet.exits)

    def _tell(self, line: str) -> None:
        self._console.print(f"{time.monotonic() - self._began:7.1f} s  {line}", markup=False, soft_wrap=True)

    # --- the end ----------------------------------------------------------------------------------

    def drain(self) -> None:
        """Wait for the last result, then end the replicas. They must have published everything before the run is judged."""
        at = self._stack.addresses
        changes = sum(1 for _ in read_topic(at.connection, at.topics.changes))
        deadline = time.monotonic() + RESULTS_PATIENCE
        with ResultsView(at.connection, at.topics.results) as view:
            while len(view.resolved) < changes and time.monotonic() < deadline:
                view.poll(_TICK)
                self._look()
            if len(view.resolved) < changes:
                missing = changes - len(view.resolved)
                self._stuck = self._stuck or f"{missing} changes had no result after {RESULTS_PATIENCE:g} s"
                self._console.print(f"[bold red]{missing} changes have no result.")
        self._seconds = time.monotonic() - self._began
        self._fleet.drain()
        self._look()

    def judge(self) -> ChaosOutcome:
        at = self._stack.addresses
        verdict = check_run(
            at.connection,
            at.topics.changes,
            at.topics.results,
            at.simulator.url,
            profile.check_limits(),
            at.topics.courses,
        )
        print_verdict(self._console, verdict)
        return ChaosOutcome(
            strikes=self._strikes.done,
            verdict=verdict,
            takeovers=self._takeovers,
            restarts=self._restarts,
            exits=self._fleet.exits,
            stuck=self._stuck,
            seconds=self._seconds,
        )
