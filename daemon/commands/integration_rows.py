"""What the journals hold of each integration, and the rows of ``coursesyncd integrations``. Pure, except `read_work`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import datetime
from enum import StrEnum

import msgspec

from daemon.codec.times import iso_ms
from daemon.commands.repair.journal_repair import InspectedPartition, inspect_partitions, unjoined_log
from daemon.commands.tables import age
from daemon.config import Settings
from daemon.core.control import Control, GiveUp, Pause, covers
from daemon.core.journal import Refusal, Wait
from daemon.core.journal_fold import Fold, RestoredBatch
from daemon.core.model import Error
from daemon.core.verdict import SubmitVerdict
from daemon.core.waiting import waits_for_customer


class State(StrEnum):
    """Of an integration. The first one that applies."""

    PAUSED = "paused"  # by an operator
    HALTED = "halted"  # the API refuses our key or address for every integration
    WAITS_FOR_CUSTOMER = "waits for customer"  # its customer has to repair the connection
    BACKING_OFF = "backing off"  # what was refused or failed is sent again later
    RUNNING = "running"
    IDLE = "idle"  # nothing of it is under way


class PausedRow(msgspec.Struct, frozen=True):
    integration: str
    """The id or the pattern of the decision."""
    by: str
    reason: str | None
    until: str | None
    decided_at: str


class GivenUpRow(msgspec.Struct, frozen=True):
    origin_id: str | None
    """None: all courses."""
    open_tasks: bool
    by: str
    reason: str | None
    decided_at: str


class IntegrationRow(msgspec.Struct, frozen=True):
    """One integration, or one pattern that is paused. Times have the format of the results."""

    integration: str
    state: State
    paused: PausedRow | None
    given_up: tuple[GivenUpRow, ...]
    waiting: int
    """Changes that are held back."""
    sealed: int
    """Changes in submissions that the API has not accepted yet."""
    waiting_since: str | None
    """When the oldest of both was consumed."""
    open_tasks: int
    open_changes: int
    """Changes in open tasks."""
    open_since: str | None
    """When the oldest open task was accepted."""
    watched_tasks: int
    """Tasks that timed out and may still end."""
    last_error: Error | None
    """Why the API refused, or did not answer, the submission that it refused last; otherwise the error of the oldest waiting
    retry.
    """
    next_probe: str | None
    """What was refused or failed is not sent again before this time."""


class Work:
    """What is under way for one integration, in all partitions that were read."""

    def __init__(self) -> None:
        self.waiting = self.sealed_changes = 0
        self.oldest: int | None = None
        """When the oldest change that waits or is sealed was consumed, ms."""
        self.tasks = self.task_changes = self.watched = 0
        self.oldest_task: int | None = None
        self.refusal: Refusal | None = None
        """The last one."""
        self.is_parked = False
        self.not_before: int | None = None
        self._retry: tuple[int, Error] | None = None

    @property
    def is_open(self) -> bool:
        return bool(self.waiting or self.sealed_changes or self.tasks)

    @property
    def last_error(self) -> Error | None:
        if self.refusal is not None:
            return self.refusal.error
        return None if self._retry is None else self._retry[1]

    def add_wait(self, wait: Wait) -> None:
        consumed = wait.item.consumed_at
        self.waiting += 1
        self.oldest = _earlier(self.oldest, consumed)
        self.is_parked = self.is_parked or waits_for_customer(wait)
        self.not_before = _earlier(self.not_before, wait.not_before)
        error = None if wait.last is None else wait.last.error
        if error is not None and (self._retry is None or consumed < self._retry[0]):
            self._retry = consumed, error

    def add_batch(self, batch: RestoredBatch, refusal: Refusal | None) -> None:
        items = batch.items
        if batch.task is not None:
            self.tasks += 1
            self.task_changes += len(items)
            self.oldest_task = _earlier(self.oldest_task, batch.task.accepted_at)
            return
        self.sealed_changes += len(items)
        for item in items:
            self.oldest = _earlier(self.oldest, item.consumed_at)
        if refusal is None:
            return
        self.is_parked = self.is_parked or refusal.verdict == SubmitVerdict.PARK
        self.not_before = _earlier(self.not_before, refusal.not_before)
        if self.refusal is None or refusal.refused_at > self.refusal.refused_at:
            self.refusal = refusal

    def state(self, wall: int) -> State:
        """Apart from pauses."""
        if self.refusal is not None and self.refusal.verdict == SubmitVerdict.HALT:
            return State.HALTED
        if self.is_parked:
            return State.WAITS_FOR_CUSTOMER
        if self.not_before is not None and self.not_before > wall:
            return State.BACKING_OFF
        return State.RUNNING if self.is_open or self.watched else State.IDLE


class WorkByIntegration:
    """Adds up partitions one after the other, so that only one journal is in memory at a time."""

    def __init__(self) -> None:
        self.found: dict[str, Work] = {}
        self.unreadable: list[str] = []
        """A sentence for each partition that could not be read."""

    def add(self, fold: Fold) -> None:
        for (integration_id, _), wait in fold.waits.items():
            self._of(integration_id).add_wait(wait)
        for batch_id, batch in fold.batches.items():
            self._of(batch.sealed.integration_id).add_batch(batch, fold.refusals.get(batch_id))
        for late in fold.late.values():
            self._of(late.record.integration_id).watched += 1

    def _of(self, integration_id: str) -> Work:
        return self.found.setdefault(integration_id, Work())


def read_work(settings: Settings) -> WorkByIntegration:
    """Read all journals, without disturbing the daemon.

    Raises:
        LogError: Kafka did not answer.
    """
    work = WorkByIntegration()

    async def read() -> None:
        log = await unjoined_log(settings)
        try:
            inspected: AsyncIterator[InspectedPartition] = inspect_partitions(
                log, settings.topics, work.unreadable
            )
            async for found in inspected:
                work.add(found.fold)
        finally:
            await log.stop()

    asyncio.run(read())
    return work


def integration_rows(
    work: WorkByIntegration, control: Control, wall: int, patterns: Iterable[str] = ()
) -> list[IntegrationRow]:
    """One row for each integration that has something under way, is paused or gave up changes, and for each pattern that is
    paused. `patterns`, which may be ids: only these.
    """
    wanted = tuple(patterns)
    paused = {each.integration: each for each in control.pauses}
    names = {*work.found, *paused, *control.given_up}
    return [
        _row(name, work.found.get(name) or Work(), paused.get(name) or control.pause(name), control, wall)
        for name in sorted(names)
        if not wanted or any(covers(pattern, name) or covers(name, pattern) for pattern in wanted)
    ]


def _row(name: str, work: Work, pause: Pause | None, control: Control, wall: int) -> IntegrationRow:
    return IntegrationRow(
        integration=name,
        state=State.PAUSED if pause is not None else work.state(wall),
        paused=None if pause is None else _paused(pause),
        given_up=tuple(_given_up(each) for each in control.given_up_of(name)),
        waiting=work.waiting,
        sealed=work.sealed_changes,
        waiting_since=_time(work.oldest),
        open_tasks=work.tasks,
        open_changes=work.task_changes,
        open_since=_time(work.oldest_task),
        watched_tasks=work.watched,
        last_error=work.last_error,
        next_probe=_time(work.not_before),
    )


def why(row: IntegrationRow, now: float) -> Iterator[str]:
    """What holds the integration up, for people. `now`: wall clock, seconds."""
    if (pause := row.paused) is not None:
        with_pattern = "" if pause.integration == row.integration else f" with {pause.integration}"
        until = "" if pause.until is None else f" until {_to_the_second(pause.until)}"
        yield f"paused{with_pattern} by {pause.by} {_ago(pause.decided_at, now)}{until}{_reason(pause.reason)}"
    for each in row.given_up:
        what = "changes" if each.origin_id is None else f"course {each.origin_id}"
        yield f"{what} given up by {each.by} {_ago(each.decided_at, now)}{_reason(each.reason)}"
    if (error := row.last_error) is not None:
        yield f"{error.code or 'no code'}: {error.message}"
    if row.next_probe is not None and row.state is not State.PAUSED:
        yield f"sent again at {_to_the_second(row.next_probe)}"


def _ago(at: str, now: float) -> str:
    return f"{age(now - datetime.fromisoformat(at).timestamp())} ago"


def _to_the_second(at: str) -> str:
    return f"{at.partition('.')[0]}Z"


def _reason(reason: str | None) -> str:
    return "" if reason is None else f": {reason}"


def _paused(pause: Pause) -> PausedRow:
    return PausedRow(pause.integration, pause.by, pause.reason, _time(pause.until), iso_ms(pause.decided_at))


def _given_up(decision: GiveUp) -> GivenUpRow:
    return GivenUpRow(
        decision.origin_id, decision.open_tasks, decision.by, decision.reason, iso_ms(decision.decided_at)
    )


def _earlier(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


def _time(at_ms: int | None) -> str | None:
    return None if at_ms is None else iso_ms(at_ms)
