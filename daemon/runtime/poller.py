"""Polls tasks: takes due polls from the heap, polls, applies the ruling to the shard, and schedules the next poll."""

from __future__ import annotations

import asyncio
from collections import deque

from daemon.core.answers import PollAnswer, Refused, TaskCompleted, TaskFailed
from daemon.core.batch import LateTask, OpenTask
from daemon.core.flow import Flow
from daemon.core.judge import Judge, KeyEvidence, PollRuling
from daemon.core.learned_polls import LearnedPolls, PollProgress, PollTerms
from daemon.core.schedule import PollIntervals, Schedule, poll_seed
from daemon.core.shard import Shard
from daemon.core.task_durations import likeness
from daemon.core.verdict import PollVerdict, TaskVerdict
from daemon.kombo import probe
from daemon.log.errors import CorruptJournalError, LogError
from daemon.runtime.batch_ref import BatchRef
from daemon.runtime.halt import Halt
from daemon.runtime.partition import Partition
from daemon.runtime.poll_entries import (
    KEY_PROBE,
    KeyProbe,
    Paced,
    Pending,
    PollEntry,
    integration_of,
    task_accepted_at,
    task_integration,
    task_items,
)
from daemon.runtime.ports import Ports
from daemon.runtime.step_transaction import StepFailedError
from daemon.runtime.waker import Waker
from daemon.telemetry.events import DefectFound, JournalUnreadable, KeyProbed, PollFailed, PollStarted

BLINDNESS = frozenset({PollVerdict.BLIND, PollVerdict.HALT, PollVerdict.REKEYED})
"""Verdicts that bring no new information about the task."""
KEY_PROBE_INTERVAL = 1.0
"""Seconds between two probes of our own key, at least."""


