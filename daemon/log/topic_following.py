"""Follows several topics at once, without a group: plain reading for a bystander that keeps what it has read.

Records of one partition come in order. The place is kept over errors, so after a broken connection the reading goes on where it
was. What cannot be read is skipped and reported; a bystander must not stop because of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError, OffsetOutOfRangeError

from daemon.log.errors import LogError
from daemon.log.kafka.authorization_errors import explained
from daemon.log.kafka.clients import Clients, KafkaConnection
from daemon.log.kafka.cures.fetching import UnreadableBatchError
from daemon.log.topic_access import TopicRecord

POLL_MS = 500
_READ_MS = 5_000
"""How long a single record is waited for."""

Place = tuple[str, int]
"""Topic and partition."""


@dataclass(slots=True)
class Followed:
    """What one `poll` has brought."""

    records: list[TopicRecord]
    from_beginning: list[Place] = field(default_factory=list)
    """Partitions that are read from their first record: at first, and again after their topic was emptied or made anew. What
    was read of them before no longer counts."""
    unreadable: list[tuple[Place, str]] = field(default_factory=list)
    """What was skipped, and why."""


class TopicFollower:
    """Methods block; call them from one thread."""

    def __init__(self, connection: KafkaConnection, topics: Mapping[str, int | None]) -> None:
        """`topics`: how many of the records that exist are read, over all partitions of the topic; None: all. Connects when it is
        polled.

        Raises:
            LogError: the settings of the connection cannot be used.
        """
        self._topics = dict(topics)
        self._clients = Clients(connection)
        self._consumer: KafkaConsumer | None = None
        self._places: dict[TopicPartition, int] = {}
        """The next offset of each partition."""
        self._missing: list[str] = []

    @property
    def missing_topics(self) -> list[str]:
        """Those that the cluster does not have, or does not show to this user."""
        return self._missing

    def poll(self) -> Followed:
        """The next records, after at most half a second.

        Raises:
            LogError: they cannot be read at the moment. The next call connects again.
        """
        followed = Followed([])
        try:
            consumer = self._connected(followed)
            for tp, records in consumer.poll(timeout_ms=POLL_MS).items():
                followed.records += [
                    TopicRecord(tp.topic, tp.partition, r.offset, r.timestamp, r.key, r.value, r.headers)
                    for r in records
                ]
                self._places[tp] = records[-1].offset + 1
        except UnreadableBatchError as error:
            followed.unreadable.append(((error.tp.topic, error.tp.partition), str(error)))
            self._go(error.tp, error.next_offset)
        except OffsetOutOfRangeError as error:
            for tp in error.args[0]:
                del self._places[tp]
            self.close()  # they are read from their beginning
        except KafkaError as error:
            self.close()
            raise LogError(f"The topics cannot be read: {explained(error, 'Read', 'the topics')}") from error
        return followed

    def behind(self) -> dict[Place, int]:
        """For each partition, how many offsets are left to read. Notices new topics and partitions.

        Raises:
            LogError: no broker answered.
        """
        consumer = self._consumer
        if consumer is None:
            return {}
        try:
            if set(self._partitions(consumer)) != set(self._places):
                self.close()  # connecting again takes in what is new
                return {}
            ends: dict[TopicPartition, int] = consumer.end_offsets(list(self._places))
            return {
                (tp.topic, tp.partition): max(0, end - self._position(consumer, tp))
                for tp, end in ends.items()
            }
        except KafkaError as error:
            self.close()
            raise LogError(f"Kafka did not answer: {explained(error, 'Describe', 'the topics')}") from error

    def close(self) -> None:
        """Idempotent. The follower connects again when it is polled."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close(autocommit=False, timeout_ms=1000)

    def _connected(self, followed: Followed) -> KafkaConsumer:
        if self._consumer is not None:
            return self._consumer
        consumer = self._clients.reader()
        try:
            partitions = self._partitions(consumer)
            new = [tp for tp in partitions if tp not in self._places]
            begins = consumer.beginning_offsets(new) if new else {}
            ends = consumer.end_offsets(new) if new else {}
            for tp in new:
                records = self._topics[tp.topic]
                partitions_of = sum(each.topic == tp.topic for each in partitions)
                back = ends[tp] if records is None else records // partitions_of
                self._places[tp] = max(begins[tp], ends[tp] - back)
                followed.from_beginning.append((tp.topic, tp.partition))
            consumer.assign(partitions)
            for tp in partitions:
                consumer.seek(tp, self._places[tp])
        except BaseException:
            consumer.close(autocommit=False, timeout_ms=1000)
            raise
        self._consumer = consumer
        return consumer

    def _partitions(self, consumer: KafkaConsumer) -> list[TopicPartition]:
        found = {topic: sorted(consumer.partitions_for_topic(topic) or ()) for topic in self._topics}
        self._missing = [topic for topic, numbers in found.items() if not numbers]
        return [TopicPartition(topic, number) for topic, numbers in found.items() for number in numbers]

    def _go(self, tp: TopicPartition, offset: int) -> None:
        self._places[tp] = offset
        if self._consumer is not None:
            self._consumer.seek(tp, offset)

    def _position(self, consumer: KafkaConsumer, tp: TopicPartition) -> int:
        """Also past the markers of transactions, which are no records."""
        position: int | None = consumer.position(tp, timeout_ms=POLL_MS)
        return self._places[tp] if position is None else position


class RecordReader:
    """Reads single records by their offsets. Methods block; call them from one thread."""

    def __init__(self, connection: KafkaConnection) -> None:
        """Raises LogError if the settings of the connection cannot be used."""
        self._clients = Clients(connection)
        self._consumer: KafkaConsumer | None = None

    def read(self, topic: str, places: list[tuple[int, int]]) -> list[TopicRecord]:
        """The records at these partitions and offsets, in that order. Those that the topic no longer has are left out.

        Raises:
            LogError: no broker answered.
        """
        try:
            if self._consumer is None:
                self._consumer = self._clients.reader()
            found = (self._read(self._consumer, TopicPartition(topic, p), offset) for p, offset in places)
            return [record for record in found if record is not None]
        except KafkaError as error:
            self.close()
            raise LogError(f"{topic} cannot be read: {explained(error, 'Read', f'topic {topic}')}") from error

    def close(self) -> None:
        """Idempotent."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close(autocommit=False, timeout_ms=1000)

    def _read(self, consumer: KafkaConsumer, tp: TopicPartition, offset: int) -> TopicRecord | None:
        consumer.assign([tp])
        consumer.seek(tp, offset)
        try:
            records = consumer.poll(timeout_ms=_READ_MS, max_records=1).get(tp, ())
        except (OffsetOutOfRangeError, UnreadableBatchError):
            return None
        for r in records:
            if r.offset == offset:
                return TopicRecord(tp.topic, tp.partition, r.offset, r.timestamp, r.key, r.value, r.headers)
        return None
