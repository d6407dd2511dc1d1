"""Asks for tasks: takes what is due from the heap, polls, tells the shard, schedules again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import NamedTuple

import structlog

from daemon.core.answers import NoAnswer, PollAnswer, Refused
from daemon.core.flow import Flow
from daemon.core.judge import Judge, PollRuling
from daemon.core.schedule import PollPolicy, Schedule, poll_seed
from daemon.core.shard import Shard
from daemon.core.step import Batch, LateTask
from daemon.core.verdict import PollVerdict, TaskVerdict
from daemon.log.port import CorruptJournalError, LogError
from daemon.runtime.halt import Halt
from daemon.runtime.outbound import StepFailedError, describe
from daemon.runtime.partition import Claim, Partition
from daemon.runtime.ports import Ports
from daemon.runtime.waker import Waker

log = structlog.get_logger()


BLINDNESS = frozenset({PollVerdict.BLIND, PollVerdict.HALT, PollVerdict.REKEYED})
"""Verdicts after which nothing new is known of the task."""


class Pending(NamedTuple):
    """A scheduled poll: of a batch's task, or of a task that timed out and is still watched."""

    partition: Partition
    shard: Shard
    id: str
    """Of the batch, or of the late task."""
    late: bool


class Poller:
    def __init__(
        self, ports: Ports, flow: Flow[Claim], judge: Judge, halt: Halt, waker: Waker, submissions: Waker
    ) -> None:
        """`waker` wakes this, `submissions` the submitter."""
        poll = ports.settings.poll
        self._ports = ports
        self._flow = flow
        self._judge = judge
        self._halt = halt
        self._waker = waker
        self._submissions = submissions
        self._policy = PollPolicy(poll.first_after, poll.factor, poll.interval_max)
        self._schedule: Schedule[Pending] = Schedule()
        self._stopping = False
        self.blind: dict[Pending, int] = {}
        """Tasks whose last poll brought no answer, and since when (wall clock, ms)."""
        self.in_flight = 0

    # --- what is to be polled ---------------------------------------------------------------------

    def accepted(self, partition: Partition, shard: Shard, batch: Batch) -> None:
        """The API has made a task of this batch, and the journal knows it."""
        self._push(Pending(partition, shard, batch.id, late=False), batch.polls, batch)

    def late(self, partition: Partition, shard: Shard, task: LateTask) -> None:
        self._push(Pending(partition, shard, task.task_id, late=True), task.polls, task)

    def restored(self, partition: Partition, shard: Shard) -> None:
        """Go on with the schedule that each task has had since it was accepted."""
        now = self._ports.clock.now()
        for batch in shard.batches.values():
            if batch.task_id is not None and batch.accepted_at is not None:
                elapsed = max(0, now.wall - batch.accepted_at) / 1000
                batch.polls, delay = self._policy.resume(elapsed, len(batch.items), poll_seed(batch.id))
                pending = Pending(partition, shard, batch.id, late=False)
                self._schedule.push(now.mono + delay, pending)
        for task in shard.late.values():
            elapsed = max(0, now.wall - task.record.accepted_at) / 1000
            seed = poll_seed(task.record.batch_id)
            task.polls, delay = self._policy.resume(elapsed, len(task.record.items), seed)
            pending = Pending(partition, shard, task.task_id, late=True)
            self._schedule.push(now.mono + delay, pending)
        self._waker.wake()

    def dropped(self, partition: Partition, shard: Shard) -> None:
        """Forget everything of a shard that has ended."""
        for pending in _all_of(partition, shard):
            self._schedule.discard(pending)
            self.blind.pop(pending, None)

    def wake(self) -> None:
        self._waker.wake()

    def stop(self) -> None:
        """Start nothing more; what is in flight goes on."""
        self._stopping = True
        self._waker.wake()

    def _push(self, pending: Pending, polls: int, polled: Batch | LateTask) -> None:
        if isinstance(polled, Batch):
            items, seed = len(polled.items), poll_seed(polled.id)
        else:
            items, seed = len(polled.record.items), poll_seed(polled.record.batch_id)
        due = self._ports.clock.now().mono + self._policy.delay(polls, items, seed)
        self._schedule.push(due, pending)
        self._waker.wake()

    # --- polling ----------------------------------------------------------------------------------

    async def run(self) -> None:
        async with asyncio.TaskGroup() as calls:
            while not self._stopping:
                now = self._ports.clock.now().mono
                due = self._schedule.due()
                if due is None or due > now:
                    await self._waker.wait(due)
                elif not self._flow.may_poll(now):
                    await self._waker.wait(self._flow.poll_due(now))
                else:
                    popped = self._schedule.pop_due(now)
                    assert popped is not None
                    calls.create_task(self._poll(popped[1], now - popped[0]))

    async def _poll(self, pending: Pending, delay: float) -> None:
        try:
            await self._ask(pending, delay)
        finally:
            self._flow.poll_done()
            self._waker.wake()
            self._submissions.wake()

    async def _ask(self, pending: Pending, delay: float) -> None:
        partition, shard = pending.partition, pending.shard
        polled = _polled(pending)
        if polled is None:
            return
        if not partition.active:
            self._push(pending, 0, polled)
            return
        self._ports.metrics.poll_started(delay)
        if isinstance(polled, Batch):
            integration_id, task_id = polled.integration_id, polled.task_id
        else:
            integration_id, task_id = polled.record.integration_id, polled.task_id
        assert task_id is not None
        sent_with = self._judge.key_number
        self.in_flight += 1
        try:
            answer = await self._ports.api.poll(integration_id, task_id)
        finally:
            self.in_flight -= 1
        if _polled(pending) is not polled:
            return
        now = self._ports.clock.now()
        if isinstance(polled, Batch):
            ruling = self._judge.poll(polled, answer, sent_with, now)
        else:
            ruling = self._judge.late(polled, answer, sent_with, now)
        self._halt.follow(ruling.key, getattr(answer, "error", None), now)
        try:
            await self._settle(pending, polled, answer, ruling)
        except Exception as error:
            log.exception("task.defect", partition=partition.number, task=task_id)
            if partition.shard is shard:
                why = f"the answer to a poll of task {task_id} cannot be carried out ({describe(error)})"
                partition.fail(StepFailedError(why))

    async def _settle(
        self, pending: Pending, polled: Batch | LateTask, answer: PollAnswer, ruling: PollRuling
    ) -> None:
        partition, shard = pending.partition, pending.shard
        body = None
        if isinstance(polled, Batch) and ruling.needs_body:
            body = await self._body(partition, polled)
            if body is None:
                # Carrying it out has to wait: the answer will be the same at the next poll.
                self._push(pending, polled.polls, polled)
                return
        if _polled(pending) is not polled:
            return
        polled.polls += 1
        now = self._ports.clock.now()
        if isinstance(polled, Batch):
            shard.poll_answered(polled.id, answer, ruling, body, now)
        else:
            shard.late_answered(polled.task_id, answer, ruling, now)
        if ruling.task is TaskVerdict.PARK and isinstance(polled, Batch):
            self._flow.park(polled.integration_id, now.mono)
            self._submissions.wake()  # it has another time to wait for now
        if ruling.verdict in BLINDNESS:
            self.blind.setdefault(pending, now.wall)
            log.info("task.poll_failed", task=polled.task_id, answer=_describe(answer))
        else:
            self.blind.pop(pending, None)
        if _polled(pending) is polled and polled.task_id is not None:
            self._push(pending, polled.polls, polled)
        else:
            self.blind.pop(pending, None)  # it has come to an end, if only that of its watch
        partition.wake()

    async def _body(self, partition: Partition, batch: Batch) -> bytes | None:
        try:
            return await partition.body(batch)
        except CorruptJournalError as error:
            partition.fail(error)
            return None
        except LogError as error:
            log.warning("journal.unreadable", partition=partition.number, batch=batch.id, error=str(error))
            return None

    # --- figures ----------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._schedule)


def _polled(pending: Pending) -> Batch | LateTask | None:
    """What this poll is about; None when it has come to an end or the shard has."""
    shard = pending.shard
    if pending.partition.shard is not shard:
        return None
    if pending.late:
        return shard.late.get(pending.id)
    batch = shard.batches.get(pending.id)
    return batch if batch is not None and batch.task_id is not None else None


def _all_of(partition: Partition, shard: Shard) -> Iterator[Pending]:
    for batch_id in shard.batches:
        yield Pending(partition, shard, batch_id, late=False)
    for task_id in shard.late:
        yield Pending(partition, shard, task_id, late=True)


def _describe(answer: PollAnswer) -> str:
    match answer:
        case NoAnswer():
            return f"{answer.trouble.value}: {answer.detail}"
        case Refused():
            return f"HTTP {answer.status} {answer.error.code or ''}: {answer.error.message}"
        case _:
            return type(answer).__name__
