"""The client of one member of the embedded log: the two protocols of `daemon.log.port`.

Every asynchronous method yields to the event loop at least once before it accesses the cluster, as a real client does, so
that other due work runs in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from daemon.log.errors import (
    CommitFailedError,
    CorruptJournalError,
    FatalLogError,
    FencedError,
    HeldBackError,
    LogError,
    RecordRefusedError,
    UnreadableError,
)
from daemon.log.port import (
    Assigned,
    Committed,
    ControlRead,
    Event,
    InputFacts,
    Message,
    PositionLost,
    Record,
    Records,
    Revoked,
    Topics,
    Transaction,
    TransactionOwner,
    Unreadable,
)
from tests.embedded_log.cluster import EmbeddedCluster, Producer
from tests.embedded_log.group import Displaced, Expired, Notice, Session
from tests.embedded_log.storage import OffsetOutOfRangeError, Partition, UnreadableOffsetError

RECORDS_MAX = 500
"""Records in one `Records` event or in one batch of a restore: `max_poll_records` of the daemon's Kafka client."""

CONTROL_WAIT = 0.5
"""Seconds between two looks at the control topic."""
UNREADABLE = "it was made unreadable"


@dataclass(slots=True)
class _Flow:
    """The reading position of a partition since its last `begin`."""

    offset: int
    token: int
    paused: bool = False


