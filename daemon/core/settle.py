"""How answers end changes.

Every function here gives one verdict, and one verdict is one step: all its item results, the tombstones
of batch and task, and every successor (a retry that waits, the halves of a split) go into the same draft
(R2).
"""

from __future__ import annotations

import msgspec

from daemon.core import journal
from daemon.core import verdict as table
from daemon.core.answers import (
    Accepted,
    ItemOutcome,
    NoAnswer,
    PollAnswer,
    Refused,
    SubmitAnswer,
    TaskCompleted,
    TaskFailed,
    TaskPending,
)
from daemon.core.freshness import has_outlived, is_stale
from daemon.core.journal import Attempt
from daemon.core.memory import Memory, attempt_of, result_of
from daemon.core.model import Correction, Error, Item, Now, Status
from daemon.core.rewording import REPLAYS_MAX, reword
from daemon.core.step import (
    Batch,
    LateTask,
    LateWatched,
    Outcome,
    TaskAccepted,
    TaskEnded,
    TaskLost,
    Trigger,
)
from daemon.core.verdict import Verdict

STALE_REPLAY = Error(
    "COURSESYNC.STALE_REPLAY",
    "The API answered with a task that is older than this submission, since an equal one was made "
    "before, and there is no other way left to say the same; whether the course has this content now is not "
    "known. Publish the change again with any difference in it.",
    "Answered by an earlier task",
)
OUTCOME_MISSING = Error(
    "COURSESYNC.OUTCOME_MISSING",
    "The task was completed and its result does not name this course.",
    "No outcome for this item",
)
OUTCOME_CONTRADICTORY = Error(
    "COURSESYNC.OUTCOME_CONTRADICTORY",
    "The task was completed and its result names this course more than once, with different outcomes.",
    "Contradictory outcomes for this item",
)
TASK_TIMED_OUT = Error(
    "COURSESYNC.TASK_TIMED_OUT",
    "The task was still pending when its time was over. It may end later; a correction will tell.",
    "Task timed out",
)


class _Body(msgspec.Struct):
    items: list[msgspec.Raw]


_decode_body = msgspec.json.Decoder(_Body).decode


def split_body(body: bytes) -> list[bytes]:
    """The items of a frozen body, each as it was sealed."""
    return [bytes(item) for item in _decode_body(body).items]


def needs_body(batch: Batch, answer: PollAnswer) -> bool:
    """Whether judging this answer takes the payload, which was dropped when the API accepted the batch:
    some of it may have to be sent again.
    """
    match answer:
        case TaskPending() | TaskCompleted() | TaskFailed() if is_stale(batch.api_floor, answer.created_at):
            return batch.replays + 1 < REPLAYS_MAX
        case TaskCompleted():
            outcomes = outcomes_by_course(answer.outcomes)
            return any(_may_pass(outcomes.get(item.origin_id)) for item in batch.items)
        case TaskFailed():
            return table.of_task(answer.error.code) not in (Verdict.FAIL, Verdict.TIMED_OUT)
        case Refused():
            return table.of_poll(answer.error.code, answer.status) is Verdict.LOST
        case TaskPending() | NoAnswer():
            return False


# --- submissions ----------------------------------------------------------------------------------


def submit_answered(memory: Memory, batch: Batch, answer: SubmitAnswer, now: Now) -> Verdict | None:
    assert batch.task_id is None
    match answer:
        case NoAnswer():
            batch.fate_unknown = True
            return Verdict.RETRY
        case Accepted():
            memory.freshness.saw_date(batch.integration_id, answer.api_time, now)
            memory.accept(batch, answer.task_id, now)
            memory.draft.facts.append(TaskAccepted(batch))
            return None
        case Refused():
            return _submit_refused(memory, batch, answer, now)


def verdict_of_submit(answer: SubmitAnswer) -> Verdict | None:
    """What the answer to a POST means where nobody knows the batch any more."""
    match answer:
        case NoAnswer():
            return Verdict.RETRY
        case Accepted():
            return None
        case Refused():
            return table.of_submit(answer.error.code, answer.status)


