"""What the daemon, or a program in its place, loses, doubles and misreports when it is killed while the API misbehaves.

One process works on changes that are published meanwhile. The simulator has all its faults (`demo`). At times that the seed
decides, the process is ended by kill -9 and started again at once. Then everything has time to end, and the checker of the
sandbox judges.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from daemon.log.topic_access import read_topic
from tests.bench.setting import Setting
from tests.sandbox import profile
from tests.sandbox.checker import Limits, Verdict, check_run
from tests.sandbox.generator import Plan
from tests.sandbox.publishing import Publishing
from tests.sandbox.results_view import ResultsView
from tests.sandbox.stack import Stack

RATE = 100.0
"""Changes a second, as in `make chaos`."""
CHANGES_MAX = 10_000_000
"""More than any run needs: publishing is stopped after the last kill."""
BETWEEN_KILLS_MIN, BETWEEN_KILLS_MAX = 2.0, 6.0
"""Seconds from one start to the next kill. The sandbox's tasks take 1 s on average, and at most 10 s."""
QUIET = 20.0
"""Seconds without a new result after which no more are expected: twice the sandbox's `task.timeout`."""
END_PATIENCE = 90.0
"""Seconds after the last change after which the run is judged in any case."""
_LOOK_EVERY = 0.1


@dataclass(frozen=True, slots=True)
class Killed:
    kills: int
    verdict: Verdict
    seconds: float
    """From the first change to the last result."""


def run_killed(
    setting: Setting, name: str, kills: int, seed: int, program: Sequence[str] | None = None
) -> Killed:
    """`program` as in `Stack`. For it, it is not judged whether a course is left alone for a while after a task timed out, and not
    what it knows of the courses, because only the daemon promises that.

    Raises:
        SandboxError, LogError: a part failed; everything has been ended.
    """
    with setting.stack(
        name,
        task_seconds=profile.TASK_SECONDS,
        settings={},
        faults="demo",
        seed=seed,
        program=program,
    ) as stack:
        stack.start_daemon()
        seconds = _play(stack, kills, seed)
        stack.daemon.process.stop()  # whatever its exit code: the checker judges
        at, limits = stack.addresses, profile.check_limits()
        verdict = check_run(
            at.connection,
            at.topics.changes,
            at.topics.results,
            at.simulator.url,
            limits if program is None else Limits(task_timeout_ms=limits.task_timeout_ms),
            at.topics.courses if program is None else None,
        )
        return Killed(kills, verdict, seconds)


def kill_times(kills: int, seed: int) -> Iterator[float]:
    """Seconds from the first change to each kill."""
    rng = random.Random(seed)
    at = 0.0
    for _ in range(kills):
        at += rng.uniform(BETWEEN_KILLS_MIN, BETWEEN_KILLS_MAX)
        yield at


def _play(stack: Stack, kills: int, seed: int) -> float:
    at = stack.addresses
    plan = Plan(
        seed=seed,
        changes=CHANGES_MAX,
        retire_share=profile.RETIRE_SHARE,
        first_time_ms=time.time_ns() // 1_000_000,
    )
    with ResultsView(at.connection, at.topics.results) as view:
        began = time.monotonic()
        with Publishing(at.connection, at.topics.changes, plan, RATE) as publishing:
            for due in kill_times(kills, seed):
                while time.monotonic() - began < due:
                    view.poll(_LOOK_EVERY)
                    stack.assert_running()
                    assert not publishing.done
                stack.kill_daemon()
                stack.start_daemon()
        changes = sum(1 for _ in read_topic(at.connection, at.topics.changes))
        ended = news_at = time.monotonic()
        while len(view.resolved) < changes and time.monotonic() - news_at < QUIET:
            if view.poll(_LOOK_EVERY):
                news_at = time.monotonic()
            stack.assert_running()
            if time.monotonic() - ended > END_PATIENCE:
                break
        return news_at - began