class EmbeddedLog:
    """A static member of a consumer group, in this process. Never for production."""

    def __init__(
        self, cluster: EmbeddedCluster, topics: Topics, member_id: str, *, group: str = "course-sync-daemon"
    ) -> None:
        self._cluster = cluster
        self._topics = topics
        self._member_id = member_id
        self._group = cluster.group(group, topics.changes)
        self._session: Session | None = None
        self._held: frozenset[int] = frozenset()
        """The assignment as the caller knows it, from the last `Assigned` or `Revoked` that it has read."""
        self._flows: dict[int, _Flow] = {}
        """In the order in which they are read next."""
        self._waiter: asyncio.Future[None] | None = None
        self._ended: str | None = None

    async def start(self) -> None:
        await asyncio.sleep(0)
        self._check_topics()
        self._cluster.warn_once()
        self._join()

    async def next_event(self) -> Event:
        await asyncio.sleep(0)
        while True:
            if self._ended is not None:
                raise FatalLogError(self._ended)
            event = self._next_of_group() or self._next_of_input()
            if event is not None:
                return event
            assert self._waiter is None, "one call of next_event at a time"
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    async def input_facts(self, partition: int) -> InputFacts:
        await asyncio.sleep(0)
        topic = self._topics.changes
        count = self._cluster.partition_count(topic)
        log = self._cluster.partition(topic, partition) if partition < count else Partition()
        return InputFacts(
            topic_id=self._cluster.topic_id(topic),
            partitions=count,
            earliest=log.start,
            stable=log.stable,
            latest=log.end,
            group_offset=self._group.offsets.get(partition),
            journal_partitions=self._cluster.partition_count(self._topics.journal),
            courses_partitions=self._cluster.partition_count(self._topics.courses),
        )

    async def transaction_owner(self, partition: int) -> TransactionOwner | None:
        await asyncio.sleep(0)
        first = self._cluster.partition(self._topics.changes, partition).first_undecided
        return None if first is None else TransactionOwner(self._cluster.producer_id(first), first)

    async def journal_end(self, partition: int) -> int | None:
        await asyncio.sleep(0)
        journal = self._topics.journal
        if partition >= self._cluster.partition_count(journal):
            return None
        return self._cluster.partition(journal, partition).end

    async def read_journal(self, partition: int) -> AsyncIterator[Sequence[Record]]:
        journal = self._cluster.partition(self._topics.journal, partition)
        position, end = journal.start, journal.end
        while position < end:
            await asyncio.sleep(0)
            records, following = journal.read(position, RECORDS_MAX, before=end)
            if following == position:
                raise HeldBackError(self._topics.journal, partition, position)
            position = following
            if records:
                yield records

    async def next_record(self, partition: int, offset: int) -> int | None:
        await asyncio.sleep(0)
        topic = self._topics.changes
        while True:
            try:
                records, following = self._cluster.read_committed(topic, partition, offset, 1)
            except UnreadableOffsetError:
                raise UnreadableError(topic, partition, offset, offset + 1, UNREADABLE) from None
            if records or following == offset:
                return records[0].offset if records else None
            offset = following

    async def read_control(self, offset: int | None) -> ControlRead:
        await asyncio.sleep(0)
        log = self._cluster.partition(self._topics.control, 0)
        is_first = offset is None or not log.start <= offset <= log.end
        position = log.start if offset is None or is_first else offset
        if not is_first and position == log.stable:
            await asyncio.sleep(CONTROL_WAIT)
        records, following = log.read(position, RECORDS_MAX)
        return ControlRead(records, following, is_first, at_end=following == log.stable)

    def begin(self, partition: int, offset: int, token: int) -> None:
        if partition in self._held:
            self._flows[partition] = _Flow(offset, token)
            self._wake()

    def pause(self, partition: int) -> None:
        if partition in self._flows:
            self._flows[partition].paused = True

    def resume(self, partition: int) -> None:
        if partition in self._flows:
            self._flows[partition].paused = False
            self._wake()

    async def confirm_assignment(self, partition: int, timeout: float) -> bool:  # noqa: ARG002 (answers at once)
        await asyncio.sleep(0)
        session = self._session
        return (
            self._ended is None
            and session is not None
            and session.settled  # otherwise the session is over or a rebalance is in progress
            and partition in session.partitions
        )

    async def open_shard(self, partition: int) -> EmbeddedShardLog:
        await asyncio.sleep(0)
        journal = self._cluster.partition(self._topics.journal, partition)
        producer = self._cluster.producer(f"{self._topics.journal}-{partition}")  # R1
        courses = self._cluster.partition(self._topics.courses, partition)
        return EmbeddedShardLog(
            self._topics, partition, journal, courses, producer, self._commit_group_offset
        )

    def longest_call(self) -> float:
        """See `EventLog`. There are no other threads."""
        return 0.0

    def unanswered(self) -> float | None:
        """See `EventLog`. The cluster is in the same process."""
        return 0.0

    def silence(self) -> float:
        return 0.0  # reading happens in the caller's own call, so there is no loop that could be silent

    async def stop(self) -> None:
        """Stop without leaving the group. A static member keeps its partitions until its session expires."""
        self._end("the log was stopped")

    # --- inside -----------------------------------------------------------------------------------

    def _check_topics(self) -> None:
        topics, count = self._topics, self._cluster.partition_count
        for topic in topics.names:
            if count(topic) == 0:
                raise LogError(f"there is no topic {topic}")
        if count(topics.journal) > count(topics.changes):
            raise LogError(
                f"{topics.changes} has {count(topics.changes)} partitions and {topics.journal} has "
                f"{count(topics.journal)}: they must have the same number"
            )

    def _join(self) -> None:
        partitions = self._cluster.partition_count(self._topics.changes)
        self._session = self._group.join(self._member_id, partitions, self._wake)

    def _next_of_group(self) -> Event | None:
        """The next notice of the group. Notices come before any record, so that a flow ends before its next read."""
        assert self._session is not None, "start() comes before next_event()"
        notice: Notice | None = self._session.next_notice()
        match notice:
            case Assigned(partitions):
                self._held = partitions
                return notice
            case Revoked():
                self._lose_all()
                return notice
            case Displaced():
                self._end(f"another process has joined the group as {self._member_id}")
                raise FatalLogError(self._ended)
            case Expired():
                # As a Kafka client does on its first heartbeat after a pause that was too long.
                self._join()
                lost = self._lose_all()
                return Revoked(lost) if lost else self._next_of_group()
            case None:
                return None

    def _next_of_input(self) -> Event | None:
        partitions = self._cluster.partition_count(self._topics.changes)
        for partition, flow in list(self._flows.items()):
            if flow.paused or partition >= partitions:
                continue
            log = self._cluster.partition(self._topics.changes, partition)
            try:
                records, position = log.read(flow.offset, RECORDS_MAX)
            except OffsetOutOfRangeError:
                del self._flows[partition]
                message = f"the log has the offsets from {log.start} to {log.end}"
                return PositionLost(partition, flow.token, flow.offset, message)
            except UnreadableOffsetError:
                del self._flows[partition]
                return Unreadable(partition, flow.token, flow.offset, flow.offset + 1, UNREADABLE)
            if position > flow.offset:
                flow.offset = position
                self._flows[partition] = self._flows.pop(partition)  # the others come first next time
                return Records(partition, flow.token, records, position, log.stable)
        return None

    def _lose_all(self) -> frozenset[int]:
        lost = self._held
        self._held = frozenset()
        self._flows.clear()
        return lost

    def _commit_group_offset(self, partition: int, offset: int) -> None:
        if self._session is not None:
            self._group.commit_offset(self._session, partition, offset)

    def _end(self, reason: str) -> None:
        if self._ended is None:
            self._ended = reason
            self._wake()

    def _wake(self) -> None:
        """Make `next_event` check again. Called from any event loop of this thread."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.get_loop().is_closed():  # closed: the member was killed
            waiter.get_loop().call_soon_threadsafe(_resolve, waiter)


def _resolve(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class EmbeddedShardLog:
    """One partition's journal and its producer, in this process."""

    def __init__(
        self,
        topics: Topics,
        partition: int,
        journal: Partition,
        courses: Partition,
        producer: Producer,
        commit_group_offset: Callable[[int, int], None],
    ) -> None:
        self._topics = topics
        self._partition = partition
        self._journal = journal
        self._courses = courses
        self._producer = producer
        self._commit_group_offset = commit_group_offset
        self._journal_end = journal.end  # every earlier owner is fenced, so everything below this is decided
        self._unusable: str | None = None
        """Why it does not commit any more."""
        self.restore_remaining = 0
        """See `ShardLog`."""
        self._committing = False
        self._closed = False

    async def restore(self) -> AsyncIterator[Sequence[Record]]:
        await asyncio.sleep(0)
        position = self._journal.start
        try:
            self.restore_remaining = self._journal_end - position
            while position < self._journal_end:
                self._check_open()
                records, position = self._read(position)
                self.restore_remaining = self._journal_end - position
                if records:
                    yield records
                await asyncio.sleep(0)
        finally:
            self.restore_remaining = 0

    async def commit(self, transaction: Transaction) -> Committed:
        assert not self._committing, "one commit at a time"
        if not any((transaction.journal, transaction.results, transaction.dead_letters, transaction.courses)):
            raise ValueError("an empty transaction proves nothing (R5)")
        if self._closed or self._unusable is not None:
            raise CommitFailedError(self._unusable or "this shard log is closed")
        self._committing = True
        try:
            await asyncio.sleep(0)
            offsets = self._write(transaction)
            await asyncio.sleep(0)
        except BaseException as error:
            self._unusable = f"an earlier commit has failed: {error!r}"
            raise
        finally:
            self._committing = False
        if transaction.position is not None:
            self._commit_group_offset(self._partition, transaction.position)
        last = self._journal.at(offsets[-1]) if offsets else None
        return Committed(offsets, None if last is None else last.timestamp)

    async def courses_end(self) -> int:
        await asyncio.sleep(0)
        return self._courses.end

    async def courses(self, end: int) -> AsyncIterator[Sequence[Record]]:
        position = self._courses.start
        while position < end:
            await asyncio.sleep(0)
            self._check_open()
            try:
                records, following = self._courses.read(position, RECORDS_MAX, before=end)
            except UnreadableOffsetError:
                raise UnreadableError(
                    self._topics.courses, self._partition, position, position + 1, UNREADABLE
                ) from None
            if following == position:
                raise HeldBackError(self._topics.courses, self._partition, position)
            position = following
            if records:
                yield records

    async def read_back(self, offset: int) -> Record:
        await asyncio.sleep(0)
        self._check_open()
        record = self._journal.at(offset)
        if record is None:
            raise CorruptJournalError(f"{self._topics.journal}/{self._partition} has no record at {offset}")
        return record

    async def close(self) -> None:
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise LogError("this shard log is closed")

    def _read(self, position: int) -> tuple[list[Record], int]:
        journal = f"{self._topics.journal}/{self._partition}"
        try:
            records, following = self._journal.read(position, RECORDS_MAX, before=self._journal_end)
        except OffsetOutOfRangeError:
            raise LogError(f"{journal} was deleted below {self._journal.start} while it was read") from None
        if following == position:
            raise HeldBackError(self._topics.journal, self._partition, position)
        return records, following

    def _write(self, transaction: Transaction) -> list[int]:
        topics, append = self._topics, self._producer.append
        try:
            offsets = [
                append(topics.journal, Message(key, value), self._partition)[1]
                for key, value in transaction.journal
            ]
            for message in transaction.results:
                append(topics.results, message)
            for message in transaction.dead_letters:
                append(topics.dead_letters, message)
            for key, value in transaction.courses:
                append(topics.courses, Message(key, value), self._partition)
            self._producer.end_transaction(commit=True)
        except FencedError:
            raise
        except LogError as error:
            raise RecordRefusedError(str(error)) from error
        return offsets