def _submit_refused(memory: Memory, batch: Batch, answer: Refused, now: Now) -> Verdict:
    verdict = table.of_submit(answer.error.code, answer.status)
    if not table.is_understood(answer.error.code, answer.status):
        batch.fate_unknown = True
    if verdict in (Verdict.RETRY, Verdict.HALT):
        return verdict
    if batch.fate_unknown and not table.is_conclusive(verdict):
        # R13: an earlier POST may have made a task. Only the same bytes can find it.
        return Verdict.PARK
    assert batch.body is not None
    if verdict is Verdict.SPLIT:
        _split(memory, batch, batch.body, attempt_of(batch, answer.error), now)
    elif verdict is Verdict.FAIL:
        attempt = attempt_of(batch, answer.error)
        memory.close(batch)
        for item in batch.items:
            memory.end(batch.integration_id, item, Status.FAILED, now, attempt=attempt)
    elif any(memory.is_too_old(item, now) for item in batch.items):
        # Parked for longer than anyone should wait: what is too old ends, the others go on.
        attempt = attempt_of(batch, answer.error)
        memory.close(batch)
        for entry in zip(batch.items, split_body(batch.body), strict=True):
            memory.retry(batch.integration_id, entry, attempt, Verdict.PARK, now)
    return verdict


def _split(memory: Memory, batch: Batch, body: bytes, attempt: Attempt, now: Now) -> None:
    """Halve a batch that was refused for its content, down to the item that is to blame."""
    memory.close(batch)
    if len(batch.items) == 1:
        memory.end(batch.integration_id, batch.items[0], Status.FAILED, now, attempt=attempt)
        return
    entries = list(zip(batch.items, split_body(body), strict=True))
    middle = len(entries) // 2
    for half in (entries[:middle], entries[middle:]):
        memory.seal(batch.integration_id, half, Trigger.ITEMS, now)


# --- tasks ----------------------------------------------------------------------------------------


def poll_answered(
    memory: Memory, batch: Batch, answer: PollAnswer, body: bytes | None, now: Now
) -> Verdict | None:
    assert batch.task_id is not None
    match answer:
        case NoAnswer():
            return Verdict.BLIND
        case Refused():
            return _poll_refused(memory, batch, answer, body)
        case TaskPending() | TaskCompleted() | TaskFailed():
            memory.saw_task(batch.integration_id, answer, now)
            batch.created_at = answer.created_at
            accepted_for = now.mono - batch.accepted_mono
            if is_stale(batch.api_floor, answer.created_at):
                if not isinstance(answer, TaskPending):
                    _replayed(memory, batch, answer.completed_at, body, now)
                elif has_outlived(_watched(memory), answer.created_at, answer.api_time, accepted_for):
                    _replayed(memory, batch, None, body, now)
                # Else it may be the task of this batch all the same, made while the API's clock was behind the floor:
                # no other body goes out while it may still run (contract 2).
                return None
    match answer:
        case TaskPending():
            if has_outlived(memory.settings.task.timeout, answer.created_at, answer.api_time, accepted_for):
                _time_out(memory, batch, answer.created_at, now)
            return None
        case TaskCompleted():
            _completed(memory, batch, answer, body, now)
            return None
        case TaskFailed():
            return _failed(memory, batch, answer, body, now)


def _poll_refused(memory: Memory, batch: Batch, answer: Refused, body: bytes | None) -> Verdict:
    verdict = table.of_poll(answer.error.code, answer.status)
    if verdict is Verdict.LOST:
        assert body is not None
        # The API does not know the task: the same bytes find it again, or make it anew (API table, poll).
        batch.fate_unknown = True
        memory.lose_task(batch, body)
        memory.draft.facts.append(TaskLost(batch))
    return verdict


