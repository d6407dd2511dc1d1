"""Counts committed steps in metrics: everything that a step decided is counted here.

`count` is called after the commit of a step is confirmed. A restore produces no steps, so nothing is counted twice after a
restart.
"""

from __future__ import annotations

from collections import Counter
from typing import assert_never

from daemon.core.model import Now, RejectReason, Status
from daemon.core.step import (
    BatchCleared,
    BatchSealed,
    LateWatched,
    Step,
    TaskAccepted,
    TaskEnded,
    TaskLost,
    TracedBatch,
)
from daemon.core.task_durations import size_class
from daemon.core.verdict import SubmitVerdict
from daemon.telemetry.labels import DURATION_OUTCOMES, ChangeType, Resend, TaskSource
from daemon.telemetry.metrics import Metrics

_TYPE_UNKNOWN = frozenset(
    {RejectReason.MALFORMED, RejectReason.SCHEMA, RejectReason.UNSUPPORTED, RejectReason.TOMBSTONE}
)
"""Reasons for which a record is rejected before its type is known."""


def count(metrics: Metrics, step: Step, now: Now) -> None:
    """Count everything in this step. `now` is the time of its commit."""
    _count_input(metrics, step)
    # The changes of one read have been consumed at the same time.
    for (status, consumed_at), n in Counter(
        [(each.status, each.consumed_at) for each in step.results]
    ).items():
        metrics.results(status, (now.wall - consumed_at) / 1000, n)
        if status is Status.SUPERSEDED:
            metrics.superseded(n)
    for fact in step.facts:
        match fact:
            case BatchSealed():
                metrics.batch_sealed(fact.trigger, fact.items, fact.body_bytes)
            case TaskAccepted():
                metrics.task_created(TaskSource.SUBMIT)
                if fact.is_shared:
                    metrics.task_id_shared()
            case TaskEnded():
                _count_end(metrics, fact)
            case TaskLost():
                metrics.http_retry(Resend.LOST)
            case LateWatched():
                pass  # its end is counted as a timeout
            case BatchCleared():
                pass  # its submission is counted
            case TracedBatch():
                pass  # it is exported, not counted
            case _:
                assert_never(fact)


def resend_of(verdict: SubmitVerdict) -> Resend | None:
    """Why the same bytes are POSTed again after this verdict. None if they are not."""
    match verdict:
        case SubmitVerdict.RETRY:
            return Resend.RETRY
        case SubmitVerdict.PARK:
            return Resend.PARK
        case SubmitVerdict.FATE_UNKNOWN:
            return Resend.FATE_UNKNOWN
        case SubmitVerdict.OUR_SIDE | SubmitVerdict.HALT | SubmitVerdict.REKEYED:
            return Resend.HALT
        case (
            SubmitVerdict.ACCEPTED
            | SubmitVerdict.DONE
            | SubmitVerdict.SPLIT
            | SubmitVerdict.FAIL
            | SubmitVerdict.UNCONFIRMED
        ):
            return None
        case _:
            assert_never(verdict)


def _count_input(metrics: Metrics, step: Step) -> None:
    unknown = 0
    for reason, n in Counter(rejection.reason for rejection in step.rejections).items():
        metrics.changes_rejected(reason, n)
        unknown += n if reason in _TYPE_UNKNOWN else 0
    deactivated = step.changes.get(ChangeType.DEACTIVATED, 0)
    metrics.changes_consumed(ChangeType.DEACTIVATED, deactivated)
    metrics.changes_consumed(ChangeType.UPSERTED, step.consumed - unknown - deactivated)
    metrics.changes_consumed(ChangeType.OTHER, unknown)


def _count_end(metrics: Metrics, ended: TaskEnded) -> None:
    size = size_class(ended.items)
    metrics.task_finished(ended.outcome, ended.polls, size)
    # A stale task belongs to an earlier submission and may have ended hours ago; a timed-out task has not ended.
    if ended.outcome in DURATION_OUTCOMES and ended.completed_at is not None:
        metrics.task_lasted(ended.outcome, (ended.completed_at - ended.begun_at) / 1000)
        # A submission whose answer was lost is sent again, and its task may have ended before its id was known here.
        known_end = max(ended.completed_at, ended.accepted_at)
        metrics.end_detected((ended.seen_at - known_end) / 1000, size)
