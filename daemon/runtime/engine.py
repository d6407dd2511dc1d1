"""The daemon's main loop: follows the assignment and connects partitions, submitter and poller.

    log events ──▶ Engine ──▶ Partition (one per input partition) ──▶ commits
                                  │  facts of committed steps
                                  ├──▶ Submitter ─ POST ─┐
                                  └──▶ Poller ─ GET ─────┴──▶ back to the shard

All background tasks are supervised: if one of them fails, the process ends. A daemon that has stopped working in part
but reports that it is healthy would be worse.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, assert_never

from daemon.config import PolicyTable
from daemon.core.control import Control
from daemon.core.flow import Flow
from daemon.core.judge import Judge
from daemon.core.shard import Shard
from daemon.core.step import (
    BatchCleared,
    BatchSealed,
    Fact,
    LateWatched,
    TaskAccepted,
    TaskEnded,
    TaskLost,
    TracedBatch,
)
from daemon.log.port import Assigned, PositionLost, Records, Revoked, Unreadable
from daemon.runtime.batch_ref import BatchRef
from daemon.runtime.control_following import ControlFollower
from daemon.runtime.course_loading import CourseIndexes
from daemon.runtime.halt import Halt
from daemon.runtime.input_monitor import InputMonitor
from daemon.runtime.partition import Partition
from daemon.runtime.poller import Poller
from daemon.runtime.ports import Ports
from daemon.runtime.submitter import Submitter
from daemon.runtime.view import View
from daemon.runtime.waker import Waker
from daemon.telemetry.events import (
    DrainFinished,
    DrainStarted,
    DrainTimedOut,
    Event,
    PartitionDropped,
    PartitionsAssigned,
    PartitionsRevoked,
)
from daemon.telemetry.labels import DropReason
from daemon.telemetry.snapshot import Snapshot

LAST_COMMIT_MAX = 5.0
"""Seconds for the last commits of the partitions, after `drain.timeout`. With closing, it is less than the 20 s by which
orchestrators have to wait longer."""


class Engine:
    """`run` serves until `stop` is called. It raises the error with which a background task failed."""

    def __init__(self, ports: Ports, key_changed: Callable[[], bool]) -> None:
        self._ports = ports
        control = Control()
        self._flow: Flow[BatchRef] = Flow(ports.settings, ports.policies, ports.rng, control.is_paused)
        judge = Judge(ports.policies)
        self._halt = Halt(ports, self._flow, judge, key_changed, self._resumed, self._key_suspected)
        submissions, polls = Waker(), Waker()
        self._submitter = Submitter(ports, self._flow, judge, self._halt, submissions, polls)
        self._poller = Poller(ports, self._flow, judge, self._halt, polls, submissions)
        self._partitions: dict[int, tuple[Partition, asyncio.Task[None]]] = {}
        self._indexes = CourseIndexes(ports.settings.courses.index_max)
        self._leaving: set[asyncio.Task[None]] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._stop = asyncio.Event()
        self._input_monitor = InputMonitor(
            ports, lambda: [partition for partition, _ in self._partitions.values()]
        )
        self._control = ControlFollower(ports, control, self._obey)
        self._view = View(ports, self._flow, self._poller, self._submitter, self._control)

    def snapshot(self) -> Snapshot:
        """The current contents of the runtime, for metrics and the state page."""
        return self._view.snapshot([partition for partition, _ in self._partitions.values()])

    def use_policies(self, tables: Sequence[PolicyTable]) -> None:
        """From now on these tables count, also for what is under way: the next poll of a task is judged by its new
        time-out. A sealed batch stays as it is, and so do waits that have begun.
        """
        self._ports.policies.use(tables)
        now = self._ports.clock.now()
        self._flow.policies_changed(now.mono)
        for partition, _ in self._partitions.values():
            if partition.shard is not None:
                partition.shard.policies_changed(now)
                partition.wake()
        self._submitter.wake()
        self._poller.policies_changed()

    # --- life -------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Start to drain; `run` then returns. Idempotent."""
        self._stop.set()

    async def run(self) -> None:
        """Serve until stopped. The log must have been started before."""
        background = [
            self._spawn(self._submitter.run(), "submitter"),
            self._spawn(self._poller.run(), "poller"),
        ]
        self._spawn(self._control.run(), "control")
        self._spawn(self._halt.run(), "halt")
        self._spawn(self._follow_log(), "events")
        self._spawn(self._input_monitor.run(), "input-monitor")
        stopping = asyncio.ensure_future(self._stop.wait())
        try:
            await self._watch(stopping)
            await self._drain(background)
        finally:
            stopping.cancel()
            await self._end()

    def _notify(self, event: Event) -> None:
        self._ports.observer.notify(event)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.append(task)
        return task

    async def _watch(self, stopping: asyncio.Future[Any]) -> None:
        """Wait for a stop. Raises the error of a background task that failed."""
        died: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._died = died
        for task in self._tasks:
            task.add_done_callback(self._note_death)
        await asyncio.wait([stopping, died], return_when=asyncio.FIRST_COMPLETED)
        if died.done():
            died.result()

    def _note_death(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or self._died.done() or self._stop.is_set():
            return
        error = task.exception() or RuntimeError(f"the task {task.get_name()} ended unexpectedly")
        self._died.set_exception(error)

    async def _drain(self, background: Sequence[asyncio.Task[None]]) -> None:
        """Stop the input, start no new calls, let the calls in flight finish, and commit their results. The last commit of
        each partition says which calls did not finish (R6).
        """
        timeout = self._ports.settings.drain.timeout
        self._notify(DrainStarted(timeout))
        self._submitter.stop()
        self._poller.stop()
        for number in self._partitions:
            self._ports.log.pause(number)
        ended, calling = await asyncio.wait(background, timeout=timeout)
        for task in ended:
            task.result()
        for partition, _ in self._partitions.values():
            partition.stop()
        partitions = [task for _, task in self._partitions.values()]
        committing = (await asyncio.wait(partitions, timeout=LAST_COMMIT_MAX))[1] if partitions else set()
        if calling or committing:
            self._notify(DrainTimedOut(timeout))
        self._notify(DrainFinished())

    async def _end(self) -> None:
        tasks = [*self._tasks, *(task for _, task in self._partitions.values()), *self._leaving]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._ports.log.stop()

    # --- the assignment ---------------------------------------------------------------------------

    async def _follow_log(self) -> None:
        while True:
            match await self._ports.log.next_event():
                case Records(partition=number) as read:
                    if number in self._partitions:
                        self._partitions[number][0].deliver(read)
                case Revoked(partitions=numbers):
                    self._revoked(numbers)
                case Assigned(partitions=numbers):
                    self._assigned(numbers)
                case PositionLost(partition=number, token=token, message=message):
                    if number in self._partitions:
                        self._partitions[number][0].input_lost(token, message)
                case Unreadable(partition=number) as found:
                    if number in self._partitions:
                        self._partitions[number][0].input_unreadable(found)

    def _revoked(self, numbers: frozenset[int]) -> None:
        self._notify(PartitionsRevoked(numbers))
        for number in sorted(numbers):
            if number in self._partitions:
                self._partitions[number][0].suspend()

    def _assigned(self, numbers: frozenset[int]) -> None:
        gone = [number for number in self._partitions if number not in numbers]
        self._notify(PartitionsAssigned(numbers, gone))
        for number in gone:
            _, task = self._partitions.pop(number)
            self._notify(PartitionDropped(number, DropReason.REVOKED, None))
            task.remove_done_callback(self._note_death)
            task.cancel()
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)
        for number in sorted(numbers):
            if number in self._partitions:
                self._partitions[number][0].rejoin()
            elif not self._stop.is_set():
                self._take(number)

    def _take(self, number: int) -> None:
        partition = Partition(
            number,
            self._ports,
            self._indexes,
            self._control.control,
            on_opened=self._opened,
            on_dropped=self._dropped,
            on_facts=self._act,
        )
        task = asyncio.create_task(partition.run(), name=f"partition-{number}")
        task.add_done_callback(self._note_death)
        self._partitions[number] = (partition, task)

    # --- shards -----------------------------------------------------------------------------------

    def _opened(self, partition: Partition, shard: Shard) -> None:
        self._submitter.restored(partition, shard)
        self._poller.restored(partition, shard)

    def _dropped(self, shard: Shard) -> None:
        self._submitter.forget_ended()
        self._poller.dropped(shard)

    def _act(self, partition: Partition, shard: Shard, facts: Sequence[Fact]) -> None:
        """R3: act on the facts of a step only after it is committed."""
        for fact in facts:
            match fact:
                case BatchSealed():
                    self._submitter.sealed(partition, shard, fact)
                case BatchCleared(batch_id=batch_id):
                    self._submitter.cleared(partition, shard, batch_id)
                case TaskAccepted(batch_id=batch_id):
                    self._poller.accepted(partition, shard, batch_id)
                case TaskLost(batch_id=batch_id, integration_id=integration_id, bulk=bulk):
                    self._submitter.offer(partition, shard, integration_id, batch_id, bulk=bulk)
                case LateWatched(batch_id=batch_id):
                    self._poller.late(partition, shard, batch_id)
                case TaskEnded(batch_id=batch_id):
                    self._poller.ended(partition, shard, batch_id)
                case TracedBatch():
                    pass  # only telemetry needs it
                case _:
                    assert_never(fact)

    def _obey(self) -> None:
        """Operators have decided something (R19)."""
        self._flow.obey(self._ports.clock.now().mono)
        for partition, _ in self._partitions.values():
            partition.obey()
        self._submitter.forget_ended()
        self._submitter.wake()

    def _key_suspected(self) -> None:
        self._poller.probe_key()

    def _resumed(self) -> None:
        self._submitter.wake()
        self._poller.wake()
