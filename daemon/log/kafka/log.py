"""`EventLog` on Kafka: the consumer's thread, the shards' threads and a thread for questions, together."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from daemon.log.kafka import admin
from daemon.log.kafka.clients import Clients, KafkaConnection
from daemon.log.kafka.consumer import InputConsumer
from daemon.log.kafka.handover import Handover
from daemon.log.kafka.shard import KafkaShardLog
from daemon.log.kafka.worker import Worker
from daemon.log.port import Event, InputFacts, LogError, ShardLog, Topics

_T = TypeVar("_T")

ASK_TIMEOUT = 45.0
"""Seconds; connecting and one request are bounded by 15 each."""
STOP_TIMEOUT = 8.0
"""Seconds; more than the last commit of group offsets and leaving the group may take."""


class KafkaLog:
    """One process' membership and input. Made and used on one asyncio loop; `start` once."""

    def __init__(
        self,
        connection: KafkaConnection,
        topics: Topics,
        group_id: str,
        group_instance_id: str | None,
        session_timeout: float,
    ) -> None:
        """`session_timeout` in seconds; within the broker's limits (6 s to 30 min by default).

        Raises:
            LogError: the client library lacks a part, or a TLS file can not be used.
        """
        self._clients = Clients(connection)
        self._topics = topics
        self._group_id = group_id
        self._group_instance_id = group_instance_id
        self._session_timeout = session_timeout
        self._handover: Handover | None = None
        self._consumer: InputConsumer | None = None
        self._admin: tuple[admin.Admin, Worker] | None = None

    async def start(self) -> None:
        """See `EventLog`. After an error it may be called again."""
        await self._check_topics()
        handover = Handover()
        consumer = InputConsumer(
            self._clients,
            self._topics.changes,
            self._group_id,
            self._group_instance_id,
            self._session_timeout,
            handover,
        )
        try:
            await consumer.start()
        except KafkaError as error:
            raise LogError(f"Kafka can not be used: {type(error).__name__}: {error}") from error
        except BaseException:  # cancelled: it must not join a group that nobody serves
            consumer.abandon()
            raise
        self._handover, self._consumer = handover, consumer

    async def next_event(self) -> Event:
        """See `EventLog`."""
        if self._handover is None:
            raise LogError("the log was not started")
        return await self._handover.get()

    async def input_facts(self, partition: int) -> InputFacts:
        """See `EventLog`."""
        topic, group_id = self._topics.changes, self._group_id
        return await self._ask(lambda client: admin.input_facts(client, topic, partition, group_id))

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
        """See `EventLog`."""
        consumer, journal = self._running, self._topics.journal

        async def journal_offsets() -> tuple[int, int]:
            return await self._ask(lambda client: admin.offsets(client, journal, partition))

        shard = KafkaShardLog(
            self._clients,
            self._topics,
            partition,
            journal_offsets,
            lambda position: consumer.note_position(partition, position),
        )
        try:
            await shard.open()
        except BaseException:
            await shard.close()
            raise
        return shard

    def silence(self) -> float:
        """See `EventLog`."""
        return self._consumer.silence() if self._consumer is not None else 0.0

    async def stop(self) -> None:
        """See `EventLog`. A static member keeps its partitions until its session times out."""
        if self._consumer is not None:
            await self._consumer.stop(STOP_TIMEOUT)
        if self._admin is not None:
            asker, worker = self._admin
            self._admin = None
            worker.post(asker.close)
            worker.retire()

    @property
    def _running(self) -> InputConsumer:
        if self._consumer is None:
            raise LogError("the log was not started")
        return self._consumer

    async def _check_topics(self) -> None:
        """A missing topic would only show as time-outs later on."""
        topics = self._topics
        names = (topics.changes, topics.journal, topics.results, topics.dead_letters)
        counts = await self._ask(lambda client: {name: admin.partition_count(client, name) for name in names})
        if missing := [name for name, count in counts.items() if count is None]:
            raise LogError(
                f"topics that do not exist: {', '.join(missing)}; `coursesyncd topics create` makes them"
            )
        if counts[topics.changes] != counts[topics.journal]:
            raise LogError(
                f"{topics.changes} has {counts[topics.changes]} partitions and {topics.journal} has "
                f"{counts[topics.journal]}: they must have the same number; see `coursesyncd check`"
            )

    async def _ask(self, question: Callable[[KafkaAdminClient], _T]) -> _T:
        if self._admin is None:
            self._admin = admin.Admin(self._clients), Worker("kafka-admin")
        asker, worker = self._admin
        try:
            return await worker.call(lambda: asker.ask(question), ASK_TIMEOUT)
        except TimeoutError:
            if self._admin is not None and self._admin[1] is worker:
                self._admin = None
            with suppress(RuntimeError):
                worker.post(asker.close)
                worker.retire()
            raise LogError(f"Kafka did not answer within {ASK_TIMEOUT:.0f} s") from None
