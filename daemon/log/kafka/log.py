"""`EventLog` on Kafka: puts together the consumer thread, the shard threads and a thread for admin requests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TypeVar

from kafka import KafkaAdminClient, TopicPartition
from kafka.errors import KafkaError

from daemon.log.errors import LogError
from daemon.log.kafka import admin, open_transactions
from daemon.log.kafka.clients import Clients, KafkaConnection
from daemon.log.kafka.connection_errors import described
from daemon.log.kafka.consumer import InputConsumer
from daemon.log.kafka.control_reader import ControlReader
from daemon.log.kafka.loop_queue import LoopQueue
from daemon.log.kafka.partition_reader import PartitionReader
from daemon.log.kafka.shard import READ_TIMEOUT, KafkaShardLog
from daemon.log.kafka.worker import Worker, WorkerProgress
from daemon.log.port import ControlRead, Event, InputFacts, Record, ShardLog, Topics, TransactionOwner

_T = TypeVar("_T")

ASK_TIMEOUT = 45.0
"""Seconds. Connecting and each request take at most 15."""
STOP_TIMEOUT = 8.0
"""Seconds. More than the last commit of group offsets and leaving the group may take."""


class KafkaLog:
    """Group membership and input of one process. Create and use it on one asyncio loop; call `start` once."""

    def __init__(
        self,
        connection: KafkaConnection,
        topics: Topics,
        group_id: str,
        group_instance_id: str | None,
        session_timeout: float,
    ) -> None:
        """`session_timeout` is in seconds and within the broker's limits (6 s to 30 min by default).

        Raises:
            LogError: the client library is incomplete, or a TLS file cannot be loaded.
        """
        self._clients = Clients(connection)
        self._topics = topics
        self._group_id = group_id
        self._group_instance_id = group_instance_id
        self._session_timeout = session_timeout
        self._loop_queue: LoopQueue | None = None
        self._consumer: InputConsumer | None = None
        self._starting: InputConsumer | None = None
        self._admin: tuple[admin.Admin, Worker] | None = None
        self._control: tuple[ControlReader, Worker] | None = None
        self._progress = WorkerProgress()

    async def start(self) -> None:
        """See `EventLog`. After an error it may be called again."""
        await self._check_topics()
        loop_queue = LoopQueue()
        consumer = InputConsumer(
            self._clients,
            self._topics.changes,
            self._group_id,
            self._group_instance_id,
            self._session_timeout,
            loop_queue,
        )
        self._starting = consumer
        try:
            await consumer.start()
        except KafkaError as error:
            raise LogError(f"cannot join the consumer group: {described(error)}") from error
        except BaseException:  # cancelled: the consumer must not join the group when nobody uses it
            consumer.abandon()
            raise
        finally:
            self._starting = None
        self._loop_queue, self._consumer = loop_queue, consumer

    async def next_event(self) -> Event:
        """See `EventLog`."""
        if self._loop_queue is None:
            raise LogError("the log was not started")
        return await self._loop_queue.get()

    async def input_facts(self, partition: int) -> InputFacts:
        """See `EventLog`."""
        topics, group_id = self._topics, self._group_id
        return await self._ask(lambda client: admin.input_facts(client, topics, partition, group_id))

    async def transaction_owner(self, partition: int) -> TransactionOwner | None:
        """See `EventLog`."""
        tp = TopicPartition(self._topics.changes, partition)
        return await self._ask(lambda client: open_transactions.first_owner(client, tp))

    async def journal_end(self, partition: int) -> int | None:
        """See `EventLog`."""
        journal = self._topics.journal
        return await self._ask(lambda client: admin.journal_end(client, journal, partition))

    async def read_control(self, offset: int | None) -> ControlRead:
        """See `EventLog`."""
        if self._control is None:
            self._control = (
                ControlReader(self._clients, self._topics.control),
                Worker("kafka-control", self._progress),
            )
        reader, worker = self._control
        try:
            return await worker.call(lambda: reader.read(offset), READ_TIMEOUT)
        except TimeoutError:
            self._control = None
            _retire(worker, reader.close)
            raise LogError(f"reading {self._topics.control} hangs") from None

    def begin(self, partition: int, offset: int, token: int) -> None:
        """See `EventLog`."""
        self._running.begin(partition, offset, token)

    def pause(self, partition: int) -> None:
        """See `EventLog`."""
        self._running.pause(partition)

    def resume(self, partition: int) -> None:
        """See `EventLog`."""
        self._running.resume(partition)

    async def confirm_assignment(self, partition: int, timeout: float) -> bool:
        """See `EventLog`. Takes about 0.2 s: a heartbeat is sent for it."""
        return await self._running.confirm(partition, timeout)

    async def open_shard(self, partition: int) -> ShardLog:
        """See `EventLog`. Works without `start` too, for commands."""
        shard = self._shard(partition)
        try:
            await shard.open()
        except BaseException:
            await shard.close()
            raise
        return shard

    async def read_journal(self, partition: int) -> AsyncIterator[Sequence[Record]]:
        """See `RepairLog`."""
        shard = self._shard(partition)  # it is never opened, so nobody is fenced
        try:
            async for records in shard.restore():
                yield records
        finally:
            await shard.close()

    async def next_record(self, partition: int, offset: int) -> int | None:
        """See `RepairLog`."""
        stable = (await self.input_facts(partition)).stable
        reader = PartitionReader(self._clients, self._topics.changes, partition)
        worker = Worker(f"kafka-look-{partition}", self._progress)
        try:
            while offset < stable:
                records, offset = await worker.call(partial(reader.read, offset, 1), READ_TIMEOUT)
                if records:
                    return records[0].offset
            return None
        except TimeoutError:
            raise LogError(f"reading the input partition {partition} hangs") from None
        finally:
            worker.post(reader.close)
            worker.retire()

    async def commit_group_offset(self, partition: int, offset: int) -> bool:
        """For lag figures only; False when the group has members, which commit for themselves."""
        topic, group_id = self._topics.changes, self._group_id
        try:
            await self._ask(
                lambda client: admin.commit_group_offset(client, topic, partition, group_id, offset)
            )
        except LogError:
            return False
        return True

    def silence(self) -> float:
        """See `EventLog`."""
        consumer = self._consumer or self._starting
        return consumer.silence() if consumer is not None else 0.0

    def unanswered(self) -> float | None:
        """See `EventLog`. A consumer refreshes its metadata every 30 s at the latest."""
        return None if self._consumer is None else self._consumer.unanswered()

    def longest_call(self) -> float:
        """See `EventLog`."""
        return self._progress.silence()

    async def stop(self) -> None:
        """See `EventLog`. A static member keeps its partitions until its session times out."""
        if self._consumer is not None:
            await self._consumer.stop(STOP_TIMEOUT)
        if self._admin is not None:
            asker, worker = self._admin
            self._admin = None
            _retire(worker, asker.close)
        if self._control is not None:
            reader, worker = self._control
            self._control = None
            _retire(worker, reader.close)

    def _shard(self, partition: int) -> KafkaShardLog:
        consumer = self._consumer

        async def offsets(topic: str) -> tuple[int, int]:
            return await self._ask(lambda client: admin.offsets(client, topic, partition))

        def note_position(position: int) -> None:
            if consumer is not None:
                consumer.note_position(partition, position)

        return KafkaShardLog(self._clients, self._topics, partition, self._progress, offsets, note_position)

    @property
    def _running(self) -> InputConsumer:
        if self._consumer is None:
            raise LogError("the log was not started")
        return self._consumer

    async def _check_topics(self) -> None:
        """Check the topics now. A missing topic would later cause time-outs only, and a journal that is not compacted would
        go unnoticed until its state is deleted.
        """
        topics = self._topics
        counts = await self._ask(
            lambda client: {name: admin.partition_count(client, name) for name in topics.names}
        )
        if missing := [name for name, count in counts.items() if count is None]:
            raise LogError(
                f"these topics do not exist: {', '.join(missing)}; `coursesyncd topics create` creates them"
            )
        # If the journal has fewer partitions, only the input partitions without one are blocked.
        if (counts[topics.journal] or 0) > (counts[topics.changes] or 0):
            raise LogError(
                f"{topics.changes} has {counts[topics.changes]} partitions and {topics.journal} has "
                f"{counts[topics.journal]}: they must have the same number. `coursesyncd topics grow` completes an "
                "interrupted change; see `coursesyncd check`"
            )
        journal = await self._ask(lambda client: admin.describe_topics(client, [topics.journal]))
        facts = journal[topics.journal]
        policy = None if facts is None else facts.configs.get("cleanup.policy")
        if policy not in (None, "compact"):
            raise LogError(
                f"{topics.journal} is not compacted (cleanup.policy={policy}): the broker would delete state "
                "that is still needed. `coursesyncd topics create` corrects it; docs/runbook.md#journal-not-compacted"
            )

    async def _ask(self, question: Callable[[KafkaAdminClient], _T]) -> _T:
        if self._admin is None:
            self._admin = admin.Admin(self._clients), Worker("kafka-admin", self._progress)
        asker, worker = self._admin
        try:
            return await worker.call(lambda: asker.ask(question), ASK_TIMEOUT)
        except TimeoutError:
            if self._admin is not None and self._admin[1] is worker:
                self._admin = None
            _retire(worker, asker.close)
            raise LogError(f"Kafka did not answer within {ASK_TIMEOUT:.0f} s") from None


def _retire(worker: Worker, close: Callable[[], None]) -> None:
    """End the thread after it has closed its client. It may hang, or have ended."""
    with suppress(RuntimeError):
        worker.post(close)
        worker.retire()
