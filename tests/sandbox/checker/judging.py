"""The question of the checker: was the contract kept?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tests.sandbox.checker.endings import judge_endings
from tests.sandbox.checker.evidence import gather
from tests.sandbox.checker.history import ApiTask, DeactivationCall, HeldCourse, LogRecord
from tests.sandbox.checker.known import judge_known
from tests.sandbox.checker.ordering import judge_courses
from tests.sandbox.checker.verdict import Verdict


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The settings of the daemon that affect the verdict."""

    item_bytes_max: int = 512 * 1024
    """`batch.bytes_max`: a larger course must be rejected."""
    task_timeout_ms: int | None = None
    """`task.timeout`. None: early timeouts are not judged."""
    watch_ms: int | None = None
    """`task.watch_after_timeout`. None: submissions of a course after a timeout are not judged."""

    backlog_rejects: bool = False
    """`backlog.on_full` is `reject`: a full backlog may reject changes."""

    @property
    def pending_ms_max(self) -> int | None:
        if self.task_timeout_ms is None or self.watch_ms is None:
            return None
        return self.task_timeout_ms + self.watch_ms


def judge(
    inputs: Iterable[LogRecord],
    results: Iterable[LogRecord],
    tasks: Iterable[ApiTask],
    deactivations: Iterable[DeactivationCall],
    lms: Iterable[HeldCourse],
    limits: Limits | None = None,
    courses: Iterable[LogRecord] | None = None,
) -> Verdict:
    """Judge a finished run by the contract.

    `inputs` and `results` are what `read_committed` readers see of the two topics, in offset order within each partition.
    `tasks`, `deactivations` and `lms` are the state of the API. `courses` are the records of the courses topic; None: they are not
    judged. Each iterable is read once.
    """
    limits = limits or Limits()
    verdict = Verdict()
    evidence = gather(inputs, results, tasks, deactivations, lms, limits.item_bytes_max, verdict)
    judge_endings(evidence, limits.task_timeout_ms, verdict, backlog_rejects=limits.backlog_rejects)
    judge_courses(evidence, limits.pending_ms_max, verdict)
    judge_known(evidence, courses, verdict)
    return verdict
