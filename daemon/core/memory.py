"""The memory of a shard, and the elementary operations on it of which all decisions consist.

`admission` decides about incoming changes, `settle` about answers, and `restoring` fills an empty memory. They act
through these operations. Every operation also writes to the draft of the next step what the journal has to hold for it.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import assert_never

import msgspec
from msgspec import UNSET

from daemon.config import Policies, Settings
from daemon.core import journal
from daemon.core.answers import (
    Accepted,
    Done,
    SubmitAnswer,
    TaskCompleted,
    TaskFailed,
    TaskPending,
    error_of,
)
from daemon.core.backlog import Backlog
from daemon.core.batch import Batch, LateTask, Submission
from daemon.core.control import Control, GiveUp, nothing_decided
from daemon.core.items import Items
from daemon.core.journal import Attempt
from daemon.core.known_courses import Budget, KnownCourses
from daemon.core.known_state import KnownState
from daemon.core.lane import Held, Lane
from daemon.core.model import Item, Now, Status
from daemon.core.operation import Operation
from daemon.core.result_factory import result_of
from daemon.core.retries import Retries
from daemon.core.stale_tasks import ApiFloors
from daemon.core.step import BatchCleared, BatchSealed, Draft, TaskAccepted, TracedBatch, Trigger
from daemon.core.takeover import Takeover
from daemon.core.task_ids import TaskIds
from daemon.core.trace import LINKS_MAX, Traces
from daemon.core.verdict import SubmitVerdict
from daemon.core.waiting import Waiting, WaitReason, Waits, combined, reason_of_lane


class Memory:
    """The memory is updated immediately and the commit follows. If a commit fails, the whole object is discarded and
    restored from the journal (R4). Nothing in it is ever undone.
    """

    def __init__(
        self,
        partition: int,
        settings: Settings,
        policy: Policies,
        position: journal.Position,
        rng: random.Random,
        known: KnownCourses | None = None,
        control: Control | None = None,
    ) -> None:
        self.partition = partition
        self.settings = settings
        self.policy = policy
        self.rng = rng
        self.retries = Retries(settings, self.policy, rng)
        # A version writes its own format from the first commit on, so that an older version detects it (R8).
        self.position = msgspec.structs.replace(position, format=journal.FORMAT)
        self.backlog = Backlog(settings.backlog)
        self.control = nothing_decided() if control is None else control
        self.waiting = Waiting(self.backlog, self.control.is_paused)
        self.given_up: list[tuple[str, str]] = []
        """Courses whose waiting change is to end, because it is given up."""
        self.batches: dict[str, Batch] = {}
        self.late: dict[str, LateTask] = {}
        """By batch."""
        self.task_ids = TaskIds()
        self.api_floors = ApiFloors(position.api_floor)
        self.takeover = Takeover(settings)
        if known is None:
            known = KnownCourses(Budget(settings.courses.index_max))
        self.known = KnownState(self.policy, known)
        self.traces = Traces()
        self.draft = Draft()
        self._freed: list[tuple[str, str]] = []

    # --- POSTs of earlier and later owners (R6) ---------------------------------------------------

    def submissions(self) -> list[Submission]:
        found = (batch.submission() for batch in self.batches.values())
        return [each for each in found if each is not None and not self.takeover.in_quarantine(each.batch_id)]

    def committed(self, appended_at: int | None, now: Now) -> None:
        if self.takeover.committed(appended_at, now):
            self.draft.want()

    def clear(self, now: Now) -> None:
        for batch_id in self.takeover.cleared(now.mono):
            self.draft.report(BatchCleared(batch_id, self.batches[batch_id].integration_id))
            self.draft.want()

    def hand_over(self, in_flight: Iterable[str]) -> None:
        without_task = [batch.id for batch in self.batches.values() if batch.task_id is None]
        if self.takeover.hand_over(in_flight, without_task):
            self.draft.want()

    def current_position(self) -> journal.Position:
        """The position for the next step."""
        takeover = self.takeover
        self.position = msgspec.structs.replace(
            self.position, released=takeover.released, fencings=takeover.fencings
        )
        return self.position

    # --- waiting changes --------------------------------------------------------------------------

    def submission_judged(
        self, batch: Batch, answer: SubmitAnswer, verdict: SubmitVerdict, again: float, now: Now
    ) -> None:
        """Record what the answer to a POST shows: whether the integration waits for its customer, and why the batch is
        sent again and when (`again`, monotonic), for operators.
        """
        match verdict:
            case SubmitVerdict.PARK:
                self.park(batch.integration_id)
            case (
                SubmitVerdict.ACCEPTED
                | SubmitVerdict.DONE
                | SubmitVerdict.SPLIT
                | SubmitVerdict.FAIL
                | SubmitVerdict.UNCONFIRMED
            ):
                self.park(batch.integration_id, parked=False)
            case (
                SubmitVerdict.RETRY
                | SubmitVerdict.FATE_UNKNOWN
                | SubmitVerdict.OUR_SIDE
                | SubmitVerdict.HALT
                | SubmitVerdict.REKEYED
            ):
                pass
            case _:
                assert_never(verdict)
        if batch.id in self.batches and not isinstance(answer, Accepted | Done):
            halted = verdict is SubmitVerdict.HALT
            not_before = None if halted else now.wall + max(0, round((again - now.mono) * 1000))
            batch.refusal = journal.Refusal(verdict.value, error_of(answer), now.wall, not_before)
            self.draft.put(journal.refusal_key(batch.id), batch.refusal)

    def _forget_refusal(self, batch: Batch) -> None:
        if batch.refusal is not None:
            batch.refusal = None
            self.draft.erase(journal.refusal_key(batch.id))

    def park(self, integration_id: str, *, parked: bool = True) -> None:
        lane = self.waiting.lanes.get(integration_id)
        if lane is not None:
            self.waiting.park(lane, parked=parked)

    def waits(self) -> dict[WaitReason, Waits]:
        """The waiting changes, by reason, with those in refused submissions: they wait for the customer if their
        integration is parked.
        """
        found, lanes = self.waiting.by_reason(), self.waiting.lanes
        for batch in self.batches.values():
            if batch.accepted_at is None:
                lane = lanes[batch.integration_id]
                if lane.paused or lane.parked or batch.refusal is not None:
                    reason = reason_of_lane(lane) or WaitReason.REFUSED
                    found[reason] = combined(found[reason], Waits(len(batch.items), batch.items.consumed_at))
        return found

    def count_held(self) -> int:
        """The number of changes that have come in and have not left with a step, counted at each place where a change
        can be.
        """
        return (
            sum(len(lane.held) for lane in self.waiting.lanes.values())
            + sum(len(batch.items) for batch in self.batches.values())
            + self.draft.ended
        )

    # --- batches ----------------------------------------------------------------------------------

    def occupy(self, batch: Batch, courses: Sequence[str]) -> None:
        """Open the batch: its courses (origin ids) are busy, and it takes a place in the window."""
        lane = self.waiting.lane(batch.integration_id)
        _make_busy(lane, courses, batch.id)
        lane.open_batches += 1
        lane.open_bulk += batch.bulk
        self.batches[batch.id] = batch
        if batch.task_id is not None:
            self.task_ids.add(batch.task_id)
        self.backlog.body_kept(batch.body)

    def seal(
        self,
        operation: Operation,
        integration_id: str,
        entries: Sequence[tuple[Item, bytes]],
        trigger: Trigger,
        now: Now,
        *,
        bulk: bool,
        replays: int = 0,
        splits: int = 0,
    ) -> None:
        """Seal these changes into a batch. From here on its body is frozen (R13). `bulk`: all of them are (R21)."""
        items = tuple(
            Item(i.origin_id, i.offset, i.change_id, i.consumed_at, i.seal_count + 1, i.failures, i.content)
            for i, _ in entries
        )
        body = operation.join([body for _, body in entries])
        batch = Batch(
            # A change is in one batch at a time, and `seal_count` grows each time, so an id is never used twice.
            id=f"{self.partition}-{items[0].offset}-{items[0].seal_count}",
            operation=operation,
            integration_id=integration_id,
            items=Items.pack(items),
            body=body,
            digest=journal.digest(body),
            api_floor=self.api_floors.floor(integration_id),
            sealed_at=now.wall,
            replays=replays,
            splits=splits,
            bulk=bulk,
        )
        assert batch.id not in self.batches
        self.occupy(batch, [item.origin_id for item in items])
        delay = self.delay(batch, now)
        sealed = BatchSealed(batch.id, integration_id, len(items), len(body), trigger, bulk, delay)
        self.draft.seal(batch.id, batch.record(items, self.traces.of(items)), sealed)

    def delay(self, batch: Batch, now: Now) -> float:
        """Seconds until this batch may be submitted, considering its floor (R14)."""
        return self.api_floors.delay(batch.integration_id, batch.api_floor, now)

    def close(self, batch: Batch) -> None:
        """Close the batch, whatever its verdict. Its courses become free, unless a successor occupies them before
        `free_courses`.
        """
        del self.batches[batch.id]
        self._forget_refusal(batch)
        self._report_trace(batch)
        self.backlog.body_dropped(batch.body)
        lane = self.waiting.lane(batch.integration_id)
        lane.open_batches -= 1
        lane.open_bulk -= batch.bulk
        self._leave(batch.integration_id, batch.items)
        self.draft.erase(journal.batch_key(batch.id))
        if batch.task_id is not None:
            self.task_ids.remove(batch.task_id)
            self.draft.erase(journal.task_key(batch.id))

    def _report_trace(self, batch: Batch) -> None:
        traces = self.traces.of(batch.items)
        sampled = () if traces is UNSET else [each for each in traces.items() if each[1].is_sampled]
        if sampled:
            traced = TracedBatch(
                batch.id,
                batch.integration_id,
                batch.operation.name,
                len(batch.items),
                batch.sealed_at,
                batch.accepted_at,
                batch.task_id,
                batch.polls,
                tuple(sampled[:LINKS_MAX]),
                len(sampled),
            )
            self.draft.report(traced)

    def accept(self, batch: Batch, task_id: str, now: Now) -> None:
        """The API has created a task for the batch. The payload is dropped; it is in the journal (R9)."""
        is_shared = self.task_ids.add(task_id)
        self.draft.report(TaskAccepted(batch.id, batch.integration_id, task_id, is_shared=is_shared))
        self._forget_refusal(batch)
        self.backlog.body_dropped(batch.body)
        batch.body = None
        batch.task_id, batch.accepted_at, batch.accepted_mono = task_id, now.wall, now.mono
        record = journal.Task(task_id, now.wall, batch.fate_unknown or UNSET)
        self.draft.put(journal.task_key(batch.id), record)

    def lose_task(self, batch: Batch, body: bytes) -> None:
        """The API no longer knows the task. `body` is the payload, read back."""
        assert batch.body is None
        assert batch.task_id is not None
        assert batch.offset is not None
        self.takeover.task_lost(batch.offset)
        self.task_ids.remove(batch.task_id)
        self.backlog.body_kept(body)
        batch.body = body
        batch.task_id = batch.accepted_at = None
        self.draft.erase(journal.task_key(batch.id))

    @property
    def open_batches(self) -> int:
        """The number that counts against `window.batches_max_per_partition`."""
        return len(self.batches) + len(self.late)

    def watch_late(self, late: LateTask) -> None:
        """Watch a task that timed out. It keeps its courses busy until it is terminal or its watch is over (R12)."""
        lane = self.waiting.lane(late.record.integration_id)
        _make_busy(lane, [item.origin_id for item in late.items], late.batch_id)
        self.late[late.batch_id] = late
        self.task_ids.add(late.task_id)

    def forget_late(self, late: LateTask) -> None:
        del self.late[late.batch_id]
        self.task_ids.remove(late.task_id)
        self._leave(late.record.integration_id, late.items)
        self.draft.erase(late.key)

    def _leave(self, integration_id: str, items: Iterable[Item]) -> None:
        lane = self.waiting.lane(integration_id)
        for item in items:
            del lane.busy[item.origin_id]
            self._freed.append((integration_id, item.origin_id))

    def free_courses(self) -> None:
        """The verdict is complete. The changes that waited for its freed courses may go only now, because a successor
        (the half of a split, the watch of a late task) takes precedence.
        """
        freed, self._freed = self._freed, []
        for integration_id, origin_id in freed:
            self.waiting.free(integration_id, origin_id)
        for integration_id in {integration_id for integration_id, _ in freed}:
            self.waiting.drop_if_idle(integration_id)

    # --- changes ----------------------------------------------------------------------------------

    def hold(self, integration_id: str, held: Held, due: float | None) -> Held | None:
        """Hold a change. Returns the change that it replaces, which the caller has to end."""
        lane = self.waiting.lane(integration_id)
        held.trace_size = self.traces.size(held.item.offset)
        old = self.waiting.hold(lane, held, due)
        self.draft.wait_changed(integration_id, held.item.origin_id, durable=old is not None and old.durable)
        if self.control.given_up and self.decision(integration_id, held.item) is not None:
            self.given_up.append((integration_id, held.item.origin_id))
        return old

    def decision(self, integration_id: str, item: Item) -> GiveUp | None:
        """The decision by which this change is given up; None if it is not."""
        topic_id = self.position.topic_id
        return self.control.give_up(integration_id, item.origin_id, topic_id, self.partition, item.offset)

    def end(
        self,
        operation: Operation,
        integration_id: str,
        item: Item,
        status: Status,
        now: Now,
        *,
        attempt: Attempt | None = None,
        course_id: str | None = None,
        superseded_by: int | None = None,
    ) -> None:
        """Give a change its one result. `attempt` is the submission that decided it, if any."""
        result = result_of(
            operation,
            integration_id,
            item,
            status,
            now,
            attempt=attempt,
            course_id=course_id,
            superseded_by=superseded_by,
            trace=self.traces.end(item.offset),
        )
        self.draft.end(result)

    def saw_times(
        self,
        integration_id: str,
        answer: Accepted | Done | TaskPending | TaskCompleted | TaskFailed,
        now: Now,
    ) -> None:
        """Record the times in an answer. If they change a floor, it is written with the next step (R14)."""
        if isinstance(answer, Accepted | Done):
            changed = self.api_floors.saw_date(integration_id, answer.api_time, now)
        else:
            changed = self.api_floors.saw_task(integration_id, answer, now)
        if changed is not None:
            self.draft.put_lazily(journal.floor_key(integration_id), changed)


def _make_busy(lane: Lane, courses: Sequence[str], by: str) -> None:
    before = len(lane.busy)
    lane.busy.update(dict.fromkeys(courses, by))
    assert len(lane.busy) == before + len(courses), "one open submission per course"
