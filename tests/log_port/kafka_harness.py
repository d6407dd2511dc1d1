"""The world around the log on a real broker: plain kafka-python clients, one topic set per test."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from kafka import IsolationLevel, KafkaAdminClient, KafkaConsumer, KafkaProducer, OffsetSpec, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, MemberToRemove
from kafka.errors import KafkaError, RetriableError, TopicAlreadyExistsError

from daemon.config import KafkaSettings
from daemon.log.kafka import KafkaConnection, KafkaLog
from daemon.log.kafka.admin import NewTopic, create_topics, partition_count
from daemon.log.port import Record, Topics
from tests import record_batch

from .harness import PARTITIONS

T = TypeVar("T")

DEFAULT_LIMIT = KafkaSettings().record_batch_bytes_max

SESSION_TIMEOUT = 60.0
"""Seconds; longer than any machine stands still. Nothing waits for it: `expire` removes a member from the group by
hand, and heartbeats come every second all the same."""

_JOURNAL = {
    "cleanup.policy": "compact",
    "max.message.bytes": "2097152",
    "message.timestamp.type": "LogAppendTime",
}
_COMPACT_SOON = _JOURNAL | {
    "segment.ms": "100",  # only what is not in the newest segment is cleaned
    "min.cleanable.dirty.ratio": "0.01",
    "max.compaction.lag.ms": "100",
}
"""Set when a test asks for it: sooner or later it would take from the others what they look for."""


async def eventually(condition: Callable[[], Awaitable[bool]], patience: float) -> None:
    """Ask again and again until it holds; TimeoutError when it does not within `patience` seconds."""
    async with asyncio.timeout(patience):
        while not await condition():  # noqa: ASYNC110  # what happens in a broker has to be asked for
            await asyncio.sleep(0.05)


class _OpenTransaction:
    def __init__(self, harness: KafkaHarness, producer: KafkaProducer, tp: TopicPartition) -> None:
        self._harness = harness
        self._producer = producer
        self._tp = tp
        self.offsets: Sequence[int] = ()

    async def end(self, *, commit: bool) -> None:
        producer = self._producer
        await asyncio.to_thread(producer.commit_transaction if commit else producer.abort_transaction)
        # The broker answers before the marker is in the partition.
        await self._harness.until(lambda: self._harness.stable_end(self._tp) > self.offsets[-1])


class KafkaHarness:
    patience = 60.0

    def __init__(self, bootstrap: str) -> None:
        unique = uuid.uuid4().hex[:12]
        self.bootstrap = bootstrap
        self.topics = Topics(
            f"{unique}-changes",
            f"{unique}-journal",
            f"{unique}-results",
            f"{unique}-dead",
            f"{unique}-courses",
            f"{unique}-control",
        )
        self.group_id = f"{unique}-group"
        self._members: list[KafkaLog] = []
        self._closers: list[Callable[[], Any]] = []
        self._publisher: KafkaProducer | None = None
        self.admin: KafkaAdminClient

    @classmethod
    async def create(cls, bootstrap: str) -> KafkaHarness:
        harness = cls(bootstrap)
        await asyncio.to_thread(harness._create)
        return harness

    def member(
        self, member_id: str | None, topics: Topics | None = None, session_timeout: float = SESSION_TIMEOUT
    ) -> KafkaLog:
        connection = KafkaConnection((self.bootstrap,))
        member = KafkaLog(connection, topics or self.topics, self.group_id, member_id, session_timeout)
        self._members.append(member)
        return member

    async def expire(self, member_id: str) -> None:
        gone = [MemberToRemove(group_instance_id=member_id)]
        await asyncio.to_thread(self.admin.remove_group_members, self.group_id, gone)

    async def publish(self, partition: int, values: Sequence[bytes]) -> list[int]:
        return await asyncio.to_thread(self._publish, partition, values)

    async def publish_unreadable(self, partition: int) -> int:
        bomb = record_batch.bomb(record_batch.ZSTD, 2 * DEFAULT_LIMIT)
        return await asyncio.to_thread(
            record_batch.produce, self.bootstrap, self.topics.changes, partition, bomb
        )

    async def publish_in_transaction(self, partition: int, values: Sequence[bytes]) -> _OpenTransaction:
        return await asyncio.to_thread(self._publish_in_transaction, partition, values)

    async def read_committed(self, topic: str) -> list[Record]:
        return await asyncio.to_thread(self._read_committed, topic)

    async def delete_input_before(self, partition: int, offset: int) -> None:
        below = {TopicPartition(self.topics.changes, partition): offset}
        await asyncio.to_thread(self.admin.delete_records, below)

    async def compact_journal(self, partition: int) -> None:
        roller = await asyncio.to_thread(self._transactional_producer)
        soon = ConfigResource(ConfigResourceType.TOPIC, self.topics.journal, _COMPACT_SOON)
        await asyncio.to_thread(self.admin.alter_configs, [soon])

        def compacted() -> bool:
            # What is aborted is seen by nobody, but it closes a segment that is old enough.
            self._append_and_abort(roller, partition)
            records = self._read_partitions([TopicPartition(self.topics.journal, partition)])
            keys = [record.key for record in records]
            return len(keys) == len(set(keys))

        await self.until(compacted)

    async def recreate_input(self) -> None:
        await asyncio.to_thread(self.admin.delete_topics, [self.topics.changes])

        def recreated() -> bool:
            try:
                create_topics(self.admin, [NewTopic(self.topics.changes, PARTITIONS)])
            except TopicAlreadyExistsError:
                return False  # it is still being deleted
            return partition_count(self.admin, self.topics.changes) == PARTITIONS

        await self.until(recreated)

    async def close(self) -> None:
        await asyncio.gather(*(member.stop() for member in self._members))
        await asyncio.to_thread(self._close)

    # --- for Kafka's own tests ------------------------------------------------------------------------

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until it holds; it is asked in a thread. TimeoutError when it does not within `patience`."""
        await eventually(lambda: asyncio.to_thread(condition), self.patience)

    async def reconnect(self) -> None:
        """New clients for the harness itself: those of the library do not follow a cluster that moves."""
        await asyncio.to_thread(self._reconnect)

    def stable_end(self, tp: TopicPartition) -> int:
        """Below it every transaction is decided."""
        return self._end(tp, IsolationLevel.READ_COMMITTED)

    # --- blocking ---------------------------------------------------------------------------------------

    def _reconnect(self) -> None:
        self.admin = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        self._closers.append(self.admin.close)
        self._publisher = None  # the one before is closed at the end

    def _create(self) -> None:
        self._reconnect()
        create_topics(
            self.admin,
            [
                NewTopic(self.topics.changes, PARTITIONS),
                NewTopic(self.topics.journal, PARTITIONS, configs=_JOURNAL),
                NewTopic(self.topics.results, 3),
                NewTopic(self.topics.dead_letters, 1),
                NewTopic(self.topics.courses, PARTITIONS),
                NewTopic(self.topics.control, 1),
            ],
        )

    def _ask(self, question: Callable[[], T]) -> T:
        """The client may not yet have noticed that the broker is back."""
        deadline = time.monotonic() + self.patience
        while True:
            try:
                return question()
            except RetriableError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def _publish(self, partition: int, values: Sequence[bytes]) -> list[int]:
        if self._publisher is None:
            self._publisher = KafkaProducer(bootstrap_servers=self.bootstrap)
            self._closers.append(self._publisher.close)
        futures = [self._publisher.send(self.topics.changes, value, partition=partition) for value in values]
        return [future.get(self.patience).offset for future in futures]

    def _publish_in_transaction(self, partition: int, values: Sequence[bytes]) -> _OpenTransaction:
        producer = self._transactional_producer()
        producer.begin_transaction()
        futures = [producer.send(self.topics.changes, value, partition=partition) for value in values]
        transaction = _OpenTransaction(self, producer, TopicPartition(self.topics.changes, partition))
        transaction.offsets = [future.get(self.patience).offset for future in futures]
        return transaction

    def _transactional_producer(self) -> KafkaProducer:
        producer = KafkaProducer(
            bootstrap_servers=self.bootstrap, transactional_id=f"test-{uuid.uuid4()}", retry_backoff_ms=10
        )
        self._closers.append(lambda: producer.close(timeout=1))
        producer.init_transactions()
        return producer

    def _append_and_abort(self, producer: KafkaProducer, partition: int) -> None:
        producer.begin_transaction()
        producer.send(self.topics.journal, b"", b"aborted", partition=partition).get(self.patience)
        producer.abort_transaction()

    def _read_committed(self, topic: str) -> list[Record]:
        partitions = self._ask(lambda: partition_count(self.admin, topic))
        assert partitions is not None
        return self._read_partitions([TopicPartition(topic, partition) for partition in range(partitions)])

    def _read_partitions(self, tps: Sequence[TopicPartition]) -> list[Record]:
        reader = KafkaConsumer(
            bootstrap_servers=self.bootstrap,
            group_id=None,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
        )
        try:
            reader.assign(tps)
            ends = {tp: self._decided_end(tp) for tp in tps}
            found: dict[TopicPartition, list[Record]] = {tp: [] for tp in tps}
            deadline = time.monotonic() + self.patience
            while any(reader.position(tp) < end for tp, end in ends.items()):
                assert time.monotonic() < deadline, f"stuck while reading {tps}"
                for tp, records in reader.poll(timeout_ms=100).items():
                    found[tp] += [
                        Record(r.offset, r.timestamp, r.key, r.value, tuple(r.headers)) for r in records
                    ]
            return [record for tp in tps for record in found[tp]]
        finally:
            reader.close()

    def _decided_end(self, tp: TopicPartition) -> int:
        """Its end, when nothing is open there. The broker answers a commit, and writes the markers that
        readers wait for some milliseconds later."""
        end = self._end(tp, IsolationLevel.READ_UNCOMMITTED)
        deadline = time.monotonic() + self.patience
        while self.stable_end(tp) < end:
            assert time.monotonic() < deadline, f"a transaction stays open in {tp}"
            time.sleep(0.01)
        return end

    def _end(self, tp: TopicPartition, isolation_level: IsolationLevel) -> int:
        found = self._ask(
            lambda: self.admin.list_partition_offsets(
                {tp: OffsetSpec.LATEST}, isolation_level=isolation_level
            )
        )
        return int(found[tp].offset)

    def _close(self) -> None:
        for topic in self.topics.names:
            with contextlib.suppress(KafkaError):  # a courtesy to the next test
                self.admin.delete_topics([topic])
        for closer in reversed(self._closers):
            closer()
