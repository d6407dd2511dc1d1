"""The port to the event log: what the runtime needs of Kafka, and nothing more.

Two sides. `EventLog` is membership and input: which partitions this process holds, and their
records. `ShardLog` is one partition's private side: its journal, and one atomic commit that fails
when somebody else has taken over.

How a partition goes through it::

    Assigned(p) → open_shard(p)  fences every earlier owner
                → restore()      the journal, oldest first
                → begin(p, offset, token)  records flow, each batch bearing the token
                → commit(…)*     each one atomic
    Revoked(p)  → close()

All methods are called from one asyncio loop. Exceptions are those of this module: no type of a
client library crosses the port.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from daemon.config import Topics as Topics  # noqa: PLC0414 - named here for those who speak to the log
from daemon.core.model import headers_size


class LogError(Exception):
    """The log did not do what was asked. The message is for people."""


class CommitFailedError(LogError):
    """A commit did not return in order; whether it was written is unknown (R4: drop and restore)."""


class FencedError(CommitFailedError):
    """Another producer with this shard's transactional id has taken over."""


class RecordRefusedError(CommitFailedError):
    """One record of the transaction is refused for what it is (its size, its form): the same transaction
    will fail every time. The message names the record.
    """


class HeldBackError(LogError):
    """A transaction that somebody else has open keeps committed records from being read.

    `topic`, `partition` and `offset` are where it began.
    """

    def __init__(self, topic: str, partition: int, offset: int) -> None:
        super().__init__(
            f"{topic} partition {partition} can not be read on from offset {offset}: a transaction is open there"
        )
        self.topic, self.partition, self.offset = topic, partition, offset


class UnreadableError(LogError):
    """Records of a partition cannot be read, however often it is tried: they are damaged or too large.

    They lie from `offset` up to `next_offset`; `reason` says what is wrong with them.
    """

    def __init__(self, topic: str, partition: int, offset: int, next_offset: int, reason: str) -> None:
        super().__init__(
            f"{topic} partition {partition} cannot be read at the offsets {offset} to {next_offset - 1}: {reason}"
        )
        self.topic, self.partition = topic, partition
        self.offset, self.next_offset, self.reason = offset, next_offset, reason


class CorruptJournalError(LogError):
    """A record that was read back is not what was written there."""


class FatalLogError(LogError):
    """The client can not go on (for example this static member was fenced): the process must end."""


class Record(NamedTuple):
    offset: int
    timestamp: int
    """Milliseconds since the epoch, as the log tells it."""
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()

    @property
    def size(self) -> int:
        """Bytes of memory, about."""
        size = len(self.value or b"") + len(self.key or b"")
        if self.headers:
            size += headers_size(self.headers)
        return size


class Message(NamedTuple):
    """A record to be written to the results or the dead letters."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Transaction:
    """What one step of a shard writes, together or not at all. Never empty (R5)."""

    journal: Sequence[tuple[bytes, bytes | None]]
    """Key and value; value None is a tombstone. Goes to the shard's journal partition, in order."""
    results: Sequence[Message] = ()
    dead_letters: Sequence[Message] = ()
    position: int | None = None
    """The next input offset, for the consumer group's lag figures only; the truth is in the journal."""


# --- what happens to this process, in order -------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Assigned:
    """The whole assignment after a rebalance; every partition in it is paused until `begin`."""

    partitions: frozenset[int]


@dataclass(frozen=True, slots=True)
class Revoked:
    """These partitions are not ours from now on (they may come straight back in `Assigned`)."""

    partitions: frozenset[int]


@dataclass(frozen=True, slots=True)
class Records:
    """Records in offset order, or news of how far a partition is read: then there are none."""

    partition: int
    token: int
    """That of the `begin` which let these records flow; records with an old token are to be ignored."""
    records: Sequence[Record]
    next_offset: int
    """Where the next read begins. What lies between it and the last record is nothing to be read: the markers
    of transactions, aborted records, gaps."""
    end_offset: int | None = None
    """The partition's end as known at this read, for lag figures."""


@dataclass(frozen=True, slots=True)
class PositionLost:
    """The input can not be read from the offset that `begin` named: it is out of range."""

    partition: int
    token: int
    offset: int
    message: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """The input cannot be read at `offset`, however often it is tried: what lies there is damaged or too large.
    Every record before it has come, and no more will until the next `begin`.
    """

    partition: int
    token: int
    offset: int
    next_offset: int
    """Where reading can go on, as far as that is known."""
    reason: str
    """What is wrong, for people."""


Event = Assigned | Revoked | Records | PositionLost | Unreadable


