"""The journal, the courses and the transactional producer of one partition, for the asyncio loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial

from daemon.log.errors import CommitFailedError, CorruptJournalError, LogError, UnreadableError
from daemon.log.kafka.clients import Clients
from daemon.log.kafka.partition_reader import PartitionReader, Piece
from daemon.log.kafka.producer import ShardProducer
from daemon.log.kafka.worker import Worker, WorkerProgress
from daemon.log.port import Committed, Record, Topics, Transaction

RESTORE_RECORDS_MAX = 500
"""Maximum number of records in one batch of a restore."""

COURSES_RECORDS_MAX = 500
"""Maximum number of course records in one batch. Whoever decodes them occupies the event loop for some milliseconds."""

OPEN_TIMEOUT = 45.0
"""Seconds. Connecting, fencing and describing the topics take at most 15 each."""
COMMIT_TIMEOUT = 20.0
"""Seconds. More than the client's own time-outs; a commit that takes longer hangs."""
READ_TIMEOUT = 90.0
"""Seconds. More than connecting and the time-out of a read together."""
READ_BACK_PATIENCE = 10.0
CLOSE_TIMEOUT = 5.0
READER_IDLE = 30.0
"""Seconds after which an idle journal reader is closed, because it occupies a thread and a connection."""


class KafkaShardLog:
    """`ShardLog` on Kafka. Created by `KafkaLog.open_shard`."""

    def __init__(
        self,
        clients: Clients,
        topics: Topics,
        partition: int,
        progress: WorkerProgress,
        offsets: Callable[[str], Awaitable[tuple[int, int]]],
        note_position: Callable[[int], None],
    ) -> None:
        """`offsets` returns the earliest and the end offset of the partition in a topic."""
        self._progress = progress
        self._clients = clients
        self._topics = topics
        self._partition = partition
        self._offsets = offsets
        self._note_position = note_position
        self._producer = ShardProducer(clients, topics, partition)
        self._worker = Worker(f"kafka-shard-{partition}", progress)
        self.restore_remaining = 0
        """See `ShardLog`."""
        self._committing = False
        self._hangs = False
        self._closed = False
        self._reading: tuple[PartitionReader, Worker] | None = None
        self._readers_now = 0
        self._idle: asyncio.TimerHandle | None = None

    async def open(self) -> None:
        """Fence every earlier owner.

        Raises:
            LogError: fencing failed; close this object.
        """
        try:
            await self._worker.call(self._producer.open, OPEN_TIMEOUT)
        except TimeoutError:
            self._hangs = True
            raise LogError(f"fencing the journal of partition {self._partition} hangs") from None

    async def restore(self) -> AsyncIterator[Sequence[Record]]:
        """See `ShardLog`."""
        offset, end = await self._offsets(self._topics.journal)
        try:
            self.restore_remaining = end - offset
            while offset < end:
                records, offset = await self._read(offset, RESTORE_RECORDS_MAX)
                self.restore_remaining = max(0, end - offset)
                while records and records[-1].offset >= end:
                    records.pop()
                if records:
                    yield records
        finally:
            self.restore_remaining = 0

    async def commit(self, transaction: Transaction) -> Committed:
        """See `ShardLog`."""
        if self._committing:
            raise CommitFailedError("another commit is running; only one at a time is allowed")
        if self._closed:
            raise CommitFailedError("this shard log is closed")
        self._committing = True
        try:
            prepared = self._producer.prepare(transaction)
            committed = await self._worker.call(partial(self._producer.commit, prepared), COMMIT_TIMEOUT)
        except TimeoutError:
            self._hangs = True
            self._producer.give_up()
            raise CommitFailedError(
                f"commit to partition {self._partition} did not return within {COMMIT_TIMEOUT:.0f} s"
            ) from None
        except asyncio.CancelledError:
            self._hangs = True  # possibly; nobody waits for it any more
            self._producer.give_up()  # it may still be written, so the outcome is unknown
            raise
        finally:
            self._committing = False
        if transaction.position is not None:
            self._note_position(transaction.position)
        return committed

    async def courses_end(self) -> int:
        """See `ShardLog`."""
        _, end = await self._offsets(self._topics.courses)
        return end

    async def courses(self, end: int) -> AsyncIterator[Sequence[Record]]:
        """See `ShardLog`."""
        offset, _ = await self._offsets(self._topics.courses)
        # Not the reader of the journal: a payload that is read back must not wait for it.
        reader = PartitionReader(self._clients, self._topics.courses, self._partition)
        worker = Worker(f"kafka-courses-{self._partition}", self._progress)
        ahead: asyncio.Task[Piece] | None = None

        def read_ahead() -> asyncio.Task[Piece]:
            piece = partial(reader.read, offset, COURSES_RECORDS_MAX)
            return asyncio.create_task(worker.call(piece, READ_TIMEOUT))

        try:
            while offset < end:
                records, offset = await (ahead or read_ahead())
                # The next batch is read while this one is being decoded, which is a fifth faster.
                ahead = read_ahead() if offset < end else None
                while records and records[-1].offset >= end:
                    records.pop()
                if records:
                    yield records
        except TimeoutError:
            raise LogError(f"reading the courses of partition {self._partition} hangs") from None
        finally:
            if ahead is not None:
                ahead.cancel()
                await asyncio.gather(ahead, return_exceptions=True)
            worker.post(reader.close)
            worker.retire()

    async def read_back(self, offset: int) -> Record:
        """See `ShardLog`."""
        records, _ = await self._read(offset, 1, READ_BACK_PATIENCE)
        if not records or records[0].offset != offset:
            raise CorruptJournalError(
                f"{self._topics.journal} partition {self._partition} has no record at offset {offset}"
            )
        return records[0]

    async def close(self) -> None:
        """See `ShardLog`."""
        if self._closed:
            return
        self._closed = True
        self._retire_reader()
        # Always after the current call, however late, because that call may still create the client.
        closers = [self._worker]
        if self._hangs:  # and also immediately, which usually ends that call
            closers.append(Worker(f"kafka-close-{self._partition}", self._progress))
        for worker in closers:
            worker.post(self._producer.close)
            worker.retire()
        with suppress(TimeoutError):
            await closers[-1].ended(CLOSE_TIMEOUT)

    # --- reading ---------------------------------------------------------------------------------------

    async def _read(
        self, offset: int, records_max: int, patience: float | None = None
    ) -> tuple[list[Record], int]:
        if self._closed:
            raise LogError("this shard log is closed")
        if self._reading is None:
            reader = PartitionReader(self._clients, self._topics.journal, self._partition)
            self._reading = reader, Worker(f"kafka-journal-{self._partition}", self._progress)
        reader, worker = self._reading
        self._readers_now += 1
        try:
            return await worker.call(lambda: reader.read(offset, records_max, patience), READ_TIMEOUT)
        except UnreadableError as error:
            raise CorruptJournalError(str(error)) from error
        except TimeoutError:
            self._retire_reader()  # its thread ends with the call
            raise LogError(f"reading the journal of partition {self._partition} hangs") from None
        finally:
            self._readers_now -= 1
            self._watch_idleness()

    def _watch_idleness(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        self._idle = None
        if self._reading is not None and not self._readers_now:
            self._idle = asyncio.get_running_loop().call_later(READER_IDLE, self._retire_reader)

    def _retire_reader(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if self._reading is not None:
            reader, worker = self._reading
            self._reading = None
            worker.post(reader.close)
            worker.retire()
