"""Carries out rulings on tasks that timed out and are still watched (R12)."""

from __future__ import annotations

from typing import assert_never

from msgspec import UNSET

from daemon.core import journal
from daemon.core.answers import PollAnswer, TaskCompleted, TaskFailed, TaskPending
from daemon.core.batch import LateTask
from daemon.core.journal import Attempt
from daemon.core.judge import PollRuling, failed_together
from daemon.core.memory import Memory
from daemon.core.model import Correction, Error, Item, Now, Status
from daemon.core.result_factory import result_of
from daemon.core.verdict import ItemVerdict, PollVerdict


def late_answered(memory: Memory, late: LateTask, answer: PollAnswer, ruling: PollRuling, now: Now) -> None:
    """R12: a late end is published as a correction. A watch that is over frees the courses."""
    if isinstance(answer, TaskPending | TaskCompleted | TaskFailed):
        memory.saw_times(late.record.integration_id, answer, now)
    match ruling.verdict:
        case PollVerdict.PENDING | PollVerdict.BLIND | PollVerdict.HALT | PollVerdict.REKEYED:
            pass  # poll again
        case PollVerdict.OVERDUE:
            memory.forget_late(late)
        case PollVerdict.COMPLETED:
            assert isinstance(answer, TaskCompleted)
            memory.forget_late(late)
            together = failed_together(ruling.items)
            for item, one in zip(late.items, ruling.items, strict=True):
                attempt = _late_attempt(late, one.error, answer.completed_at, is_shared=together)
                _correct(memory, late, item, attempt, now, one.course_id)
                if one.verdict is ItemVerdict.SUCCEEDED:
                    memory.known.confirmed(
                        memory.draft,
                        journal.operation_of(late.record).makes,
                        late.record.integration_id,
                        item,
                        attempt,
                        one.course_id,
                        now,
                    )
        case PollVerdict.FAILED:
            assert isinstance(answer, TaskFailed)
            memory.forget_late(late)
            is_shared = len(late.items) > 1
            attempt = _late_attempt(late, answer.error, answer.completed_at, is_shared=is_shared)
            for item in late.items:
                _correct(memory, late, item, attempt, now)
        case PollVerdict.LOST | PollVerdict.REPLAYED:
            raise AssertionError(f"{ruling.verdict} is not a ruling for a late task")
        case _:
            assert_never(ruling.verdict)


def _late_attempt(
    late: LateTask, error: Error | None, completed_at: int | None, *, is_shared: bool
) -> Attempt:
    record = late.record
    shared = is_shared or UNSET
    return Attempt(record.batch_id, error, late.task_id, record.accepted_at, completed_at, shared)


def _correct(
    memory: Memory, late: LateTask, item: Item, attempt: Attempt, now: Now, course_id: str | None = None
) -> None:
    result = result_of(
        journal.operation_of(late.record),
        late.record.integration_id,
        item,
        Status.SUCCEEDED if attempt.error is None else Status.FAILED,
        now,
        attempt=attempt,
        course_id=course_id,
        trace=None if late.record.traces is UNSET else late.record.traces.get(item.offset),
    )
    memory.draft.correct(Correction(result))
