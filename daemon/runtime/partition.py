"""One partition that this replica holds: opens its shard, commits its steps one by one, and decides when requests may
be sent.

How it works. `run` loops: open the shard (fence earlier owners, restore, begin to read), then serve it (tick, take a
step, commit it, act on its facts) until something fails. `failures` maps each failure to its remedy. `partition_state`
defines the states of a partition and the transitions between them.

The `shard` object is the assignment epoch: an answer is applied only to the same shard object that sent the request. After
the shard was dropped or the partition was revoked, `shard` is another object or None, and the answer is ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import assert_never

from daemon.core.batch import OpenTask
from daemon.core.control import Control
from daemon.core.shard import Shard
from daemon.core.step import Fact, Step
from daemon.log.port import InputFacts, Records, ShardLog, Unreadable
from daemon.runtime import operator_messages
from daemon.runtime.course_loading import CourseIndexes, CourseLoader
from daemon.runtime.failures import Failure, InputChangedError, InputLostError, LostInput, Remedy, failure_of
from daemon.runtime.intake import Intake
from daemon.runtime.lease import Lease
from daemon.runtime.ledger import Ledger
from daemon.runtime.opening import BlockedError, Opened, check_before_fencing, restore, wait_for_confirmation
from daemon.runtime.operator_watch import OperatorWatch
from daemon.runtime.partition_state import PartitionLifecycle, PartitionTrigger
from daemon.runtime.payloads import read_payload
from daemon.runtime.ports import Ports
from daemon.runtime.posts import Posts
from daemon.runtime.reopening import Retries
from daemon.runtime.reports import Reports
from daemon.runtime.step_transaction import StepFailedError, transaction
from daemon.runtime.waker import Waker


class Partition:
    """`on_opened` is called with a shard that starts to run, `on_dropped` with one that has ended, and `on_facts` with
    the facts of a committed step.
    """

    def __init__(
        self,
        number: int,
        ports: Ports,
        indexes: CourseIndexes,
        control: Control,
        *,
        on_opened: Callable[[Partition, Shard], None],
        on_dropped: Callable[[Shard], None],
        on_facts: Callable[[Partition, Shard, Sequence[Fact]], None],
    ) -> None:
        self.number = number
        self.shard: Shard | None = None
        self.posts = Posts()
        """Of the current shard."""
        self.commit_since_ms: int | None = None
        self.intake = Intake(number, ports)
        self._ports = ports
        self._control = control
        self._courses = CourseLoader(number, ports, indexes, self.wake, self.fail)
        self._on_opened, self._on_dropped, self._on_facts = on_opened, on_dropped, on_facts
        self._shard_log: ShardLog | None = None
        self._ledger: Ledger | None = None
        self._waker = Waker()
        self._life = PartitionLifecycle()
        self._operators = OperatorWatch(number, ports, self._life, self._waker)
        self._reports = Reports(number, ports.observer)
        self._lease = Lease(ports.settings.fence.lease)
        self._retries = Retries()
        self._fault: Exception | None = None

    # --- life -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run until cancelled, or until stopped and everything is committed.

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
        """Apply the remedy for the failure. Returns when the partition may be opened again."""
        failure = failure_of(error, self.number, self._ports.settings.topics)
        if failure.is_defect:
            self._reports.defect(error)
        if isinstance(error, InputLostError):
            self.intake.lost = LostInput(str(error))
        match failure.remedy:
            case Remedy.REOPEN:
                await self._drop(failure)
            case Remedy.REFUSED:
                # R4: the other partitions continue, whatever this partition's records and answers cause.
                if self._retries.refused():
                    await self._block(failure.sentence, by_journal=False)
                else:
                    await self._drop(failure)
            case Remedy.DEFER:
                self._retries.deferred(self._ports.clock.now().mono)
                await self._drop(failure)
            case Remedy.BLOCK:
                await self._block(failure.sentence, by_journal=True)
            case Remedy.BLOCK_HERE:
                await self._block(failure.sentence, by_journal=False)
            case Remedy.DIE:
                raise error
            case _:
                assert_never(failure.remedy)

    async def _open(self) -> None:
        number, ports = self.number, self._ports
        if self._retries.unconfirmed:
            in_a_row = self._retries.in_a_row(ports.clock.now().mono)
            await wait_for_confirmation(ports, number, in_a_row)
        self._life.new_producer()
        self._fault = None
        self._reports.restoring()
        await self._operators.begin()
        await check_before_fencing(ports, number)
        self._shard_log = await ports.log.open_shard(number)
        opened = await restore(ports, number, self._shard_log, self._courses.budget, self._control)
        if self.intake.lost is not None and self.intake.lost.holds(opened.shard):
            raise BlockedError(self.intake.lost.sentence)
        self._begin(opened, self._shard_log)

    def _begin(self, opened: Opened, shard_log: ShardLog) -> None:
        """The shard is restored: its requests may be sent. Its input is read unless it was revoked meanwhile."""
        shard = opened.shard
        self._lease.end()
        self.shard, self._ledger, self.posts = shard, opened.ledger, Posts()
        self.intake.opened(shard, opened.facts)
        if opened.is_new:
            shard.want_position()  # stores the start offset: `latest` must mean the same offset after a crash
        self._reports.restored(shard)
        self._courses.start(shard, shard_log, opened.courses_end)
        self._on_opened(self, shard)
        self._life.restored()
        if self._life.serving:
            self.intake.begin(shard)
        # Otherwise reading begins once the partition is assigned again and has rejoined.
        self._reports.running()

    async def _serve(self) -> None:
        shard, shard_log, life = self.shard, self._shard_log, self._life
        assert shard is not None
        assert shard_log is not None
        while True:
            if self._fault is not None:
                fault, self._fault = self._fault, None
                raise fault
            if not life.stopping:
                shard.tick(self._ports.clock.now())
            rejoining, revocations = life.rejoining, life.revocations
            if rejoining:
                # R5: only a record that the old producer commits proves that there was no other owner in between.
                shard.want_position()
            if life.handing_over:
                shard.hand_over(self.posts.in_flight(self._ports.clock.now().mono))
            else:
                shard.keep()
            step = shard.take_step()
            if step is not None:
                await self._commit(shard, shard_log, step)
                if rejoining and life.rejoining and life.revocations == revocations:
                    self._rejoined(shard)
            elif life.stopping:
                return
            elif self.commit_since_ms is not None:
                # A commit has failed. Even if nothing is left to write, only a commit shows that commits work again.
                shard.want_position()
            else:
                await self._wait(shard)

    async def _wait(self, shard: Shard) -> None:
        """Wait until something happens or is due. While the input cannot be read, look whether an operator has acted."""
        due, operators = shard.due(), self._operators
        stopped = self.intake.stopped(shard)
        if stopped is not None and not shard.intake:
            self._reports.blocked(stopped)
            if operators.is_due(self._ports.clock.now().mono):
                shard.want_position()  # its commit fails if `skip` or `reject` has written a position
                return
            due = operators.look_at if due is None else min(due, operators.look_at)
        await self._waker.wait(due)

    def _rejoined(self, shard: Shard) -> None:
        """The partition had no other owner in between: continue with the same memory."""
        self._life.proven()
        if self.intake.lost is not None:  # detected again if it still exists
            self.intake.lost = None
            self._reports.running()
        self.intake.begin(shard)
        self._lease.wake()

    async def _commit(self, shard: Shard, shard_log: ShardLog, step: Step) -> None:
        clock = self._ports.clock
        began, began_at = clock.boot(), clock.now()
        self.commit_since_ms = self.commit_since_ms or began_at.wall
        assert self._ledger is not None
        ports = self._ports
        written = transaction(step, self.number, ports.settings.topics, exports_spans=ports.exports_spans)
        self._ledger.commit_begins(step, written)
        committed = await shard_log.commit(written)
        self._ledger.committed()
        self.commit_since_ms = None
        self._retries.committed()
        self._lease.renew(began)
        now = clock.now()
        shard.committed(step, committed.offsets, committed.appended_at, now)
        self._reports.committed(step, now, now.mono - began_at.mono)
        self._on_facts(self, shard, step.facts)
        self._lease.wake()
        self.intake.adjust(shard)

    async def _drop(self, failure: Failure) -> None:
        self._retries.failed()
        self._life.on(PartitionTrigger.FAILED)
        self.intake.dropped(self.shard, failure)
        self._reports.dropped(failure)
        await self._let_go()

    async def _block(self, sentence: str, *, by_journal: bool) -> None:
        """Wait until an operator acts, in the journal if `by_journal`; see `OperatorWatch.until_unblocked`."""
        life = self._life
        life.on(PartitionTrigger.BLOCKED)
        await self._let_go()
        self.commit_since_ms = None
        self._retries.unconfirmed = True
        if not life.returned:
            self._reports.blocked(sentence)
            await self._operators.until_unblocked(by_journal=by_journal)
        self.intake.lost = None
        life.on(PartitionTrigger.UNBLOCKED)
        if not life.stopping:
            self._reports.reopened(sentence)

    async def _let_go(self) -> None:
        shard, self.shard, self._ledger = self.shard, None, None
        shard_log, self._shard_log = self._shard_log, None
        self._lease.end()
        self.intake.stop()
        self._courses.stop()
        if shard is not None:
            self._on_dropped(shard)
        self._lease.wake()
        if shard_log is not None:
            await shard_log.close()

    # --- called by the engine ---------------------------------------------------------------------

    def wake(self) -> None:
        self._waker.wake()

    def obey(self) -> None:
        """Operators have decided something (R19)."""
        if self.shard is None:
            return
        now = self._ports.clock.now()
        try:
            self.shard.obey(self.posts.in_flight(now.mono), now)
        except Exception as error:
            self._reports.defect(error)
            self.fail(StepFailedError("a decision of an operator cannot be applied", error))
        self.wake()

    def suspend(self) -> None:
        """The partition was revoked, and may be assigned again at once. No new request is sent meanwhile."""
        self._life.revoke()
        self.intake.stop()
        self.wake()

    def rejoin(self) -> None:
        """The partition was assigned again: prove that it had no other owner, then continue with the same memory (R5)."""
        if self._life.give_back():
            self.wake()

    def stop(self) -> None:
        """Commit what was decided, then end. The next owner reads the records that were not admitted again."""
        self._life.on(PartitionTrigger.STOPPED)
        self.intake.stop()
        self._lease.wake()
        self.wake()

    def compare(self, facts: InputFacts) -> None:
        """Check that the input is still the topic that was opened. If not, the partition is reopened, which reports the
        problem.
        """
        if self.shard is not None and self.intake.is_of_another_topic(facts):
            self.fail(InputChangedError("the input topic was created again, or its partition count changed"))

    def fail(self, error: Exception) -> None:
        """Report a failure of this shard or its journal. `run` handles it."""
        self._fault = error
        self.wake()

    def input_lost(self, token: int, reason: str) -> None:
        """The log cannot serve this partition's input from the current position on."""
        if token == self.intake.token:
            self.fail(InputLostError(operator_messages.unreadable_input(self.number, reason)))

    def input_unreadable(self, found: Unreadable) -> None:
        """The log has read everything before these records and cannot read further. The partition is reported as blocked
        only after everything that was read is committed, so that `skip` cannot skip those records too. Work in progress
        continues. Only when the next shard finds the same records is the partition blocked completely.
        """
        if found.token == self.intake.token:
            sentence = operator_messages.unreadable_records(found, self._ports.settings.topics)
            self._reports.unreadable(found.offset, sentence)
            self.intake.lost = LostInput(sentence, found.offset, self.shard.next_read if self.shard else 0)
            self.wake()

    def deliver(self, read: Records) -> None:
        """Take records of the input. Records of an earlier `begin` are ignored."""
        if read.token == self.intake.token and self.shard is not None and self._ledger is not None:
            self._ledger.consumed(len(read.records))
            try:
                self._ledger.not_taken(self.intake.take(self.shard, read))
            except Exception as error:
                self._reports.defect(error)
                self.fail(
                    StepFailedError(f"records before offset {read.next_offset} cannot be processed", error)
                )
            self.wake()

    # --- figures ----------------------------------------------------------------------------------

    @property
    def restore_remaining(self) -> int:
        """Upper bound of the journal records that a running restore still has to read. 0 if no restore is running."""
        return 0 if self._shard_log is None else self._shard_log.restore_remaining

    @property
    def imbalance(self) -> int:
        """Changes that this shard has lost since it was restored; negative if changes ended more than once. Must be 0."""
        if self.shard is None or self._ledger is None:
            return 0
        return self._ledger.imbalance(self.shard)

    @property
    def lag(self) -> int | None:
        """Records of the input that are not read yet. None if the number is not known."""
        return None if self.shard is None or self.intake.stopped(self.shard) is not None else self.intake.lag

    @property
    def paused(self) -> bool:
        """Whether the input is paused because a limit is reached."""
        return self.intake.paused and self.shard is not None and self.intake.stopped(self.shard) is None

    # --- for requests -----------------------------------------------------------------------------

    @property
    def active(self) -> bool:
        """Whether requests may be sent for this partition."""
        return self._life.serving and self.shard is not None and not self.shard.congested

    async def lease(self, shard: Shard) -> bool:
        """R6: return True when a POST may start now. If the lease has expired, a position record is committed first. While
        the partition is revoked, this waits. Returns False if the shard has ended or is about to end.
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
            LogError: it cannot be read at the moment.
            CorruptJournalError: it is not the body that was sealed.
        """
        assert self._shard_log is not None
        return await read_payload(self._shard_log, self.number, task)