def _end_task(memory: Memory, batch: Batch, outcome: Outcome, completed_at: int | None) -> None:
    memory.close(batch)
    memory.draft.facts.append(TaskEnded(batch, outcome, completed_at))


def _end_all(memory: Memory, batch: Batch, outcome: Outcome, attempt: Attempt, now: Now) -> None:
    _end_task(memory, batch, outcome, attempt.completed_at)
    status = Status.TIMED_OUT if outcome is Outcome.TIMED_OUT else Status.FAILED
    for item in batch.items:
        memory.end(batch.integration_id, item, status, now, attempt=attempt)


def _replayed(memory: Memory, batch: Batch, completed_at: int | None, body: bytes | None, now: Now) -> None:
    """R14: an earlier task says nothing of these changes. They are said in another way, and when none is
    left they end: never a false success.
    """
    replays = batch.replays + 1
    reworded = None
    if replays < REPLAYS_MAX:
        assert body is not None
        entries = list(zip(batch.items, split_body(body), strict=True))
        reworded = reword(entries, replays, memory.settings.batch.bytes_max, memory.rng)
    if reworded is None:
        _end_all(memory, batch, Outcome.STALE, attempt_of(batch, STALE_REPLAY, completed_at), now)
        return
    _end_task(memory, batch, Outcome.STALE, completed_at)
    memory.seal(batch.integration_id, reworded, Trigger.ITEMS, now, replays=replays)


def _time_out(memory: Memory, batch: Batch, created_at: int, now: Now) -> None:
    """R12: the changes end, the courses stay busy: the task may still apply."""
    assert batch.task_id is not None
    assert batch.accepted_at is not None
    _end_all(memory, batch, Outcome.TIMED_OUT, attempt_of(batch, TASK_TIMED_OUT), now)
    record = journal.Late(batch.id, batch.integration_id, batch.items, created_at, batch.accepted_at)
    late = LateTask(batch.task_id, record, batch.accepted_mono)
    memory.watch_late(late)
    memory.draft.put(journal.late_key(late.task_id), record)
    memory.draft.facts.append(LateWatched(late))


def _completed(memory: Memory, batch: Batch, answer: TaskCompleted, body: bytes | None, now: Now) -> None:
    outcomes = outcomes_by_course(answer.outcomes)
    bodies = split_body(body) if body is not None else []
    _end_task(memory, batch, Outcome.COMPLETED, answer.completed_at)
    success = attempt_of(batch, None, answer.completed_at)
    for index, item in enumerate(batch.items):
        outcome = outcomes.get(item.origin_id)
        if outcome is not None and outcome.succeeded:
            memory.end(
                batch.integration_id,
                item,
                Status.SUCCEEDED,
                now,
                attempt=success,
                course_id=outcome.course_id,
            )
            continue
        error = _failure(outcome)
        attempt = attempt_of(batch, error, answer.completed_at)
        if _may_pass(outcome):
            entry = (item, bodies[index])
            memory.retry(batch.integration_id, entry, attempt, Verdict.RESUBMIT, now)
        else:
            memory.end(batch.integration_id, item, Status.FAILED, now, attempt=attempt)


def _may_pass(outcome: ItemOutcome | None) -> bool:
    """Whether the item is to be sent again; one without an outcome is (API, trap 3)."""
    if outcome is None:
        return True
    return not outcome.succeeded and table.of_item(_failure(outcome).code) is Verdict.RESUBMIT


def _failure(outcome: ItemOutcome | None) -> Error:
    if outcome is None:
        return OUTCOME_MISSING
    assert outcome.error is not None
    return outcome.error