@dataclass(frozen=True, slots=True)
class InputFacts:
    """What the log says of one input partition now (R8)."""

    topic_id: str
    """The topic's unique id: another one after the topic was deleted and created again."""
    partitions: int
    earliest: int
    stable: int
    """The last stable offset: everything below it is decided. Readers of committed records stop here."""
    latest: int
    """The end offset (next to be written); above `stable` while a transaction is open."""
    group_offset: int | None
    """What the consumer group has committed here, if it ever has."""
    journal_partitions: int


class ShardLog(Protocol):
    """One partition's journal and its transactional producer."""

    @property
    def restore_remaining(self) -> int:
        """Offsets between where `restore` has read to and the end to which it reads; 0 when none is under way.
        Compaction leaves gaps, so there may be fewer records.
        """
        ...

    def restore(self) -> AsyncIterator[Sequence[Record]]:
        """The committed journal records, oldest first, up to the end as it was when this owner had
        fenced all earlier ones; in batches of bounded size. Compacted: only the last record of a
        key is promised.

        Raises:
            HeldBackError: a transaction of somebody else is open in it, and stays so.
            LogError: it can not be read now.
        """
        ...

    async def commit(self, transaction: Transaction) -> Sequence[int]:
        """Write all of it atomically and return the offset of each journal record, in order.

        Durable and decided when it returns; readers of committed records see it a moment later (on Kafka when
        the broker has written its markers: some ten milliseconds). One at a time.

        Raises:
            FencedError: another owner has taken over; nothing of this was written.
            RecordRefusedError: it can never be written; nothing of this was.
            CommitFailedError: anything else; it may or may not have been written. This object is of
                no use afterwards: close it, confirm the assignment, open a new one and restore.
        """
        ...

    async def read_back(self, offset: int) -> Record:
        """The journal record at this offset.

        Raises:
            CorruptJournalError: there is no record at this very offset.
            LogError: it could not be read now.
        """
        ...

    async def close(self) -> None:
        """Release the producer. Idempotent, bounded in time, never raises."""
        ...


class EventLog(Protocol):
    """Membership in the consumer group, and the input topic."""

    async def start(self) -> None:
        """Connect and join.

        Raises:
            LogError: the log cannot be reached or refuses us; retrying is up to the caller.
        """
        ...

    async def next_event(self) -> Event:
        """The next thing that happened; waits for it. Memory between the log and the caller is
        bounded: unread events stop the reading of records, never the heartbeats.

        Raises:
            FatalLogError: this client can not go on.
        """
        ...

    async def input_facts(self, partition: int) -> InputFacts:
        """Raises LogError when the log does not answer."""
        ...

    async def journal_end(self, partition: int) -> int | None:
        """The end offset of this journal partition, None where there is no such partition. Every commit
        to it moves it, whoever makes it.

        Raises:
            LogError: the log does not answer.
        """
        ...

    def begin(self, partition: int, offset: int, token: int) -> None:
        """Let records of an assigned partition flow from this offset."""
        ...

    def pause(self, partition: int) -> None:
        """Stop the flow without losing the place; records already on their way may still come."""
        ...

    def resume(self, partition: int) -> None: ...

    async def confirm_assignment(self, partition: int, timeout: float) -> bool:
        """True when a heartbeat *sent after this call* was answered and the partition is still
        assigned to us (R4); False when it is not or when `timeout` (seconds) has passed."""
        ...

    async def open_shard(self, partition: int) -> ShardLog:
        """Fence every earlier owner of this partition's journal and become its owner (R1).

        Raises:
            LogError: it did not work; may be tried again after `confirm_assignment`.
        """
        ...

    def silence(self) -> float:
        """Seconds since the reading side last showed life; for the watchdog, from any thread."""
        ...

    def longest_call(self) -> float:
        """Seconds since the most silent of the calls that are under way in other threads showed life (commits,
        restores, questions), also of one whose caller has given it up; for the watchdog, from any thread."""
        ...

    async def stop(self) -> None:
        """Leave. Idempotent, bounded in time, never raises."""
        ...


class Bystander(Protocol):
    """What a command needs that looks after a partition: to look without being a member of the group,
    and without fencing anybody; and then to act as a shard's owner does.
    """

    async def input_facts(self, partition: int) -> InputFacts:
        """See `EventLog`. A partition that the input does not have is empty."""
        ...

    def read_journal(self, partition: int) -> AsyncIterator[Sequence[Record]]:
        """As `ShardLog.restore`, but its owner goes on: what is committed meanwhile may be missing.

        Raises:
            HeldBackError: a transaction in it is still open.
            LogError: it can not be read now.
        """
        ...

    async def next_record(self, partition: int, offset: int) -> int | None:
        """The offset of the first committed record of the input at or after this one; None when there is
        none below the last stable offset.

        Raises:
            UnreadableError: what lies there cannot be read.
            LogError: it cannot be read now.
        """
        ...

    async def open_shard(self, partition: int) -> ShardLog:
        """See `EventLog`. The replica that holds the partition is fenced, and restores anew."""
        ...
