"""What the daemon, or a program in its place, loses, doubles and misreports when it is killed while the API misbehaves.

One process works on changes that are published meanwhile. The simulator has all its faults (`demo`). The process is ended by
kill -9 and started again at once, several times. Then everything has time to end, and the checker of the sandbox judges.

Each kill follows the first new result of the process by a time that the seed decides. With times of the clock alone, a process
that starts slowly on a busy machine would be killed before it works, and nothing could go wrong: two runs of the plain program
with equal times doubled 58 and 4,966 results. So the number of findings is a matter of chance, and whether there are any is not.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
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
AT_WORK_MIN, AT_WORK_MAX = 0.5, 4.0
"""Seconds from the first new result to the kill. The sandbox's tasks take 1 s on average, and at most 10 s."""
START_PATIENCE = 30.0
"""Seconds after a start after which the process is killed even if it has no new result. It counts in `idle_kills`."""
QUIET = 20.0
"""Seconds without a new result after which no more are expected: twice the sandbox's `task.timeout`."""
END_PATIENCE = 90.0
"""Seconds after the last change after which the run is judged in any case."""
_LOOK_EVERY = 0.1


@dataclass(frozen=True, slots=True)
class Killed:
    kills: int
    idle_kills: int
    """Of these, the kills of a process that had no result since its start."""
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
        idle_kills, seconds = _play(stack, kills, seed)
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
        return Killed(kills, idle_kills, verdict, seconds)


def kill_delays(kills: int, seed: int) -> list[float]:
    """Seconds from the first new result of the process to each kill."""
    rng = random.Random(seed)
    return [rng.uniform(AT_WORK_MIN, AT_WORK_MAX) for _ in range(kills)]


def _play(stack: Stack, kills: int, seed: int) -> tuple[int, float]:
    """The number of idle kills, and the seconds until the last result."""
    at = stack.addresses
    plan = Plan(
        seed=seed,
        changes=CHANGES_MAX,
        retire_share=profile.RETIRE_SHARE,
        first_time_ms=time.time_ns() // 1_000_000,
    )
    idle_kills = 0
    with ResultsView(at.connection, at.topics.results) as view:
        began = time.monotonic()
        with Publishing(at.connection, at.topics.changes, plan, RATE) as publishing:
            for delay in kill_delays(kills, seed):
                idle_kills += not _work_for(stack, view, delay)
                assert not publishing.done
                stack.kill_daemon()
                while view.poll(_LOOK_EVERY):
                    pass  # what it still wrote is no result of the next process
                stack.start_daemon()
        changes = sum(1 for _ in read_topic(at.connection, at.topics.changes))
        ended = news_at = time.monotonic()
        while len(view.resolved) < changes and time.monotonic() - news_at < QUIET:
            if view.poll(_LOOK_EVERY):
                news_at = time.monotonic()
            stack.assert_running()
            if time.monotonic() - ended > END_PATIENCE:
                break
        return idle_kills, news_at - began


def _work_for(stack: Stack, view: ResultsView, seconds: float) -> bool:
    """Let the process work for so long after its first new result. Returns whether there was one."""
    give_up_at = time.monotonic() + START_PATIENCE
    while not view.poll(_LOOK_EVERY):
        stack.assert_running()
        if time.monotonic() > give_up_at:
            return False
    kill_at = time.monotonic() + seconds
    while time.monotonic() < kill_at:
        view.poll(_LOOK_EVERY)
        stack.assert_running()
    return True