def outcomes_by_course(outcomes: tuple[ItemOutcome, ...]) -> dict[str, ItemOutcome]:
    """One outcome per course. A course that is named twice with different outcomes did not succeed:
    only what the API reported as succeeded, and as nothing else, may be published as such.
    """
    found: dict[str, ItemOutcome] = {}
    for outcome in outcomes:
        earlier = found.get(outcome.origin_id)
        if earlier is None:
            found[outcome.origin_id] = outcome
        elif earlier.succeeded != outcome.succeeded:
            found[outcome.origin_id] = ItemOutcome(
                outcome.origin_id, succeeded=False, course_id=None, error=OUTCOME_CONTRADICTORY
            )
    return found


def _failed(memory: Memory, batch: Batch, answer: TaskFailed, body: bytes | None, now: Now) -> Verdict | None:
    """The task ended without processing any item."""
    verdict = table.of_task(answer.error.code)
    attempt = attempt_of(batch, answer.error, answer.completed_at)
    if verdict in (Verdict.FAIL, Verdict.TIMED_OUT):
        outcome = Outcome.TIMED_OUT if verdict is Verdict.TIMED_OUT else Outcome.FAILED
        _end_all(memory, batch, outcome, attempt, now)
        return None
    assert body is not None
    if verdict is Verdict.SPLIT:
        _split(memory, batch, body, attempt, now)
        memory.draft.facts.append(TaskEnded(batch, Outcome.FAILED, answer.completed_at))
        return None
    _end_task(memory, batch, Outcome.FAILED, answer.completed_at)
    for entry in zip(batch.items, split_body(body), strict=True):
        memory.retry(batch.integration_id, entry, attempt, verdict, now)
    return None if verdict is Verdict.RESUBMIT else verdict


# --- tasks that were given up ---------------------------------------------------------------------


def late_answered(memory: Memory, late: LateTask, answer: PollAnswer, now: Now) -> Verdict | None:
    """R12: a late end is told as a correction; a watch that is over frees the courses."""
    record = late.record
    api_time = None
    match answer:
        case NoAnswer():
            return Verdict.BLIND
        case TaskCompleted():
            memory.saw_task(record.integration_id, answer, now)
            outcomes = outcomes_by_course(answer.outcomes)
            memory.forget_late(late)
            for item in record.items:
                outcome = outcomes.get(item.origin_id)
                if outcome is not None and outcome.succeeded:
                    attempt = _late_attempt(late, None, answer.completed_at)
                    _correct(memory, late, item, attempt, now, outcome.course_id)
                else:
                    attempt = _late_attempt(late, _failure(outcome), answer.completed_at)
                    _correct(memory, late, item, attempt, now)
            return None
        case TaskFailed():
            memory.saw_task(record.integration_id, answer, now)
            attempt = _late_attempt(late, answer.error, answer.completed_at)
            memory.forget_late(late)
            for item in record.items:
                _correct(memory, late, item, attempt, now)
            return None
        case TaskPending():
            memory.saw_task(record.integration_id, answer, now)
            api_time = answer.api_time
        case Refused():
            verdict = table.of_poll(answer.error.code, answer.status)
            if verdict is Verdict.HALT:
                return verdict
            api_time = answer.api_time if verdict is Verdict.LOST else None
    if has_outlived(_watched(memory), record.created_at, api_time, now.mono - late.accepted_mono):
        memory.forget_late(late)
    return None


def _watched(memory: Memory) -> float:
    """Seconds after which a task that is still pending is not waited for any more (R12)."""
    return memory.settings.task.timeout + memory.settings.task.watch_after_timeout


def _late_attempt(late: LateTask, error: Error | None, completed_at: int | None) -> Attempt:
    record = late.record
    return Attempt(record.batch_id, error, late.task_id, record.accepted_at, completed_at)


def _correct(
    memory: Memory, late: LateTask, item: Item, attempt: Attempt, now: Now, course_id: str | None = None
) -> None:
    result = result_of(
        late.record.integration_id,
        item,
        Status.SUCCEEDED if attempt.error is None else Status.FAILED,
        now,
        attempt=attempt,
        course_id=course_id,
    )
    memory.draft.corrections.append(Correction(result))
    memory.draft.wanted = True
