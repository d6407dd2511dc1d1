"""Bugs against the points of the contract (DESIGN, section 1)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import msgspec

from daemon.codec import encode_result
from daemon.core import admission as admission_module
from daemon.core import judge, restoring, settle
from daemon.core import verdict as table
from daemon.core.admission import Admission
from daemon.core.answers import Accepted, ItemOutcome, NoAnswer
from daemon.core.backlog import Backlog, rejection_of
from daemon.core.batch import Batch, LateTask, OpenTask
from daemon.core.breaker import BackOff, Breaker
from daemon.core.flow import Flow
from daemon.core.judge import Judge, KeyEvidence, PollRuling, SubmitRuling
from daemon.core.lane import Held
from daemon.core.memory import Memory
from daemon.core.model import Change, Error, Item, Now, Rejection, RejectReason, Status
from daemon.core.result_factory import attempt_of
from daemon.core.retries import Retries, Retry
from daemon.core.sealing import Sealing
from daemon.core.shard import Shard
from daemon.core.step import TaskOutcome, Trigger
from daemon.core.verdict import ItemVerdict, SubmitVerdict, TaskVerdict
from daemon.core.waiting import Waiting
from daemon.log.port import Records
from daemon.runtime import step_transaction
from daemon.runtime.halt import Halt
from daemon.runtime.intake import Intake
from daemon.runtime.partition import Partition
from daemon.runtime.poller import Poller
from tests.sim.mutants.registry import Patch, mutant
from tests.sim.parameters import Kind

# --- 1. One result per change ---------------------------------------------------------------------


@mutant("C1", "A rejected record goes to the dead letters and gets no result.")
def rejected_without_result(patch: Patch) -> None:
    def reject(admission: Admission, rejection: Rejection, _: Now) -> None:
        admission._memory.draft._rejections.append(rejection)
        admission._memory.draft.want()

    patch(Admission, "_reject", reject)


@mutant("C1", "A superseded change is dropped without a result.")
def superseded_without_result(patch: Patch) -> None:
    end = Memory.end

    def quiet_end(
        memory: Memory, operation: Any, integration_id: str, item: Item, status: Status, *a: Any, **k: Any
    ) -> None:
        if status is not Status.SUPERSEDED:
            end(memory, operation, integration_id, item, status, *a, **k)

    patch(Memory, "end", quiet_end)


@mutant("C1", "The position covers records that were read but not admitted.")
def position_ahead(patch: Patch) -> None:
    take_step = Shard.take_step

    def take(shard: Shard) -> Any:
        memory = shard._memory
        memory.position = msgspec.structs.replace(memory.position, next_offset=shard._next_read)
        return take_step(shard)

    patch(Shard, "take_step", take)


@mutant("C1", "The position does not move, so everything is read again after a restart.")
def position_stands_still(patch: Patch) -> None:
    take_step = Shard.take_step

    def take(shard: Shard) -> Any:
        memory = shard._memory
        moved = memory.position
        memory.position = msgspec.structs.replace(moved, next_offset=shard.__dict__.setdefault("_began", 0))
        step = take_step(shard)
        memory.position = moved
        return step

    patch(Shard, "take_step", take)


@mutant("C1", "Records that were read for an earlier assignment are accepted as well.")
def old_records_are_taken(patch: Patch) -> None:
    deliver = Partition.deliver

    def take_all(partition: Partition, read: Records) -> None:
        deliver(partition, replace(read, token=partition.intake.token))

    patch(Partition, "deliver", take_all)


@mutant("C1", "The outcome of a timed-out task is published as a second result.")
def correction_is_a_result(patch: Patch) -> None:
    def encode(correction: Any, partition: int, **names: Any) -> Any:
        return encode_result(correction.result, partition, **names)

    patch(step_transaction, "encode_correction", encode)


@mutant("C1", "Changes that wait for their course are not restored.")
def waiting_changes_forgotten(patch: Patch) -> None:
    load = restoring.load

    def load_less(memory: Memory, fold: Any, now: Now, fenced_at: float) -> None:
        fold.waits.clear()
        load(memory, fold, now, fenced_at)

    patch(restoring, "load", load_less)


# --- 2. Order per course --------------------------------------------------------------------------


@mutant("C2", "A course may have several open submissions.")
def courses_are_never_busy(patch: Patch) -> None:
    def occupy(memory: Memory, batch: Batch, courses: Any) -> None:
        del courses
        memory.waiting.lane(batch.integration_id).open_batches += 1
        memory.waiting.lane(batch.integration_id).open_bulk += batch.bulk
        memory.batches[batch.id] = batch

    def watch_late(memory: Memory, late: LateTask) -> None:
        memory.waiting.lane(late.record.integration_id)
        memory.late[late.batch_id] = late
        memory.task_ids.add(late.task_id)

    def leave(memory: Memory, integration_id: str, items: Any) -> None:
        memory._freed += [(integration_id, item.origin_id) for item in items]

    patch(Memory, "occupy", occupy)
    patch(Memory, "watch_late", watch_late)
    patch(Memory, "_leave", leave)


@mutant("C2", "A newer change is dropped as superseded, and the older one that waits is kept.")
def older_change_wins(patch: Patch) -> None:
    def admit(admission: Admission, change: Any, now: Now) -> None:
        memory = admission._memory
        item = Item(change.origin_id, change.offset, change.change_id, change.consumed_at, 0, 0)
        waiting = memory.waiting.lane(change.integration_id).held.get(change.origin_id)
        memory.traces.keep(change.offset, change.trace)
        if waiting is None:
            memory.hold(change.integration_id, Held(change.operation, item, change.body), None)
        else:
            by = waiting.item.offset
            memory.end(
                change.operation, change.integration_id, item, Status.SUPERSEDED, now, superseded_by=by
            )

    patch(Admission, "_admit", admit)


# --- 3. No false success --------------------------------------------------------------------------


class _AllSucceeded(dict[str, ItemOutcome]):
    def get(self, origin_id: str, default: Any = None) -> Any:
        return ItemOutcome(origin_id, succeeded=True, course_id="any", error=None)


@mutant("C3", "All items of a completed task count as succeeded, whatever their outcomes.")
def completed_means_succeeded(patch: Patch) -> None:
    patch(judge, "outcomes_by_course", lambda outcomes: _AllSucceeded())


@mutant("C3", "An item that is missing from the task's result counts as succeeded.")
def left_out_means_succeeded(patch: Patch) -> None:
    by_course = judge.outcomes_by_course

    def outcomes_by_course(outcomes: tuple[ItemOutcome, ...]) -> Any:
        class LeftOutSucceeded(dict[str, ItemOutcome]):
            def get(self, origin_id: str, default: Any = None) -> Any:
                return super().get(origin_id) or _AllSucceeded().get(origin_id)

        return LeftOutSucceeded(by_course(outcomes))

    patch(judge, "outcomes_by_course", outcomes_by_course)


@mutant("C3", "A change counts as succeeded as soon as the API has accepted its batch.")
def accepted_means_succeeded(patch: Patch) -> None:
    submit_answered = settle.submit_answered

    def answered(memory: Memory, batch: Batch, answer: Any, ruling: SubmitRuling, now: Now) -> None:
        if not isinstance(answer, Accepted):
            submit_answered(memory, batch, answer, ruling, now)
            return
        batch.task_id, batch.accepted_at = answer.task_id, now.wall
        memory.close(batch)
        for item in batch.items:
            memory.end(
                batch.operation, batch.integration_id, item, Status.SUCCEEDED, now, attempt=attempt_of(batch)
            )

    patch(settle, "submit_answered", answered)


@mutant("C3", "Outcomes are matched by their position in the answer instead of by course.")
def outcomes_by_place(patch: Patch) -> None:
    rulings = judge._item_rulings

    def by_place(items: tuple[Item, ...], outcomes: tuple[ItemOutcome, ...]) -> Any:
        named = tuple(
            ItemOutcome(item.origin_id, outcome.succeeded, outcome.course_id, outcome.error)
            for item, outcome in zip(items, outcomes, strict=False)
        )
        return rulings(items, named)

    patch(judge, "_item_rulings", by_place)


# --- 4. One body per submission -------------------------------------------------------------------


@mutant("C4", "A retry sends the items in an order that differs from the record.")
def body_is_not_frozen(patch: Patch) -> None:
    submit_answered = settle.submit_answered

    def answered(memory: Memory, batch: Batch, answer: Any, ruling: SubmitRuling, now: Now) -> None:
        submit_answered(memory, batch, answer, ruling, now)
        if ruling.verdict is SubmitVerdict.RETRY and batch.body is not None and batch.id in memory.batches:
            items = batch.operation.split(batch.body)
            batch.body = b'{"items": [' + b",".join(reversed(items)) + b"]}"

    patch(settle, "submit_answered", answered)


@mutant("C4", "A restored batch is encoded again and differs from what was POSTed before the crash.")
def body_is_encoded_anew(patch: Patch) -> None:
    load = restoring.load

    def load_anew(memory: Memory, fold: Any, now: Now, fenced_at: float) -> None:
        load(memory, fold, now, fenced_at)
        for batch in memory.batches.values():
            if batch.body is not None:
                batch.body = msgspec.json.encode(msgspec.json.decode(batch.body), order="sorted")

    patch(restoring, "load", load_anew)


# --- 5. Isolation ---------------------------------------------------------------------------------


@mutant("C5", "An integration that backs off delays all others.", Kind.ISOLATION)
def one_waits_for_all(patch: Patch) -> None:
    next_submission = Flow.next_submission

    def next_one(flow: Flow[Any], now: float) -> Any:
        flow._wake(now)
        if any(state.breaker.until is not None for state in flow._integrations.values()):
            return None
        return next_submission(flow, now)

    patch(Flow, "next_submission", next_one)


@mutant("C5", "A 403 without a code from one integration halts the process.", Kind.ISOLATION)
def one_denial_halts(patch: Patch) -> None:
    denied = Judge._evidence

    def evidence(own: Judge, integration_id: str, answer: Any, sent_with: int) -> KeyEvidence:
        if table.is_denial(answer.error.code, answer.status):
            return KeyEvidence.REFUSED
        return denied(own, integration_id, answer, sent_with)

    patch(Judge, "_evidence", evidence)


@mutant("C5", "A refusal of our key by a single integration halts the process.", Kind.ISOLATION)
def one_refused_key_halts(patch: Patch) -> None:
    evidence = Judge._evidence

    def at_once(own: Judge, integration_id: str, answer: Any, sent_with: int) -> KeyEvidence:
        found = evidence(own, integration_id, answer, sent_with)
        named = answer.error.code in table.HALTING
        return KeyEvidence.REFUSED if named and found is KeyEvidence.SUSPECTED else found

    patch(Judge, "_evidence", at_once)


@mutant("C5", "A task that failed because of our own key halts the process.", Kind.ISOLATION)
def failed_task_halts(patch: Patch) -> None:
    poll = Judge.poll

    def halt(own: Judge, task: OpenTask, answer: Any, sent_with: int, now: Now) -> PollRuling:
        ruling = poll(own, task, answer, sent_with, now)
        return replace(ruling, key=KeyEvidence.REFUSED) if ruling.task is TaskVerdict.OUR_SIDE else ruling

    follow = Halt.follow

    def with_error(own: Halt, evidence: KeyEvidence, error: Error | None, now: Now) -> None:
        follow(own, evidence, error or Error("PLATFORM.AUTHENTICATION_INVALID", "The task failed."), now)

    patch(Judge, "poll", halt)
    patch(Halt, "follow", with_error)


# --- 6. Bounded -----------------------------------------------------------------------------------


@mutant("C6", "Batches are sealed without regard to the integration's window.")
def no_window(patch: Patch) -> None:
    patch(Sealing, "_window_open", lambda sealing, lane, queue: True)


@mutant("C6", "A full backlog does not pause the input.")
def backlog_never_pauses(patch: Patch) -> None:
    patch(Intake, "adjust", lambda intake, shard: None)


@mutant("C6", "A paused input is never resumed.")
def pause_for_ever(patch: Patch) -> None:
    adjust = Intake.adjust

    def only_pause(intake: Intake, shard: Shard) -> None:
        if not intake.paused:
            adjust(intake, shard)

    patch(Intake, "adjust", only_pause)


@mutant("C6", "Only the limit of waiting courses per partition applies, not the one per integration.")
def integrations_without_limit(patch: Patch) -> None:
    def joined(backlog: Backlog, _: int, body: int) -> None:
        backlog.courses += 1
        backlog.bodies += body

    patch(Backlog, "joined", joined)


@mutant("C6", "Waiting changes are counted, but their size is not.")
def bodies_without_limit(patch: Patch) -> None:
    must_pause = Backlog.must_pause

    def pause(backlog: Backlog, intake: int, _: int, *, paused: bool) -> bool:
        bodies, backlog.bodies = backlog.bodies, 0
        try:
            return must_pause(backlog, intake, 0, paused=paused)
        finally:
            backlog.bodies = bodies

    patch(Backlog, "must_pause", pause)


@mutant("C6", "With `backlog.on_full: reject`, nothing is rejected.")
def full_backlog_takes_all(patch: Patch) -> None:
    patch(Backlog, "lacks_room", lambda backlog, courses, body: None)


@mutant("C6", "A change is rejected although it still fits into the backlog.")
def rejected_too_early(patch: Patch) -> None:
    lacks_room = Backlog.lacks_room

    def lacks(backlog: Backlog, courses: int, body: int) -> str | None:
        backlog.courses += 1
        try:
            return lacks_room(backlog, courses + 1, body)
        finally:
            backlog.courses -= 1

    patch(Backlog, "lacks_room", lacks)


def _room_without_regard_to_what_waits(admission: Admission, change: Change, _: Now) -> str | None:
    lane = admission._memory.waiting.lanes.get(change.integration_id)
    return admission._memory.backlog.lacks_room(len(lane.held) if lane else 0, len(change.body))


@mutant("C6", "A full backlog rejects even a change that replaces a waiting one.")
def replacement_is_rejected(patch: Patch) -> None:
    patch(Admission, "_lacks_room", _room_without_regard_to_what_waits)


@mutant("C6", "A change that is rejected because the backlog is full ends the waiting change of its course.")
def rejected_for_room_supersedes(patch: Patch) -> None:
    reject = Admission._reject

    def reject_and_supersede(admission: Admission, rejection: Rejection, now: Now) -> None:
        reject(admission, rejection, now)
        memory, integration_id = admission._memory, rejection.integration_id
        if rejection.reason is not RejectReason.BACKLOG or integration_id is None:
            return
        lane = memory.waiting.lanes.get(integration_id)
        held = lane.held.get(rejection.origin_id or "") if lane is not None else None
        if lane is None or held is None or held.ready or held.last is not None:
            return
        origin_id = held.item.origin_id
        del lane.held[origin_id]
        memory.backlog.left(len(lane.held) + 1, len(lane.held), len(held.body))
        memory.draft.wait_changed(integration_id, origin_id, durable=held.durable)
        memory.end(
            held.operation, integration_id, held.item, Status.SUPERSEDED, now, superseded_by=rejection.offset
        )

    patch(Admission, "_lacks_room", _room_without_regard_to_what_waits)
    patch(Admission, "_reject", reject_and_supersede)


@mutant("C6", "A change that is rejected because the backlog is full gets no dead letter.")
def rejected_for_room_without_dead_letter(patch: Patch) -> None:
    reject = Admission._reject

    def reject_and_forget(admission: Admission, rejection: Rejection, now: Now) -> None:
        reject(admission, rejection, now)
        if rejection.reason is RejectReason.BACKLOG:
            admission._memory.draft._rejections.pop()

    patch(Admission, "_reject", reject_and_forget)


@mutant(
    "C6",
    "The dead letter of a change that is rejected for a full backlog contains the API's item instead of the record.",
)
def dead_letter_of_the_body(patch: Patch) -> None:
    def of_body(change: Change, why: str) -> Rejection:
        return msgspec.structs.replace(rejection_of(change, why), value=change.body)

    patch(admission_module, "rejection_of", of_body)


@mutant("C6", "Batches are sealed without regard to the shard's limit of open batches.")
def no_places(patch: Patch) -> None:
    patch(Sealing, "_has_place", lambda sealing, lane, queue: True)


@mutant("C6", "A place that becomes free wakes none of those that wait for one.")
def freed_place_stays_idle(patch: Patch) -> None:
    after_answer = Shard._after_answer

    def done(shard: Shard, integration_id: str, now: Now) -> None:
        shard._sealing.window_was_full = False
        after_answer(shard, integration_id, now)

    patch(Shard, "_after_answer", done)


@mutant("C6", "The body of an accepted batch still counts as held in memory.")
def bodies_are_never_let_go(patch: Patch) -> None:
    accept = Memory.accept

    def accept_and_count(memory: Memory, batch: Batch, task_id: str, now: Now) -> None:
        size = len(batch.body or b"")
        accept(memory, batch, task_id, now)
        memory.backlog.bodies += size

    patch(Memory, "accept", accept_and_count)


@mutant("C6", "A full step is not followed by another one, although more is ready.")
def full_step_is_the_last(patch: Patch) -> None:
    seal = Shard._seal

    def seal_once(shard: Shard, now: Now, *, lingered: bool) -> None:
        seal(shard, now, lingered=lingered)
        if shard._memory.draft.is_full:
            shard._flush_at = None

    patch(Shard, "_seal", seal_once)


@mutant("C6", "The delay before another attempt has no upper limit.")
def backoff_without_limit(patch: Patch) -> None:
    patch(Retries, "_backoff", lambda retries, retry, failures: 10.0 ** (failures + 2))


@mutant("C6", "A `Retry-After` is obeyed without an upper limit.")
def retry_after_without_bound(patch: Patch) -> None:
    patch(BackOff, "asked", lambda back_off, retry_after: retry_after or 0.0)


# --- 7. Our own fault ends no change --------------------------------------------------------------


@mutant("C7", "A refused key fails the changes of the batch.")
def wrong_key_fails(patch: Patch) -> None:
    submit = Judge.submit

    def fail(
        own: Judge, integration_id: str, operation: Any, answer: Any, sent_with: int, *, fate_unknown: bool
    ) -> SubmitRuling:
        ruling = submit(own, integration_id, operation, answer, sent_with, fate_unknown=fate_unknown)
        refused = ruling.verdict in (SubmitVerdict.HALT, SubmitVerdict.OUR_SIDE)
        return replace(ruling, verdict=SubmitVerdict.FAIL) if refused else ruling

    patch(Judge, "submit", fail)


@mutant("C7", "A task that failed because of our own key fails its changes.")
def wrong_key_of_a_task_fails(patch: Patch) -> None:
    is_over = Retries.is_over

    def over(retries: Retries, integration_id: str, item: Item, failures: int, why: Retry, now: Now) -> bool:
        return why is Retry.OUR_SIDE or is_over(retries, integration_id, item, failures, why, now)

    patch(Retries, "is_over", over)


@mutant("C7", "An item that failed because of our own key fails its change.")
def wrong_key_of_an_item_fails(patch: Patch) -> None:
    of_item = table.of_item

    def verdict(code: str | None) -> ItemVerdict:
        found = of_item(code)
        return ItemVerdict.FAIL if found is ItemVerdict.OUR_SIDE else found

    patch(table, "of_item", verdict)


@mutant("C7", "A POST without an answer fails the changes of its batch.")
def silence_fails(patch: Patch) -> None:
    submit_answered = settle.submit_answered

    def answered(memory: Memory, batch: Batch, answer: Any, ruling: SubmitRuling, now: Now) -> None:
        if not isinstance(answer, NoAnswer):
            submit_answered(memory, batch, answer, ruling, now)
            return
        attempt = attempt_of(batch, Error(None, "no answer"))
        memory.close(batch)
        for item in batch.items:
            memory.end(batch.operation, batch.integration_id, item, Status.FAILED, now, attempt=attempt)

    patch(settle, "submit_answered", answered)


@mutant("C7", "A poll without an answer fails the task.")
def blind_poll_fails(patch: Patch) -> None:
    poll_answered = settle.poll_answered

    def answered(
        memory: Memory, batch: Batch, answer: Any, ruling: PollRuling, body: Any, polls: int, now: Now
    ) -> None:
        if not isinstance(answer, NoAnswer):
            poll_answered(memory, batch, answer, ruling, body, polls, now)
            return
        attempt = attempt_of(batch, Error("REMOTE.SERVICE_UNAVAILABLE", "no answer"))
        settle._end_all(memory, batch, TaskOutcome.FAILED, attempt, now)

    patch(settle, "poll_answered", answered)


@mutant("C7", "A transient failure ends the change immediately.")
def passing_failure_ends(patch: Patch) -> None:
    patch(Retries, "is_over", lambda retries, integration_id, item, failures, why, now: True)


@mutant("C7", "While the process is halted, the key file is not read again.")
def key_is_never_read_again(patch: Patch) -> None:
    async def run(_: Halt) -> None:
        await asyncio.Event().wait()

    patch(Halt, "run", run)
    follow = Halt.follow

    def deaf(halt: Halt, evidence: KeyEvidence, error: Any, now: Now) -> None:
        if evidence is not KeyEvidence.WORKS:
            follow(halt, evidence, error, now)

    patch(Halt, "follow", deaf)


# --- 8. Convergence -------------------------------------------------------------------------------


@mutant("C8", "An integration never resumes after a back-off.")
def blocked_for_ever(patch: Patch) -> None:
    open_until = Breaker.open
    patch(Breaker, "open", lambda breaker, until: open_until(breaker, until + 1e6))


@mutant("C8", "A task that is still pending at the second poll is forgotten.")
def polled_twice_only(patch: Patch) -> None:
    push = Poller._push

    def push_twice(poller: Poller, pending: Any, task: Any, *, is_known: bool = True) -> None:
        if poller._polls[pending].polls < 2:
            push(poller, pending, task, is_known=is_known)

    patch(Poller, "_push", push_twice)


@mutant("C8", "Restored tasks are not polled.")
def restored_tasks_not_polled(patch: Patch) -> None:
    patch(Poller, "restored", lambda poller, partition, shard: None)


@mutant("C8", "When a course becomes free, the change that waits for it is not submitted.")
def freed_course_stays_idle(patch: Patch) -> None:
    patch(Waiting, "free", lambda waiting, integration_id, origin_id: None)


@mutant("C8", "When a batch is split, its second half is lost.")
def split_loses_a_half(patch: Patch) -> None:
    seal = Memory.seal

    def split(memory: Memory, batch: Batch, body: bytes, attempt: Any, now: Now) -> None:
        memory.close(batch)
        if len(batch.items) == 1:
            memory.end(
                batch.operation, batch.integration_id, batch.items[0], Status.FAILED, now, attempt=attempt
            )
            return
        entries = list(zip(batch.items, batch.operation.split(body), strict=True))
        seal(
            memory,
            batch.operation,
            batch.integration_id,
            entries[: len(entries) // 2],
            Trigger.ITEMS,
            now,
            bulk=batch.bulk,
        )

    patch(settle, "_split", split)
