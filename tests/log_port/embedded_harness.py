"""The world around the embedded log."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from daemon.log.port import Message, Record, Topics
from tests.embedded_log import EmbeddedCluster, EmbeddedLog, Producer

from .harness import PARTITIONS


class _OpenTransaction:
    def __init__(self, producer: Producer, offsets: Sequence[int]) -> None:
        self._producer = producer
        self.offsets = offsets

    async def end(self, *, commit: bool) -> None:
        self._producer.end_transaction(commit=commit)


class EmbeddedHarness:
    patience = 60.0

    def __init__(self) -> None:
        self.topics = Topics()
        self._ticks = itertools.count(1_700_000_000_000)
        self._publishers = itertools.count()
        self._members: list[EmbeddedLog] = []
        self.cluster = EmbeddedCluster(lambda: next(self._ticks))
        self.cluster.create_topic(self.topics.changes, PARTITIONS)
        self.cluster.create_topic(self.topics.journal, PARTITIONS)
        self.cluster.create_topic(self.topics.results, 3)
        self.cluster.create_topic(self.topics.dead_letters, 1)
        self.cluster.create_topic(self.topics.courses, PARTITIONS)
        self.cluster.create_topic(self.topics.control, 1)

    @classmethod
    async def create(cls) -> EmbeddedHarness:
        return cls()

    def member(self, member_id: str) -> EmbeddedLog:
        member = EmbeddedLog(self.cluster, self.topics, member_id)
        self._members.append(member)
        return member

    async def expire(self, member_id: str) -> None:
        self.cluster.expire(member_id)

    async def publish(self, partition: int, values: Sequence[bytes]) -> list[int]:
        topic = self.topics.changes
        return [self.cluster.append(topic, Message(None, value), partition)[1] for value in values]

    async def publish_unreadable(self, partition: int) -> int:
        topic = self.topics.changes
        offset = self.cluster.partition(topic, partition).end
        self.cluster.partition(topic, partition).unreadable.add(offset)
        self.cluster.append(topic, Message(None, b""), partition)
        return offset

    async def publish_in_transaction(self, partition: int, values: Sequence[bytes]) -> _OpenTransaction:
        producer = self.cluster.producer(f"publisher-{next(self._publishers)}")
        topic = self.topics.changes
        return _OpenTransaction(
            producer, [producer.append(topic, Message(None, value), partition)[1] for value in values]
        )

    async def read_committed(self, topic: str) -> list[Record]:
        found: list[Record] = []
        for partition in range(self.cluster.partition_count(topic)):
            position = self.cluster.partition(topic, partition).start
            while True:
                records, position = self.cluster.read_committed(topic, partition, position)
                if not records:
                    break
                found.extend(records)
        return found

    async def delete_input_before(self, partition: int, offset: int) -> None:
        self.cluster.delete_before(self.topics.changes, partition, offset)

    async def compact_journal(self, partition: int) -> None:
        self.cluster.compact(self.topics.journal, partition)

    async def recreate_input(self) -> None:
        self.cluster.recreate_topic(self.topics.changes)

    async def close(self) -> None:
        for member in self._members:
            await member.stop()
