"""Carries out rulings: how answers end changes.

Every function here carries out one ruling, and one ruling is one step. All its item results, the tombstones of batch
and task, and every successor (a waiting retry, the halves of a split) go into the same draft (R2). `core.judge` has
already decided what the answer means.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

import msgspec

from daemon.core import journal, next_attempt
from daemon.core.answers import (
    Accepted,
    Done,
    PollAnswer,
    Refused,
    SubmitAnswer,
    TaskCompleted,
    TaskFailed,
    TaskPending,
)
from daemon.core.batch import Batch, LateTask
from daemon.core.journal import Attempt
from daemon.core.judge import ItemRuling, PollRuling, SubmitRuling, failed_together
from daemon.core.memory import Memory
from daemon.core.model import Error, Item, Now, Status
from daemon.core.operation import REPLAYS_MAX
from daemon.core.result_factory import attempt_of
from daemon.core.retries import Retry
from daemon.core.step import (
    LateWatched,
    TaskEnded,
    TaskLost,
    TaskOutcome,
    Trigger,
)
from daemon.core.verdict import ItemVerdict, PollVerdict, SubmitVerdict, TaskVerdict

STALE_REPLAY = Error(
    "COURSESYNC.STALE_REPLAY",
    "The API answered this submission with an earlier task, which had been created for the same bytes, and no "
    "equivalent body of this change is left to try. It is not known whether the course has this content "
    "now. Publish the change again with any difference in it.",
    "Answered by an earlier task",
)
UNCONFIRMED = "COURSESYNC.DEACTIVATION_UNCONFIRMED"
TASK_TIMED_OUT = Error(
    "COURSESYNC.TASK_TIMED_OUT",
    "The task was still pending when its time-out was reached. It may end later; a correction will report "
    "that.",
    "Task timed out",
)


# --- submissions ----------------------------------------------------------------------------------


def submit_answered(
    memory: Memory, batch: Batch, answer: SubmitAnswer, ruling: SubmitRuling, now: Now
) -> None:
    assert batch.task_id is None
    batch.fate_unknown = batch.fate_unknown or ruling.fate_unknown
    match ruling.verdict:
        case SubmitVerdict.ACCEPTED:
            assert isinstance(answer, Accepted)
            memory.saw_times(batch.integration_id, answer, now)
            memory.accept(batch, answer.task_id, now)
        case SubmitVerdict.DONE:
            assert isinstance(answer, Done)
            memory.saw_times(batch.integration_id, answer, now)
            _done(memory, batch, answer, now)
        case (
            SubmitVerdict.RETRY
            | SubmitVerdict.FATE_UNKNOWN
            | SubmitVerdict.OUR_SIDE
            | SubmitVerdict.HALT
            | SubmitVerdict.REKEYED
        ):
            pass  # the same bytes are sent again later
        case SubmitVerdict.SPLIT:
            assert batch.body is not None
            _split(memory, batch, batch.body, _refusal(batch, answer), now)
        case SubmitVerdict.FAIL:
            attempt = _refusal(batch, answer)
            memory.close(batch)
            _processed_nothing(memory, batch, attempt, now)
            for item in batch.items:
                memory.end(batch.operation, batch.integration_id, item, Status.FAILED, now, attempt=attempt)
        case SubmitVerdict.UNCONFIRMED:
            assert isinstance(answer, Refused)
            _unconfirmed(memory, batch, answer, now)
        case SubmitVerdict.PARK:
            if not batch.fate_unknown and any(
                memory.retries.is_too_old(batch.integration_id, item, now) for item in batch.items
            ):
                _give_up_the_old(memory, batch, _refusal(batch, answer), now)
        case _:
            assert_never(ruling.verdict)


def _refusal(batch: Batch, answer: SubmitAnswer) -> Attempt:
    assert isinstance(answer, Refused)
    return attempt_of(batch, answer.error)


def _done(memory: Memory, batch: Batch, answer: Done, now: Now) -> None:
    """There is no task: the change ends with the answer to the call."""
    memory.close(batch)
    attempt = Attempt(batch.id, submitted_at=now.wall, completed_at=answer.api_time)
    integration_id, course_id = batch.integration_id, answer.course_id
    for item in batch.items:
        memory.end(
            batch.operation, integration_id, item, Status.SUCCEEDED, now, attempt=attempt, course_id=course_id
        )
        if answer.origin_id not in (None, item.origin_id):
            continue  # the publisher's id is that of another course: nothing was learned about this one
        memory.known.confirmed(
            memory.draft, batch.operation.makes, integration_id, item, attempt, course_id, now
        )


def _unconfirmed(memory: Memory, batch: Batch, answer: Refused, now: Now) -> None:
    """There is no task, and the API refuses to repeat a call that it may have carried out."""
    error = Error(
        UNCONFIRMED,
        "An earlier call may have been carried out, but its answer was lost, and the API refuses to repeat it: "
        f"{answer.error.code or f'HTTP {answer.status}'}, {answer.error.message} It is not known whether the course is "
        "inactive. Look it up in the learning system, or publish the change again.",
        "Not known whether it was carried out",
        answer.error.log_url,
    )
    attempt = attempt_of(batch, error)
    memory.close(batch)
    _uncertain(memory, batch, attempt, now)
    for item in batch.items:
        memory.end(batch.operation, batch.integration_id, item, Status.FAILED, now, attempt=attempt)


def _give_up_the_old(memory: Memory, batch: Batch, attempt: Attempt, now: Now) -> None:
    """The integration has been parked for too long: changes that are too old end, the others keep waiting."""
    assert batch.body is not None
    memory.close(batch)
    for entry in zip(batch.items, batch.operation.split(batch.body), strict=True):
        next_attempt.retry(memory, batch, entry, attempt, Retry.PARKED, now)


def _split(memory: Memory, batch: Batch, body: bytes, attempt: Attempt, now: Now) -> None:
    """Halve a batch that was refused because of its content, down to the item that causes the refusal."""
    memory.close(batch)
    _processed_nothing(memory, batch, attempt, now)
    if len(batch.items) == 1:
        memory.end(batch.operation, batch.integration_id, batch.items[0], Status.FAILED, now, attempt=attempt)
        return
    entries = list(zip(batch.items, batch.operation.split(body), strict=True))
    _seal_halves(memory, batch, entries, batch.splits, now)


def _seal_halves(
    memory: Memory, batch: Batch, entries: Sequence[tuple[Item, bytes]], splits: int, now: Now
) -> None:
    middle = len(entries) // 2
    for half in (entries[:middle], entries[middle:]):
        memory.seal(
            batch.operation, batch.integration_id, half, Trigger.ITEMS, now, bulk=batch.bulk, splits=splits
        )


# --- tasks ----------------------------------------------------------------------------------------


def poll_answered(
    memory: Memory,
    batch: Batch,
    answer: PollAnswer,
    ruling: PollRuling,
    body: bytes | None,
    polls: int,
    now: Now,
) -> None:
    """`body` is the payload if `ruling.needs_body`. `polls` is the number of polls of the task, including this one."""
    assert batch.task_id is not None
    batch.polls = polls
    completed_at = None
    if isinstance(answer, TaskPending | TaskCompleted | TaskFailed):
        memory.saw_times(batch.integration_id, answer, now)
        batch.created_at = answer.created_at
        completed_at = None if isinstance(answer, TaskPending) else answer.completed_at
    match ruling.verdict:
        case PollVerdict.PENDING | PollVerdict.BLIND | PollVerdict.HALT | PollVerdict.REKEYED:
            pass  # poll again
        case PollVerdict.OVERDUE:
            time_out(memory, batch, TASK_TIMED_OUT, now)
        case PollVerdict.REPLAYED:
            _replayed(memory, batch, completed_at, body, now)
        case PollVerdict.COMPLETED:
            _completed(memory, batch, completed_at, ruling.items, body, now)
        case PollVerdict.FAILED:
            assert isinstance(answer, TaskFailed)
            assert ruling.task is not None
            _failed(memory, batch, answer, ruling.task, body, now)
        case PollVerdict.LOST:
            assert body is not None
            # The same bytes return the existing task, or create it again (`docs/kombo-api.md`, "Idempotency
            # and the three traps").
            batch.fate_unknown = True
            memory.lose_task(batch, body)
            memory.draft.report(TaskLost(batch.id, batch.integration_id, batch.bulk))
        case _:
            assert_never(ruling.verdict)


def _end_task(memory: Memory, batch: Batch, outcome: TaskOutcome, completed_at: int | None, now: Now) -> None:
    memory.close(batch)
    memory.draft.report(_ended(batch, outcome, completed_at, now))


def _ended(batch: Batch, outcome: TaskOutcome, completed_at: int | None, now: Now) -> TaskEnded:
    assert batch.accepted_at is not None
    begun_at = batch.created_at or batch.accepted_at  # the best known start
    accepted_at, items = batch.accepted_at, len(batch.items)
    return TaskEnded(outcome, begun_at, completed_at, accepted_at, now.wall, batch.polls, items, batch.id)


def _processed_nothing(memory: Memory, batch: Batch, attempt: Attempt, now: Now) -> None:
    """The submission was refused, or its task failed as a whole, so its courses are what they were before. That does not
    hold if an earlier POST of the same bytes may have made another task, which may have been applied.
    """
    if batch.fate_unknown:
        _uncertain(memory, batch, attempt, now)


def _uncertain(memory: Memory, batch: Batch, attempt: Attempt, now: Now) -> None:
    """The submission may have been applied, and nobody knows (R15)."""
    for item in batch.items:
        memory.known.uncertain(memory.draft, batch.integration_id, item, attempt, now)


def _end_all(memory: Memory, batch: Batch, outcome: TaskOutcome, attempt: Attempt, now: Now) -> None:
    _end_task(memory, batch, outcome, attempt.completed_at, now)
    if outcome is TaskOutcome.FAILED:
        _processed_nothing(memory, batch, attempt, now)
    else:
        _uncertain(memory, batch, attempt, now)
    status = Status.TIMED_OUT if outcome is TaskOutcome.TIMED_OUT else Status.FAILED
    for item in batch.items:
        memory.end(batch.operation, batch.integration_id, item, status, now, attempt=attempt)


def _replayed(memory: Memory, batch: Batch, completed_at: int | None, body: bytes | None, now: Now) -> None:
    """R14: an earlier task says nothing about these changes. They are sent in an equivalent body. If none is left
    they end, and are never reported as succeeded.
    """
    replays = batch.replays + 1
    assert body is not None
    entries = _equivalent(memory, batch, batch.operation.split(body), replays)
    if entries is None:
        _end_all(memory, batch, TaskOutcome.STALE, attempt_of(batch, STALE_REPLAY, completed_at), now)
        return
    _end_task(memory, batch, TaskOutcome.STALE, completed_at, now)
    # A task that looks stale may be the batch's own, made while the API's clock was wrong.
    _uncertain(memory, batch, attempt_of(batch, STALE_REPLAY, completed_at), now)
    memory.seal(
        batch.operation,
        batch.integration_id,
        entries,
        Trigger.ITEMS,
        now,
        bulk=batch.bulk,
        replays=replays,
        splits=batch.splits,
    )


def _equivalent(
    memory: Memory, batch: Batch, items: list[bytes], replays: int
) -> list[tuple[Item, bytes]] | None:
    """The changes of the batch as the items of an equivalent body; None if there is none left."""
    if replays >= REPLAYS_MAX:
        return None
    bytes_max = memory.policy(batch.integration_id).batch.bytes_max
    reencoded = batch.operation.reencode(items, replays, bytes_max, memory.rng)
    return None if reencoded is None else [(batch.items[place], item) for place, item in reencoded]


def time_out(memory: Memory, batch: Batch, error: Error, now: Now) -> None:
    """R12: the changes end, but the courses stay busy, because the task may still apply its content."""
    assert batch.task_id is not None
    assert batch.accepted_at is not None
    created_at, traces = batch.created_at or batch.accepted_at, memory.traces.of(batch.items)
    _end_all(memory, batch, TaskOutcome.TIMED_OUT, attempt_of(batch, error), now)
    record = journal.Late(
        batch.id,
        batch.integration_id,
        batch.items.unpack(),
        created_at,
        batch.accepted_at,
        journal.operation_name(batch.operation),
        traces,
    )
    key = journal.late_key(batch.id, batch.task_id)
    memory.draft.put(key, record)
    bare = msgspec.structs.replace(record, items=())
    memory.watch_late(LateTask(batch.task_id, bare, batch.items, batch.accepted_mono, key))
    memory.draft.report(LateWatched(batch.id))


def _completed(
    memory: Memory,
    batch: Batch,
    completed_at: int | None,
    items: tuple[ItemRuling, ...],
    body: bytes | None,
    now: Now,
) -> None:
    bodies = batch.operation.split(body) if body is not None else []
    _end_task(memory, batch, TaskOutcome.COMPLETED, completed_at, now)
    integration_id, together = batch.integration_id, failed_together(items)
    if items and all(ruling.verdict is ItemVerdict.SPLIT for ruling in items):
        for item, ruling in zip(batch.items, items, strict=True):
            attempt = attempt_of(batch, ruling.error, completed_at)
            memory.known.uncertain(memory.draft, integration_id, item, attempt, now)
        _seal_halves(memory, batch, list(zip(batch.items, bodies, strict=True)), batch.splits + 1, now)
        return

    def retry(item: Item, body: bytes, attempt: Attempt, why: Retry) -> None:
        next_attempt.retry(memory, batch, (item, body), attempt, why, now)

    success = attempt_of(batch, None, completed_at)
    for index, (item, ruling) in enumerate(zip(batch.items, items, strict=True)):
        if ruling.error is None:
            attempt = success
        else:
            attempt = attempt_of(batch, ruling.error, completed_at, is_shared=together)
        match ruling.verdict:
            case ItemVerdict.SUCCEEDED:
                course_id = ruling.course_id
                memory.end(
                    batch.operation,
                    integration_id,
                    item,
                    Status.SUCCEEDED,
                    now,
                    attempt=attempt,
                    course_id=course_id,
                )
                memory.known.confirmed(
                    memory.draft, batch.operation.makes, integration_id, item, attempt, course_id, now
                )
                continue
            case ItemVerdict.RESUBMIT:
                retry(item, bodies[index], attempt, Retry.COUNTED)
            case ItemVerdict.OUR_SIDE:
                retry(item, bodies[index], attempt, Retry.OUR_SIDE)
            case ItemVerdict.FAIL:
                memory.end(batch.operation, integration_id, item, Status.FAILED, now, attempt=attempt)
            case ItemVerdict.SPLIT:
                raise AssertionError("either all items of a batch are split, or none is")
            case _:
                assert_never(ruling.verdict)
        # Where several items share one outcome, one that failed may have been applied all the same.
        memory.known.uncertain(memory.draft, integration_id, item, attempt, now)


def _failed(
    memory: Memory, batch: Batch, answer: TaskFailed, verdict: TaskVerdict, body: bytes | None, now: Now
) -> None:
    """The task failed as a whole: no item was processed."""
    attempt = attempt_of(batch, answer.error, answer.completed_at)
    match verdict:
        case TaskVerdict.FAIL:
            _end_all(memory, batch, TaskOutcome.FAILED, attempt, now)
        case TaskVerdict.TIMED_OUT:
            _end_all(memory, batch, TaskOutcome.TIMED_OUT, attempt, now)
        case TaskVerdict.SPLIT:
            assert body is not None
            _split(memory, batch, body, attempt, now)
            memory.draft.report(_ended(batch, TaskOutcome.FAILED, answer.completed_at, now))
        case TaskVerdict.RESUBMIT:
            _retry_all(memory, batch, body, attempt, Retry.COUNTED, now)
        case TaskVerdict.PARK:
            _retry_all(memory, batch, body, attempt, Retry.PARKED, now)
        case TaskVerdict.OUR_SIDE:
            _retry_all(memory, batch, body, attempt, Retry.OUR_SIDE, now)
        case _:
            assert_never(verdict)


def _retry_all(
    memory: Memory, batch: Batch, body: bytes | None, attempt: Attempt, why: Retry, now: Now
) -> None:
    assert body is not None
    _end_task(memory, batch, TaskOutcome.FAILED, attempt.completed_at, now)
    _processed_nothing(memory, batch, attempt, now)
    for entry in zip(batch.items, batch.operation.split(body), strict=True):
        next_attempt.retry(memory, batch, entry, attempt, why, now)