class Poller:
    def __init__(
        self, ports: Ports, flow: Flow[BatchRef], judge: Judge, halt: Halt, waker: Waker, submissions: Waker
    ) -> None:
        """`waker` wakes this poller, `submissions` wakes the submitter."""
        self._ports = ports
        self._policy = ports.policies
        self._flow = flow
        self._judge = judge
        self._halt = halt
        self._waker = waker
        self._submissions = submissions
        self._schedule: Schedule[PollEntry] = Schedule()
        self._paced: dict[str, deque[Pending]] = {}
        """Polls that are due and wait for the own rate of their integration, which has a `Paced` in the schedule."""
        self._key_probed_at = 0.0
        self._probing_key = False
        self._learned = LearnedPolls()
        self._polls: dict[Pending, PollProgress] = {}
        self._open = 0
        """How many of them have not timed out."""
        self._stopping = False
        self.blind: dict[Pending, int] = {}
        """Tasks whose last poll showed no status, and since when that has been so (wall clock, ms)."""
        self.in_flight = 0

    # --- the schedule -----------------------------------------------------------------------------

    def accepted(self, partition: Partition, shard: Shard, batch_id: str) -> None:
        """The API has accepted this batch as a task, and the journal records it."""
        self._begin(Pending(partition, shard, batch_id, late=False))

    def late(self, partition: Partition, shard: Shard, batch_id: str) -> None:
        """The task of this batch has timed out and is watched from now on."""
        self._begin(Pending(partition, shard, batch_id, late=True))

    def restored(self, partition: Partition, shard: Shard) -> None:
        """Resume the schedule of each task, which counts from its acceptance."""
        now = self._ports.clock.now()
        pending = [Pending(partition, shard, task.batch_id, late=False) for task in shard.tasks()]
        pending += [Pending(partition, shard, late.batch_id, late=True) for late in shard.late_tasks()]
        for each in pending:
            task = each.task()
            assert task is not None
            terms, elapsed = self._terms(task), max(0, now.wall - task_accepted_at(task)) / 1000
            polls, delay = terms.intervals.resume(elapsed, terms.items, terms.seed)
            self._set_progress(each, PollProgress(polls, elapsed))
            self._schedule.push(now.mono + delay, each)
        self._waker.wake()

    def dropped(self, shard: Shard) -> None:
        """Remove all polls of a shard that has ended."""
        for pending in [each for each in self._polls if each.shard is shard]:
            self._forget(pending)

    def probe_key(self) -> None:
        """An integration was denied because of our key: check soon whether the API accepts the key at all."""
        if not self._probing_key and KEY_PROBE not in self._schedule:
            now = self._ports.clock.now().mono
            self._schedule.push(max(now, self._key_probed_at + KEY_PROBE_INTERVAL), KEY_PROBE)
            self._waker.wake()

    def ended(self, partition: Partition, shard: Shard, batch_id: str) -> None:
        """The task of this batch has ended. If a poll has shown that, it is forgotten already; not if operators have given it
        up.
        """
        self._forget(Pending(partition, shard, batch_id, late=False))

    def wake(self) -> None:
        self._waker.wake()

    def policies_changed(self) -> None:
        """Look again at the polls that wait for the own rate of their integration."""
        now = self._ports.clock.now().mono
        for integration_id in self._paced:
            self._schedule.push(now, Paced(integration_id))
        self._waker.wake()

    def stop(self) -> None:
        """Start no more polls. Polls in flight finish."""
        self._stopping = True
        self._waker.wake()

    def _begin(self, pending: Pending) -> None:
        task = pending.task()
        if task is not None:  # None: the task or the shard has ended meanwhile
            self._set_progress(pending, PollProgress())
            self._push(pending, task)

    def _push(self, pending: Pending, task: OpenTask | LateTask, *, is_known: bool = True) -> None:
        """`is_known`: the task has just been accepted, or its last poll has shown that it is pending."""
        terms, progress = self._terms(task), self._polls[pending]
        now = self._ports.clock.now().mono
        age = max(0.0, now - task.accepted_mono)
        if is_known and isinstance(task, OpenTask):
            delay = self._learned.delay(terms, progress, age, now)
        else:
            delay = self._learned.delay_unplanned(terms, progress, age)
        self._schedule.push(now + delay, pending)
        self._waker.wake()

    def _terms(self, task: OpenTask | LateTask) -> PollTerms:
        integration_id, items = task_integration(task), task_items(task)
        timeout = self._policy(integration_id).task.timeout
        alike = likeness(integration_id, items)
        return PollTerms(alike, items, poll_seed(task.batch_id), self._intervals(task), timeout)

    def _intervals(self, task: OpenTask | LateTask) -> PollIntervals:
        poll = self._policy(task_integration(task)).poll
        return PollIntervals(poll.first_after, poll.factor, poll.interval_max)

    def _set_progress(self, pending: Pending, progress: PollProgress) -> None:
        self._open += pending not in self._polls and not pending.late
        self._polls[pending] = progress

    def _forget(self, pending: Pending) -> None:
        self._schedule.discard(pending)
        if self._polls.pop(pending, None) is not None:
            self._open -= not pending.late
        self.blind.pop(pending, None)

    # --- polling ----------------------------------------------------------------------------------

    async def run(self) -> None:
        async with asyncio.TaskGroup() as calls:
            while not self._stopping:
                now = self._ports.clock.now().mono
                due, first = self._schedule.due(), self._schedule.first()
                if due is None or first is None or due > now:
                    await self._waker.wait(due)
                elif self._must_pace(first, now):
                    self._pace(first, now)
                elif not self._flow.may_poll(now, integration_of(first)):
                    await self._waker.wait(self._flow.poll_due(now))
                else:
                    self._schedule.pop_due(now)
                    poll = self._next_paced(first, now) if isinstance(first, Paced) else first
                    calls.create_task(self._poll(poll, now - due))

    def _must_pace(self, first: PollEntry, now: float) -> bool:
        """Whether the first entry of the schedule must wait for the own rate of its integration."""
        integration_id = integration_of(first)
        if integration_id is None:
            return False
        if isinstance(first, Paced):
            waiting = self._paced[integration_id]
            while waiting and waiting[0].task() is None:
                self._forget(waiting.popleft())
            if not waiting:
                return True
        elif integration_id in self._paced:
            return True  # it is not its turn
        return self._flow.own_poll_due(integration_id, now) is not None

    def _pace(self, first: PollEntry, now: float) -> None:
        integration_id = integration_of(first)
        assert integration_id is not None
        self._schedule.discard(first)
        waiting = self._paced.setdefault(integration_id, deque())
        if isinstance(first, Pending):
            waiting.append(first)
        self._schedule_paced(integration_id, now)

    def _next_paced(self, paced: Paced, now: float) -> Pending:
        pending = self._paced[paced.integration_id].popleft()
        self._schedule_paced(paced.integration_id, now)
        return pending

    def _schedule_paced(self, integration_id: str, now: float) -> None:
        if not self._paced[integration_id]:
            del self._paced[integration_id]
            return
        if Paced(integration_id) not in self._schedule:
            self._schedule.push(self._flow.own_poll_due(integration_id, now) or now, Paced(integration_id))

    async def _poll(self, pending: Pending | KeyProbe, delay: float) -> None:
        try:
            if isinstance(pending, KeyProbe):
                await self._ask_about_key()
            else:
                await self._ask(pending, delay)
        finally:
            self._flow.poll_done()
            self._waker.wake()
            self._submissions.wake()

    async def _ask_about_key(self) -> None:
        sent_with = self._judge.key_number
        self._probing_key = True
        self.in_flight += 1
        try:
            answer = await self._ports.api.poll(probe.INTEGRATION_ID, probe.TASK_ID, items=0)
        finally:
            self.in_flight -= 1
            self._probing_key = False
        now = self._ports.clock.now()
        self._key_probed_at = now.mono
        evidence = self._judge.key_probed(answer, sent_with)
        self._ports.observer.notify(KeyProbed(evidence, answer))
        self._halt.follow(evidence, answer.error if isinstance(answer, Refused) else None, now)
        if evidence is KeyEvidence.NONE and self._judge.suspects_key:
            self._schedule.push(now.mono + self._ports.settings.park.probe_min, KEY_PROBE)

    async def _ask(self, pending: Pending, delay: float) -> None:
        partition, shard = pending.partition, pending.shard
        task = pending.task()
        if task is None:
            self._forget(pending)
            return
        if not partition.active:
            self._set_progress(pending, PollProgress())
            self._push(pending, task, is_known=False)
            return
        self._ports.observer.notify(PollStarted(delay))
        sent_with = self._judge.key_number
        self.in_flight += 1
        try:
            answer = await self._ports.api.poll(task_integration(task), task.task_id, task_items(task))
        finally:
            self.in_flight -= 1
        if pending.task() is None:
            self._forget(pending)
            return
        try:
            await self._answered(pending, task, answer, sent_with)
        except Exception as error:
            self._ports.observer.notify(DefectFound(partition.number, error, task=task.task_id))
            if partition.shard is shard:
                partition.fail(StepFailedError("the answer to a poll cannot be applied", error))

    async def _answered(
        self, pending: Pending, task: OpenTask | LateTask, answer: PollAnswer, sent_with: int
    ) -> None:
        now = self._ports.clock.now()
        if isinstance(task, OpenTask):
            ruling = self._judge.poll(task, answer, sent_with, now)
        else:
            ruling = self._judge.late(task, answer, sent_with, now)
        refusal = answer.error if isinstance(answer, Refused) else None
        self._halt.follow(ruling.key, refusal, now)
        body = None
        if isinstance(task, OpenTask) and ruling.needs_body:
            body = await self._body(pending.partition, task)
            if pending.task() is None:
                self._forget(pending)
                return
            if body is None:
                # The ruling cannot be applied yet. The next poll will get the same answer.
                self._push(pending, task, is_known=False)
                return
        self._apply(pending, task, answer, ruling, body)
        pending.partition.wake()

    def _apply(
        self,
        pending: Pending,
        task: OpenTask | LateTask,
        answer: PollAnswer,
        ruling: PollRuling,
        body: bytes | None,
    ) -> None:
        shard, now = pending.shard, self._ports.clock.now()
        polls = self._polls[pending].polls + 1
        if isinstance(task, OpenTask):
            shard.poll_answered(task.batch_id, answer, ruling, body, polls, now)
        else:
            shard.late_answered(task.batch_id, answer, ruling, now)
        if ruling.task is TaskVerdict.PARK and isinstance(task, OpenTask):
            assert isinstance(answer, TaskFailed)
            self._flow.park(task.integration_id, answer.error.code or "task failed", now.mono)
            self._submissions.wake()  # its next due time has changed
        if ruling.verdict in BLINDNESS:
            self.blind.setdefault(pending, now.wall)
            self._ports.observer.notify(PollFailed(task.task_id, answer))
        else:
            self.blind.pop(pending, None)
        self._learn(pending, task, answer, ruling, now.mono)
        if pending.task() is not None:
            self._push(pending, task, is_known=ruling.verdict is PollVerdict.PENDING)
        else:
            self._forget(pending)  # the task has ended, or only its watch has

    def _learn(
        self, pending: Pending, task: OpenTask | LateTask, answer: PollAnswer, ruling: PollRuling, now: float
    ) -> None:
        """Count the poll, and learn how long the task has taken if it has ended and is the one of this submission."""
        terms, progress = self._terms(task), self._polls[pending]
        age = max(0.0, now - task.accepted_mono)
        ended = ruling.verdict in (PollVerdict.COMPLETED, PollVerdict.FAILED)
        if ended and isinstance(task, OpenTask) and isinstance(answer, TaskCompleted | TaskFailed):
            ended_at = answer.completed_at
            duration = None if ended_at is None else (ended_at - answer.created_at) / 1000
            self._learned.ended(terms, progress, age, duration, self._open)
        else:
            self._learned.polled(terms, progress, age, self._open)

    async def _body(self, partition: Partition, task: OpenTask) -> bytes | None:
        try:
            return await partition.body(task)
        except CorruptJournalError as error:
            partition.fail(error)
            return None
        except LogError as error:
            self._ports.observer.notify(JournalUnreadable(partition.number, task.batch_id, str(error)))
            return None

    # --- figures ----------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._schedule) + sum(len(waiting) for waiting in self._paced.values())
