"""The port to the event log: what the runtime needs of Kafka, and nothing more.

It has two sides. `EventLog` is group membership and input: which partitions this process holds, and their records.
`ShardLog` is the private side of one partition: its journal, and one atomic commit that fails if another owner has taken
over.

The life cycle of a partition::

    Assigned(p) → open_shard(p)  fences every earlier owner
                → restore()      the journal, oldest first
                → begin(p, offset, token)  records flow, each batch with the token
                → commit(…)*     each one atomic
    Revoked(p)  → close()

Call all methods from one asyncio loop. They raise the exceptions of `daemon.log.errors`: no type of a client library
crosses the port.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from daemon.config import Topics as Topics  # noqa: PLC0414 - re-exported for users of the port
from daemon.core.model import headers_size


class Record(NamedTuple):
    offset: int
    timestamp: int
    """Milliseconds since the epoch, as stored in the log."""
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()

    @property
    def size(self) -> int:
        """Approximate size in memory, in bytes."""
        size = len(self.value or b"") + len(self.key or b"")
        if self.headers:
            size += headers_size(self.headers)
        return size


class Message(NamedTuple):
    """A record to be written to the results or the dead letters."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


class Committed(NamedTuple):
    """A transaction that was written."""

    offsets: Sequence[int]
    """Of the journal records, in order."""
    appended_at: int | None
    """When the journal records were written, in ms by the broker's clock. None if the topic has the times of the writers."""


@dataclass(frozen=True, slots=True)
class Transaction:
    """What one step of a shard writes atomically. Never empty (R5)."""

    journal: Sequence[tuple[bytes, bytes | None]]
    """Key and value; None as the value is a tombstone. Written to the shard's journal partition in this order."""
    results: Sequence[Message] = ()
    dead_letters: Sequence[Message] = ()
    courses: Sequence[tuple[bytes, bytes | None]] = ()
    """Key and value; None as the value is a tombstone. Written to the shard's partition of the courses topic."""
    position: int | None = None
    """The next input offset, for the lag of the consumer group only. The journal is authoritative."""


class ControlRead(NamedTuple):
    """What one read of the control topic has found."""

    records: Sequence[Record]
    next_offset: int
    """Where to continue."""
    is_first: bool
    """The topic was read from its beginning."""
    at_end: bool
    """There was nothing more when it was read."""


# --- events, in order -------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Assigned:
    """The whole assignment after a rebalance. Each of its partitions is paused until `begin`."""

    partitions: frozenset[int]


@dataclass(frozen=True, slots=True)
class Revoked:
    """Partitions that this process no longer holds. `Assigned` may return them immediately."""

    partitions: frozenset[int]


@dataclass(frozen=True, slots=True)
class Records:
    """Records in offset order, or no records but a new position of the partition."""

    partition: int
    token: int
    """The token of the `begin` that started this read. Ignore records with an old token."""
    records: Sequence[Record]
    next_offset: int
    """Where the next read starts. Between the last record and this offset are only transaction markers, aborted records
    and gaps."""
    end_offset: int | None = None
    """The end of the partition as known at this read, for lag figures."""


@dataclass(frozen=True, slots=True)
class PositionLost:
    """The input cannot be read from its position: the offset is out of range, or the log was truncated."""

    partition: int
    token: int
    offset: int
    message: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """The input cannot be read at `offset`, because the record there is damaged or too large. A retry does not help.

    All records before it have been delivered. No more will follow until the next `begin`.
    """

    partition: int
    token: int
    offset: int
    next_offset: int
    """The first offset after it that may be readable, as far as known."""
    reason: str
    """What is wrong, for users."""


Event = Assigned | Revoked | Records | PositionLost | Unreadable


@dataclass(frozen=True, slots=True)
class InputFacts:
    """The current facts about one input partition (R8)."""

    topic_id: str
    """The unique id of the topic. It changes when the topic is deleted and created again."""
    partitions: int
    earliest: int
    stable: int
    """The last stable offset: all transactions below it are decided. Readers of committed records stop here."""
    latest: int
    """The end offset (the next to be written). Greater than `stable` while a transaction is open."""
    group_offset: int | None
    """The offset that the consumer group has committed, if any."""
    journal_partitions: int
    courses_partitions: int
    """0 if there is no such topic: an earlier version did not need it."""


class TransactionOwner(NamedTuple):
    """The producer of an open transaction."""

    producer_id: int
    """Assigned by the log."""
    transactional_id: str | None
    """Chosen by the producer. None if this process may not see it."""

    def __str__(self) -> str:
        known = f", transactional id {self.transactional_id}" if self.transactional_id is not None else ""
        return f"producer id {self.producer_id}{known}"


