"""One partition that we hold: opens its shard, commits its steps one by one, and hands out its lease.

How it goes::

    open     fence earlier owners, restore, begin to read                  (opening)
    serve    tick → take a step → commit → act on its facts, for ever
    failed   drop memory and producer, wait for a heartbeat that confirms us, open again  (R4)
    stuck    the input cannot be read on: blocked for people, and yet what is under way goes on

`shard` is the assignment epoch: an answer that comes back is only told to the very shard object that
asked. After a drop, or after the partition has gone, it finds another one, or none, and is ignored.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

import structlog

from daemon.core import journal
from daemon.core.batch import OpenTask, Submission
from daemon.core.shard import Shard
from daemon.core.step import Fact, Step
from daemon.log.port import (
    CommitFailedError,
    CorruptJournalError,
    FatalLogError,
    FencedError,
    HeldBackError,
    InputFacts,
    LogError,
    RecordRefusedError,
    Records,
    ShardLog,
    Unreadable,
)
from daemon.runtime import trouble
from daemon.runtime.intake import Intake
from daemon.runtime.ledger import Ledger
from daemon.runtime.opening import BlockedError, look_first, restore
from daemon.runtime.outbound import StepFailedError, describe, transaction
from daemon.runtime.ports import Ports
from daemon.runtime.waker import Waker
from daemon.telemetry.labels import DropReason
from daemon.telemetry.projection import count

log = structlog.get_logger()

REFUSALS_MAX = 3
"""Steps that cannot be written, or not be decided, after which the partition is blocked."""
RETRY_DELAY_MAX = 30.0
"""Seconds between two attempts to open a partition while the log is in trouble."""
LOOK_INTERVAL = 5.0
"""Seconds between two looks whether somebody has written to the journal of a blocked partition."""


class InputLostError(LogError):
    """The input can not be read on from where we are. The message says what gets the partition out."""


class InputChangedError(LogError):
    """The input is not the topic any more that it was when the partition was opened."""


class _Lost(NamedTuple):
    """Why the input can not be read on. A partition that is opened anew is blocked for it, unless there is a better
    reason."""

    sentence: str
    offset: int | None = None
    """The first one that can not be read, where that is known."""

    def holds(self, shard: Shard) -> bool:
        """Nobody has skipped it."""
        return self.offset is None or shard.next_read <= self.offset


class Claim(NamedTuple):
    """What a piece of work belongs to: valid only while the partition still has this very shard."""

    partition: Partition
    shard: Shard
    id: str

    @property
    def valid(self) -> bool:
        """The answer to a request that was made under this claim may be told."""
        return self.partition.shard is self.shard

    def submission(self) -> Submission | None:
        """The batch, if it is still to be POSTed under this claim."""
        return self.shard.submission(self.id) if self.valid else None


class Partition:
    """`on_opened` is told the shard that starts to run, `on_dropped` the one that ended, `on_facts` what a
    committed step decided.
    """

    def __init__(
        self,
        number: int,
        ports: Ports,
        *,
        on_opened: Callable[[Partition, Shard], None],
        on_dropped: Callable[[Shard], None],
        on_facts: Callable[[Partition, Shard, Sequence[Fact]], None],
    ) -> None:
        self.number = number
        self.shard: Shard | None = None
        self.fenced_at = 0.0
        """Boot-time clock, when this owner had fenced all earlier ones."""
        self.commit_since_ms: int | None = None
        self.topic_partitions: int | None = None
        self.intake = Intake(number, ports)
        self._ports = ports
        self._on_opened, self._on_dropped, self._on_facts = on_opened, on_dropped, on_facts
        self._shard_log: ShardLog | None = None
        self._ledger: Ledger | None = None
        self._waker = Waker()
        self._suspended = False
        self._rejoining = False
        self._revocations = 0
        """A commit proves nothing about a revocation that came while it was under way (R5)."""
        self._stopping = False
        self._lease_from: float | None = None
        self._leases: list[asyncio.Future[None]] = []
        self._failures = 0
        self._failed = False
        self._refusals = 0
        """Never reset: what else is written between two attempts at the same record proves nothing."""
        self._fault: Exception | None = None
        self._facts: InputFacts | None = None
        """Of the input, when the shard was opened."""
        self._lost: _Lost | None = None
        self._blocked: str | None = None
        self._warning: str | None = None
        """What keeps it from being restored though it is not blocked."""
        self._journal_end: int | None = None
        """When the partition was opened last: what moves it afterwards is not ours."""

    # --- life -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled, or stopped and everything is committed."""
        try:
            while not self._stopping:
                try:
                    await self._open()
                    await self._serve()
                except BlockedError as error:
                    await self._block(str(error), self._journal_end)
                except (journal.JournalError, CorruptJournalError) as error:
                    await self._block_here(
                        trouble.unreadable_journal(self.number, error, self._ports.settings.topics)
                    )
                except InputLostError as error:
                    self._lost = _Lost(str(error))
                    await self._drop(DropReason.ERROR, str(error))
                except RecordRefusedError as error:
                    await self._refused(error, trouble.refused_record(self.number, error))
                except StepFailedError as error:
                    await self._refused(error, trouble.failed_step(self.number, error))
                except CommitFailedError as error:
                    fenced = isinstance(error, FencedError)
                    await self._drop(DropReason.FENCED if fenced else DropReason.ERROR, str(error))
                except FatalLogError:
                    raise
                except HeldBackError as error:
                    self._warning = trouble.held_back_journal(error)
                    await self._drop(DropReason.ERROR, self._warning)
                except LogError as error:
                    await self._drop(DropReason.ERROR, str(error))
                except MemoryError:
                    raise
                except Exception as error:
                    # A defect of ours: it concerns this partition, whose memory cannot be trusted any more (R4).
                    log.exception("partition.defect", partition=self.number)
                    await self._refused(error, trouble.failed_step(self.number, describe(error)))
        finally:
            await self._let_go()

    async def _open(self) -> None:
        number, ports = self.number, self._ports
        if self._failed:
            await self._wait_for_confirmation()
        self._rejoining = False  # a new producer is proof enough
        self._fault = None
        self._tell_restoring()
        self._journal_end = None
        await look_first(ports, number)
        self._shard_log = await ports.log.open_shard(number)
        self.fenced_at = ports.clock.boot()
        self._journal_end = await ports.log.journal_end(number)
        opened = await restore(ports, number, self._shard_log)
        if self._lost is not None and self._lost.holds(opened.shard):
            raise BlockedError(self._lost.sentence)
        self._lease_from = None
        self._lost = self._blocked = self._warning = None
        self.shard, self._ledger = opened.shard, opened.ledger
        self._facts = opened.facts
        self.intake.opened(opened.shard)
        self.topic_partitions = opened.facts.partitions
        if opened.is_new:
            # Pin the start: `latest` must mean the same after a crash.
            opened.shard.want_position()
        log.info(
            "partition.restored",
            partition=number,
            offset=opened.shard.next_read,
            batches=opened.shard.open_batches,
            waiting=opened.shard.waiting,
        )
        self._on_opened(self, opened.shard)
        if not self._suspended and not self._rejoining:
            self.intake.begin(opened.shard)
        # Else it was revoked meanwhile: reading begins when it has come back and has proved itself.
        ports.health.restored(number)

    async def _wait_for_confirmation(self) -> None:
        """R4: only a heartbeat newer than the error tells that the partition is still ours. Two owners
        that both made new producers would fence each other for ever.
        """
        delay = min(RETRY_DELAY_MAX, 0.1 * 2.0 ** min(self._failures, 20))
        await asyncio.sleep(delay * self._ports.rng.random())
        timeout = self._ports.settings.kafka.session_timeout
        while not await self._ports.log.confirm_assignment(self.number, timeout):
            log.warning("partition.unconfirmed", partition=self.number)
            await asyncio.sleep(1.0)

    async def _serve(self) -> None:
        shard, shard_log = self.shard, self._shard_log
        assert shard is not None
        assert shard_log is not None
        look_at = 0.0
        while True:
            if self._fault is not None:
                fault, self._fault = self._fault, None
                raise fault
            if not self._stopping:
                shard.tick(self._ports.clock.now())
            rejoining, revocations = self._rejoining, self._revocations
            if rejoining:
                # R5: only a record that the old producer commits proves that nobody came in between.
                shard.want_position()
            step = shard.take_step()
            if step is None:
                if self._stopping:
                    return
                if self.commit_since_ms is not None:
                    # One has failed. Though nothing is left to be written, only a commit tells that they work again.
                    shard.want_position()
                    continue
                due = shard.due()
                if self._lost is not None and not shard.intake:
                    self._tell_blocked(self._lost.sentence)
                    now = self._ports.clock.now().mono
                    if now >= look_at:
                        look_at = now + LOOK_INTERVAL
                        shard.want_position()  # fails when somebody has skipped what cannot be read
                        continue
                    due = look_at if due is None else min(due, look_at)
                await self._waker.wait(due)
                continue
            await self._commit(shard, shard_log, step)
            if rejoining and self._rejoining and self._revocations == revocations:
                self._rejoining = False
                if self._lost is not None:  # found again if it is still there
                    self._lost = self._blocked = None
                    self._ports.health.restored(self.number)
                self.intake.begin(shard)
                self._release_leases()

    async def _commit(self, shard: Shard, shard_log: ShardLog, step: Step) -> None:
        clock = self._ports.clock
        began, began_at = clock.boot(), clock.now()
        self.commit_since_ms = self.commit_since_ms or began_at.wall
        assert self._ledger is not None
        written = transaction(step, self.number, self._ports.settings.topics)
        self._ledger.commit_begins(step, written)
        offsets = await shard_log.commit(written)
        self._ledger.committed()
        self.commit_since_ms = None
        self._failures, self._failed = 0, False
        self._lease_from = began
        shard.committed(step, offsets)
        now = clock.now()
        self._ports.metrics.commit(now.mono - began_at.mono)
        count(self._ports.metrics, step, now)
        self._on_facts(self, shard, step.facts)
        self._release_leases()
        self.intake.adjust(shard)

    async def _drop(self, reason: DropReason, why: str) -> None:
        self._failures += 1
        self._failed = True
        log.warning("partition.dropped", partition=self.number, reason=reason.value, error=why)
        self._ports.metrics.shard_dropped(reason)
        self._tell_restoring()
        await self._let_go()

    def _tell_restoring(self) -> None:
        if self._blocked is None:  # else it stays so until this has worked
            self._ports.health.restoring(self.number)
            self._ports.health.warned(self.number, self._warning)

    async def _refused(self, error: Exception, sentence: str) -> None:
        """R4: after several refusals the partition is blocked and the record is named; the other partitions go on."""
        self._refusals += 1
        if self._refusals < REFUSALS_MAX:
            await self._drop(DropReason.ERROR, describe(error))
            return
        await self._block_here(sentence)

    async def _block_here(self, sentence: str) -> None:
        """Blocked by what happened while it ran: until the process starts anew."""
        await self._block(sentence, None, watch=False)

    async def _block(self, sentence: str, journal_end: int | None, *, watch: bool = True) -> None:
        """Stand still until a person acts: until the process starts anew, or somebody has written to the
        journal (`coursesyncd skip`, `topics grow`) after its end was `journal_end`; or until the partition
        has been away and is back: what blocked it may have been the view of an owner that had been replaced.
        """
        await self._let_go()
        self.commit_since_ms = None
        self._failed = True  # R4: the next producer is made when we know that the partition is ours
        if not self._rejoining:
            self._tell_blocked(sentence)
            while not (
                self._rejoining or self._stopping or (watch and await self._journal_moved(journal_end))
            ):
                await self._waker.wait(self._ports.clock.now().mono + LOOK_INTERVAL if watch else None)
        self._lost = None
        if not self._stopping:
            log.warning("partition.reopened", partition=self.number, reason=sentence)

    def _tell_blocked(self, sentence: str) -> None:
        if sentence != self._blocked:
            log.error("partition.blocked", partition=self.number, error=sentence)
        self._blocked = sentence
        self._ports.health.blocked(self.number, sentence)

    async def _journal_moved(self, since: int | None) -> bool:
        try:
            return not self._suspended and await self._ports.log.journal_end(self.number) != since
        except LogError:
            return False  # it will answer some time

    async def _let_go(self) -> None:
        shard, self.shard, self._ledger = self.shard, None, None
        shard_log, self._shard_log = self._shard_log, None
        self._lease_from = None
        self.intake.stop()
        if shard is not None:
            self._on_dropped(shard)
        self._release_leases()
        if shard_log is not None:
            await shard_log.close()

    # --- told by the engine -----------------------------------------------------------------------

    def wake(self) -> None:
        self._waker.wake()

    def suspend(self) -> None:
        """The partition was revoked; it may come straight back. No new request goes out meanwhile."""
        self._suspended = True
        self._rejoining = False
        self._revocations += 1
        self.intake.stop()

    def rejoin(self) -> None:
        """It has come straight back: prove it, then go on with the same memory (R5)."""
        if self._suspended:
            self._suspended = False
            self._rejoining = True
            self.wake()

    def stop(self) -> None:
        """Commit what was decided, then end. What was read and not admitted is read again some day."""
        self._stopping = True
        self.intake.stop()
        self._release_leases()
        self.wake()

    def compare(self, facts: InputFacts) -> None:
        """Is the input still the topic that was opened? If not, opening it again tells what is wrong."""
        opened = self._facts
        if self.shard is None or opened is None:
            return
        if (opened.topic_id, opened.partitions) != (facts.topic_id, facts.partitions):
            self.fail(InputChangedError("the input topic was grown or created again"))

    def fail(self, error: Exception) -> None:
        """Something that a request found out about this shard or its journal: `run` deals with it."""
        self._fault = error
        self.wake()

    def input_lost(self, token: int, said: str) -> None:
        """The log can not serve this partition's input from where we are."""
        if token == self.intake.token:
            self.fail(InputLostError(trouble.unreadable_input(self.number, said)))

    def input_unreadable(self, found: Unreadable) -> None:
        """The log has read what lies before this, and cannot read on. The partition is told to be blocked when all that
        was read is committed: whoever skips the unreadable records must not skip those too. What is under way goes on;
        only the shard that comes after this one, if it finds the same, stands still.
        """
        if found.token == self.intake.token:
            sentence = trouble.unreadable_records(found, self._ports.settings.topics)
            log.warning("input.unreadable", partition=self.number, offset=found.offset, error=sentence)
            self._lost = _Lost(sentence, found.offset)
            self.wake()

    def deliver(self, read: Records) -> None:
        """Records of the input; those of an earlier `begin` are ignored."""
        if read.token == self.intake.token and self.shard is not None and self._ledger is not None:
            self._ledger.consumed(len(read.records))
            try:
                self.intake.take(self.shard, read)
            except Exception as error:
                log.exception("partition.defect", partition=self.number)
                end = read.next_offset
                self.fail(
                    StepFailedError(f"records before offset {end} cannot be taken in ({describe(error)})")
                )
            self.wake()

    # --- figures ----------------------------------------------------------------------------------

    @property
    def restore_remaining(self) -> int:
        """Journal records that a restore under way has still to read, at most; 0 when there is none."""
        return 0 if self._shard_log is None else self._shard_log.restore_remaining

    @property
    def imbalance(self) -> int:
        """Changes that this shard has lost (or, if negative, ended too often) since it was restored: 0."""
        if self.shard is None or self._ledger is None:
            return 0
        return self._ledger.imbalance(self.shard)

    @property
    def lag(self) -> int | None:
        """Records of the input that are not read yet; None when nothing is known."""
        return None if self.shard is None or self._lost is not None else self.intake.lag

    @property
    def paused(self) -> bool:
        """Whether its input stands still because a limit is reached."""
        return self.intake.paused and self.shard is not None

    # --- for requests -----------------------------------------------------------------------------

    @property
    def active(self) -> bool:
        """Whether requests may go out for it."""
        return (
            self.shard is not None
            and not self.shard.congested
            and not (self._suspended or self._rejoining or self._stopping)
        )

    async def lease(self, shard: Shard) -> bool:
        """R6: True when a POST may start this moment: our last commit began less than the lease ago. If
        it did not, a position record is committed first; while the partition is revoked, this waits.
        False when the shard has ended or is about to.
        """
        while self.shard is shard and not self._stopping:
            if self.active:
                age = None if self._lease_from is None else self._ports.clock.boot() - self._lease_from
                if age is not None and age < self._ports.settings.fence.lease:
                    return True
                shard.want_position()
                self.wake()
            changed = asyncio.get_running_loop().create_future()
            self._leases.append(changed)
            await changed
        return False

    def _release_leases(self) -> None:
        waiting, self._leases = self._leases, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def body(self, task: OpenTask) -> bytes:
        """The payload of an accepted batch, from the journal; key and digest are asserted (R9).

        Raises:
            LogError: it can not be read now.
            CorruptJournalError: it is not what was sealed.
        """
        assert self._shard_log is not None
        assert task.offset is not None
        record = await self._shard_log.read_back(task.offset)
        try:
            return journal.payload(task.batch_id, task.digest, record.key, record.value)
        except journal.JournalError as error:
            raise CorruptJournalError(
                f"journal partition {self.number}, offset {task.offset}: {error}"
            ) from error
