"""One partition that we hold: opens its shard, commits its steps one by one, and says when requests may leave.

How it works. `run` goes round: open the shard (fence earlier owners, restore, begin to read), then serve it (tick, take a
step, commit it, act on its facts) until something fails. `failures` says what each failure leads to, and
`partition_state` which states a partition can be in and what moves it.

`shard` is the assignment epoch: an answer that comes back is given only to the very shard object that asked. After a
drop, or after the partition has gone, it finds another one, or none, and is ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import assert_never

from daemon.core.batch import OpenTask
from daemon.core.shard import Shard
from daemon.core.step import Fact, Step
from daemon.log.port import InputFacts, LogError, Records, ShardLog, Unreadable
from daemon.runtime import trouble
from daemon.runtime.failures import Failure, InputChangedError, InputLostError, LostInput, Remedy, failure_of
from daemon.runtime.intake import Intake
from daemon.runtime.lease import Lease
from daemon.runtime.ledger import Ledger
from daemon.runtime.opening import BlockedError, Opened, look_first, restore, wait_for_confirmation
from daemon.runtime.outbound import StepFailedError, describe, transaction
from daemon.runtime.partition_state import Lifecycle, Trigger
from daemon.runtime.payloads import read_payload
from daemon.runtime.ports import Ports
from daemon.runtime.reports import Reports
from daemon.runtime.waker import Waker

REFUSALS_MAX = 3
"""Steps that cannot be written, or not be decided, after which the partition is blocked."""
LOOK_INTERVAL = 5.0
"""Seconds between two looks whether somebody has written to the journal of a blocked partition."""


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
        self._life = Lifecycle()
        self._reports = Reports(number, ports.observer)
        self._lease = Lease(ports.settings.fence.lease)
        self._failures = 0
        self._failed = False
        """A new producer is made only when we know that the partition is ours (R4)."""
        self._refusals = 0
        """Never reset: what else is written between two attempts at the same record proves nothing."""
        self._fault: Exception | None = None
        self._facts: InputFacts | None = None
        """Of the input, when the shard was opened."""
        self._lost: LostInput | None = None
        self._journal_end: int | None = None
        """When the partition was opened last: what moves it afterwards is not ours."""

    # --- life -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled, or stopped and everything is committed.

        Raises:
            FatalLogError: the process has to end.
        """
        try:
            while not self._life.stopping:
                try:
                    await self._open()
                    await self._serve()
                except Exception as error:
                    await self._recover(error)
        finally:
            await self._let_go()

    async def _recover(self, error: Exception) -> None:
        """Do what the failure calls for; return when the partition may be opened again."""
        failure = failure_of(error, self.number, self._ports.settings.topics)
        if failure.is_defect:
            self._reports.defect(error)
        if isinstance(error, InputLostError):
            self._lost = LostInput(str(error))
        match failure.remedy:
            case Remedy.REOPEN:
                await self._drop(failure)
            case Remedy.REFUSED:
                # R4: the others go on, whatever this partition's records and answers do.
                self._refusals += 1
                if self._refusals < REFUSALS_MAX:
                    await self._drop(failure)
                else:
                    await self._block(failure.sentence, None, watch=False)
            case Remedy.BLOCK:
                await self._block(failure.sentence, self._journal_end, watch=True)
            case Remedy.BLOCK_HERE:
                await self._block(failure.sentence, None, watch=False)
            case Remedy.DIE:
                raise error
            case _:
                assert_never(failure.remedy)

    async def _open(self) -> None:
        number, ports = self.number, self._ports
        if self._failed:
            await wait_for_confirmation(self._ports, self.number, self._failures)
        self._life.new_producer()
        self._fault = None
        self._reports.restoring()
        self._journal_end = None
        await look_first(ports, number)
        self._shard_log = await ports.log.open_shard(number)
        self.fenced_at = ports.clock.boot()
        self._journal_end = await ports.log.journal_end(number)
        opened = await restore(ports, number, self._shard_log)
        if self._lost is not None and self._lost.holds(opened.shard):
            raise BlockedError(self._lost.sentence)
        self._begin(opened)

    def _begin(self, opened: Opened) -> None:
        """The shard is there: requests may leave for it, and unless it was revoked meanwhile its input is read."""
        shard = opened.shard
        self._lease.end()
        self._lost = None
        self.shard, self._ledger = shard, opened.ledger
        self._facts = opened.facts
        self.intake.opened(shard)
        self.topic_partitions = opened.facts.partitions
        if opened.is_new:
            shard.want_position()  # pins the start: `latest` must mean the same after a crash
        self._reports.restored(shard)
        self._on_opened(self, shard)
        self._life.restored()
        if self._life.serving:
            self.intake.begin(shard)
        # Else reading begins when the partition has come back and has proved itself.
        self._reports.running()

    async def _serve(self) -> None:
        shard, shard_log, life = self.shard, self._shard_log, self._life
        assert shard is not None
        assert shard_log is not None
        look_at = 0.0
        while True:
            if self._fault is not None:
                fault, self._fault = self._fault, None
                raise fault
            if not life.stopping:
                shard.tick(self._ports.clock.now())
            rejoining, revocations = life.rejoining, life.revocations
            if rejoining:
                # R5: only a record that the old producer commits proves that nobody came in between.
                shard.want_position()
            step = shard.take_step()
            if step is not None:
                await self._commit(shard, shard_log, step)
                if rejoining and life.rejoining and life.revocations == revocations:
                    self._rejoined(shard)
            elif life.stopping:
                return
            elif self.commit_since_ms is not None:
                # One has failed. Though nothing is left to be written, only a commit shows that they work again.
                shard.want_position()
            else:
                look_at = await self._wait(shard, look_at)

    async def _wait(self, shard: Shard, look_at: float) -> float:
        """Until something happens or is due; while the input cannot be read on, at most until `look_at`. Returns the
        next such time.
        """
        due = shard.due()
        if self._lost is not None and not shard.intake:
            self._reports.blocked(self._lost.sentence)
            now = self._ports.clock.now().mono
            if now >= look_at:
                shard.want_position()  # its commit fails when somebody has skipped what cannot be read
                return now + LOOK_INTERVAL
            due = look_at if due is None else min(due, look_at)
        await self._waker.wait(due)
        return look_at

    def _rejoined(self, shard: Shard) -> None:
        """Nobody owned the partition while it was away: go on with the same memory."""
        self._life.proven()
        if self._lost is not None:  # found again if it is still there
            self._lost = None
            self._reports.running()
        self.intake.begin(shard)
        self._lease.wake()

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
        self._lease.renew(began)
        shard.committed(step, offsets)
        now = clock.now()
        self._reports.committed(step, now, now.mono - began_at.mono)
        self._on_facts(self, shard, step.facts)
        self._lease.wake()
        self.intake.adjust(shard)

    async def _drop(self, failure: Failure) -> None:
        self._failures += 1
        self._failed = True
        self._life.on(Trigger.FAILED)
        self._reports.dropped(failure)
        await self._let_go()

    async def _block(self, sentence: str, journal_end: int | None, *, watch: bool) -> None:
        """Wait until a person acts: until the process starts anew; if `watch`, until somebody has written to the journal
        (`coursesyncd skip`, `topics grow`) after its end was `journal_end`; or until the partition has been away and is
        back, since what blocked it may have been the view of an owner that had been replaced.
        """
        life = self._life
        life.on(Trigger.BLOCKED)
        await self._let_go()
        self.commit_since_ms = None
        self._failed = True
        if not life.returned:
            self._reports.blocked(sentence)
            while not (life.returned or life.stopping or (watch and await self._journal_moved(journal_end))):
                await self._waker.wait(self._ports.clock.now().mono + LOOK_INTERVAL if watch else None)
        self._lost = None
        life.on(Trigger.UNBLOCKED)
        if not life.stopping:
            self._reports.reopened(sentence)

    async def _journal_moved(self, since: int | None) -> bool:
        try:
            return not self._life.revoked and await self._ports.log.journal_end(self.number) != since
        except LogError:
            return False  # it will answer some time

    async def _let_go(self) -> None:
        shard, self.shard, self._ledger = self.shard, None, None
        shard_log, self._shard_log = self._shard_log, None
        self._lease.end()
        self.intake.stop()
        if shard is not None:
            self._on_dropped(shard)
        self._lease.wake()
        if shard_log is not None:
            await shard_log.close()

    # --- called by the engine ---------------------------------------------------------------------

    def wake(self) -> None:
        self._waker.wake()

    def suspend(self) -> None:
        """The partition was revoked; it may come straight back. No new request goes out meanwhile."""
        self._life.revoke()
        self.intake.stop()

    def rejoin(self) -> None:
        """It has come straight back: prove it, then go on with the same memory (R5)."""
        if self._life.give_back():
            self.wake()

    def stop(self) -> None:
        """Commit what was decided, then end. What was read and not admitted is read again by the next owner."""
        self._life.on(Trigger.STOPPED)
        self.intake.stop()
        self._lease.wake()
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
            self._reports.unreadable(found.offset, sentence)
            self._lost = LostInput(sentence, found.offset)
            self.wake()

    def deliver(self, read: Records) -> None:
        """Records of the input; those of an earlier `begin` are ignored."""
        if read.token == self.intake.token and self.shard is not None and self._ledger is not None:
            self._ledger.consumed(len(read.records))
            try:
                self.intake.take(self.shard, read)
            except Exception as error:
                self._reports.defect(error)
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
        return self._life.serving and self.shard is not None and not self.shard.congested

    async def lease(self, shard: Shard) -> bool:
        """R6: True when a POST may start this moment. If the lease is over, a position record is committed first; while
        the partition is revoked, this waits. False when the shard has ended or is about to.
        """
        while self.shard is shard and not self._life.stopping:
            if self.active:
                if self._lease.holds(self._ports.clock.boot()):
                    return True
                shard.want_position()
                self.wake()
            await self._lease.changed()
        return False

    async def body(self, task: OpenTask) -> bytes:
        """The payload of an accepted batch, from the journal.

        Raises:
            LogError: it cannot be read now.
            CorruptJournalError: it is not what was sealed.
        """
        assert self._shard_log is not None
        return await read_payload(self._shard_log, self.number, task)
