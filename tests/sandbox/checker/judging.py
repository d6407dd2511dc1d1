"""The checker's one question: was the contract kept?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tests.sandbox.checker.endings import judge_endings
from tests.sandbox.checker.evidence import gather
from tests.sandbox.checker.history import HeldCourse, LogRecord, Task
from tests.sandbox.checker.ordering import judge_courses
from tests.sandbox.checker.verdict import Verdict


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the daemon was configured with, as far as it decides what is right."""

    item_bytes_max: int = 512 * 1024
    """`batch.bytes_max`: a larger course must be rejected."""
    task_timeout_ms: int | None = None
    """`task.timeout`. None: whether a time-out came too early is not judged."""
    watch_ms: int | None = None
    """`task.watch_after_timeout`. None: whether a course was left alone after a time-out is not judged."""

    backlog_rejects: bool = False
    """`backlog.on_full` is `reject`: a change may end for want of room."""

    @property
    def pending_ms_max(self) -> int | None:
        if self.task_timeout_ms is None or self.watch_ms is None:
            return None
        return self.task_timeout_ms + self.watch_ms


def judge(
    inputs: Iterable[LogRecord],
    results: Iterable[LogRecord],
    tasks: Iterable[Task],
    lms: Iterable[HeldCourse],
    limits: Limits | None = None,
) -> Verdict:
    """Hold a finished run against the contract.

    `inputs` and `results` are what `read_committed` readers see of the two topics, in offset order within
    each partition; `tasks` and `lms` the state of the API. Each is gone through once.
    """
    limits = limits or Limits()
    verdict = Verdict()
    evidence = gather(inputs, results, tasks, lms, limits.item_bytes_max, verdict)
    judge_endings(evidence, limits.task_timeout_ms, verdict, backlog_rejects=limits.backlog_rejects)
    judge_courses(evidence, limits.pending_ms_max, verdict)
    return verdict