class ShardLog(Protocol):
    """One partition's journal and its transactional producer."""

    @property
    def restore_remaining(self) -> int:
        """Offsets between the position of `restore` and its end; 0 if no restore is running. Compaction leaves gaps, so
        there may be fewer records.
        """
        ...

    def restore(self) -> AsyncIterator[Sequence[Record]]:
        """The committed journal records, oldest first, in batches of bounded size, up to the end at the time when this
        owner had fenced all earlier ones. The journal is compacted: only the last record of each key is guaranteed.

        Raises:
            HeldBackError: a transaction of another producer stays open in it.
            LogError: the journal cannot be read at the moment.
        """
        ...

    async def commit(self, transaction: Transaction) -> Committed:
        """Write the transaction atomically.

        It is durable and decided when this returns. Readers of committed records see it a moment later (on Kafka some
        ten milliseconds, when the broker has written the markers). One commit at a time.

        Raises:
            FencedError: another owner has taken over; nothing of this was written.
            RecordRefusedError: it can never be written; nothing of this was written.
            TransientRefusalError: it cannot be written now; nothing of this was written.
            CommitFailedError: any other error; it may or may not have been written. Do not use this object any more:
                close it, confirm the assignment, open a new one and restore.
        """
        ...

    async def courses_end(self) -> int:
        """The end of the courses partition. Called before the first commit, it is the end of what earlier owners have
        written.

        Raises:
            LogError: the log does not answer.
        """
        ...

    def courses(self, end: int) -> AsyncIterator[Sequence[Record]]:
        """The committed records of the courses partition below `end`, oldest first, in batches of bounded size. The topic is
        compacted: only the last record of each key is guaranteed. It may be read while commits are running.

        Raises:
            LogError: the partition cannot be read at the moment.
        """
        ...

    async def read_back(self, offset: int) -> Record:
        """The journal record at this offset.

        Raises:
            CorruptJournalError: there is no record at exactly this offset.
            LogError: the record cannot be read at the moment.
        """
        ...

    async def close(self) -> None:
        """Release the producer. Idempotent, bounded in time, never raises."""
        ...


class EventLog(Protocol):
    """Membership in the consumer group, and the input topic."""

    async def start(self) -> None:
        """Connect and join the group.

        Raises:
            LogError: the log is unreachable or refuses the connection. The caller decides whether to retry.
        """
        ...

    async def next_event(self) -> Event:
        """Wait for the next event. Memory between the log and the caller is bounded: unread events stop the reading of
        records, but not the heartbeats.

        Raises:
            FatalLogError: this client cannot continue.
        """
        ...

    async def input_facts(self, partition: int) -> InputFacts:
        """Raises LogError if the log does not answer."""
        ...

    async def transaction_owner(self, partition: int) -> TransactionOwner | None:
        """Who has opened the first transaction that is open in this input partition; None if there is none.

        Raises:
            LogError: the log does not answer, or does not allow the request.
        """
        ...

    async def journal_end(self, partition: int) -> int | None:
        """The end offset of this journal partition; None if there is no such partition. Every commit moves it, whoever
        makes it.

        Raises:
            LogError: the log does not answer.
        """
        ...

    async def read_control(self, offset: int | None) -> ControlRead:
        """The next records of the control topic from `offset` on; None: from its beginning. If there are none, it waits for
        them for about a second. If the topic no longer has this offset, it is read from its beginning. One call at a time.

        Raises:
            LogError: the topic cannot be read at the moment.
        """
        ...

    def begin(self, partition: int, offset: int, token: int) -> None:
        """Start to read an assigned partition from this offset."""
        ...

    def pause(self, partition: int) -> None:
        """Stop reading but keep the position. Records that were already fetched may still arrive."""
        ...

    def resume(self, partition: int) -> None: ...

    async def confirm_assignment(self, partition: int, timeout: float) -> bool:
        """True if a heartbeat *sent after this call* was answered and this process still holds the partition (R4). False
        if it does not, or after `timeout` seconds."""
        ...

    async def open_shard(self, partition: int) -> ShardLog:
        """Fence every earlier owner of this partition's journal and become its owner (R1).

        Raises:
            LogError: fencing failed. It may be retried after `confirm_assignment`.
        """
        ...

    def silence(self) -> float:
        """Seconds since the reading side last made progress; for the watchdog, from any thread."""
        ...

    def unanswered(self) -> float | None:
        """Seconds since the log last answered this process as a member of the group. None before the first answer. While
        the log works, this stays below a minute, also when nothing is read.
        """
        ...

    def longest_call(self) -> float:
        """Seconds since the least recent progress among the running calls in other threads (commits, restores, requests),
        including calls that nobody waits for any more; for the watchdog, from any thread."""
        ...

    async def stop(self) -> None:
        """Leave the group. Idempotent, bounded in time, never raises."""
        ...


class RepairLog(Protocol):
    """What a repair command needs: to inspect a partition without joining the group or fencing anybody, and then to act as
    its owner.
    """

    async def input_facts(self, partition: int) -> InputFacts:
        """See `EventLog`. A partition that the input does not have is reported as empty."""
        ...

    def read_journal(self, partition: int) -> AsyncIterator[Sequence[Record]]:
        """As `ShardLog.restore`, but without fencing the owner. Records committed in the meantime may be missing.

        Raises:
            HeldBackError: a transaction in it is still open.
            LogError: the journal cannot be read at the moment.
        """
        ...

    async def next_record(self, partition: int, offset: int) -> int | None:
        """The offset of the first committed input record at or after `offset`; None if there is none below the last
        stable offset.

        Raises:
            UnreadableError: the record there is damaged or too large.
            LogError: the input cannot be read at the moment.
        """
        ...

    async def open_shard(self, partition: int) -> ShardLog:
        """See `EventLog`. The replica that holds the partition is fenced and restores it again."""
        ...
