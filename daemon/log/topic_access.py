"""Plain access to topics for commands and tools: publish records in order, read committed records.

No transactions, no group, no state. The daemon itself uses the port (`daemon.log.port`), which `daemon.log.kafka`
implements.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Generator, Iterator
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

from kafka import KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from daemon.log.errors import LogError, UnreadableError
from daemon.log.kafka.admin import partition_count
from daemon.log.kafka.authorization_errors import explained
from daemon.log.kafka.clients import Clients, KafkaConnection
from daemon.log.kafka.cures.fetching import UnreadableBatchError
from daemon.log.kafka.cures.partitioner import KeyPartitioner

OUTSTANDING_RECORDS_MAX = 20_000
OUTSTANDING_BYTES_MAX = 64 * 1024 * 1024
"""Limits on records that were sent but not yet confirmed. The client itself has none."""

PUBLISHED_BYTES_MAX = 16 * 1024 * 1024
"""The largest record, checked by the client before compression. High, so that the topic's own limit decides."""

_PUBLISHER: dict[str, Any] = {
    "acks": "all",
    "enable_idempotence": True,
    "compression_type": "lz4",
    "linger_ms": 5,
    "batch_size": 256 * 1024,
    "max_request_size": PUBLISHED_BYTES_MAX,
    "max_block_ms": 15_000,
    "delivery_timeout_ms": 120_000,
    "allow_auto_create_topics": False,
    "metrics_enabled": False,
}


class _Clients(Clients):
    def publisher(self, partitioner: str) -> KafkaProducer:
        """A producer without transactions. Each record arrives once and in order."""
        return self._make(KafkaProducer, partitioner=KeyPartitioner(partitioner), **_PUBLISHER)


class TopicRecord(NamedTuple):
    topic: str
    partition: int
    offset: int
    timestamp: int
    """Milliseconds since the epoch, as stored in the log."""
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


class Since(NamedTuple):
    """From the first record of each partition on that the log has stamped with this time, or a later one."""

    ms: int


Start = Literal["beginning", "end"] | int | Since
"""Where to begin in each partition. A number: so many offsets before its end."""


class Publisher:
    """Sends records to one topic. The in-sync replicas acknowledge all of them, each once and in the order of `send`
    within a partition (idempotent producer). For one thread."""

    def __init__(self, connection: KafkaConnection, topic: str, partitioner: str = "murmur2") -> None:
        """Connects. `partitioner`: the hash of `daemon.core.placement` that chooses the partition of a key.

        Raises:
            LogError: no broker answered, or the topic does not exist.
        """
        self.topic = topic
        self.confirmed = 0
        """Records that the cluster has confirmed."""
        self._outstanding: deque[tuple[Any, int]] = deque()
        self._outstanding_bytes = 0
        try:
            clients = _Clients(connection)
            _find(clients, topic)  # the producer itself would wait 15 s for a missing topic
            self._producer = clients.publisher(partitioner)
        except KafkaError as error:
            raise LogError(clients.explained(error, None)) from error

    def send(
        self,
        key: bytes | None,
        value: bytes | None,
        headers: tuple[tuple[str, bytes | None], ...] = (),
        partition: int | None = None,
    ) -> None:
        """Queue a record. Its headers must have values. Without a partition, its key determines it. Waits if too many are
        unconfirmed.

        Raises:
            LogError: this record or one before it was refused.
        """
        try:
            future = self._producer.send(
                self.topic, value=value, key=key, headers=list(headers), partition=partition
            )
        except KafkaError as error:
            raise self._refused(error) from error
        size = len(key or b"") + len(value or b"")
        self._outstanding.append((future, size))
        self._outstanding_bytes += size
        while self._outstanding and (
            self._outstanding[0][0].is_done
            or len(self._outstanding) > OUTSTANDING_RECORDS_MAX
            or self._outstanding_bytes > OUTSTANDING_BYTES_MAX
        ):
            self._confirm_oldest()

    def flush(self) -> None:
        """Wait until all records are confirmed. Raises LogError if a record was refused."""
        while self._outstanding:
            self._confirm_oldest()

    def close(self) -> None:
        """Let go of the connection without waiting for what is unconfirmed; `flush` first. Idempotent."""
        self._producer.close(timeout=5)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.flush()
        finally:
            self.close()

    def _confirm_oldest(self) -> None:
        future, size = self._outstanding.popleft()
        self._outstanding_bytes -= size
        try:
            future.get(timeout=130)  # the client gives a record up after delivery_timeout_ms, 120 s
        except KafkaError as error:
            raise self._refused(error) from error
        self.confirmed += 1

    def _refused(self, error: KafkaError) -> LogError:
        return LogError(
            f"The topic {self.topic} did not take a record: {explained(error, 'Write', f'topic {self.topic}')}. "
            f"Confirmed before: {self.confirmed}."
        )


def read_topic(
    connection: KafkaConnection,
    topic: str,
    *,
    start: Start = "beginning",
    follow: bool = False,
    partition: int | None = None,
) -> Generator[TopicRecord, None, None]:
    """The committed records of all partitions, or of one, in offset order within each.

    Ends at the last stable offsets of the topic at the time of the call; with `follow`, never.

    Raises:
        UnreadableError: a record is damaged or too large to be read.
        LogError: no broker answered, or the topic does not exist.
    """
    clients = Clients(connection)
    try:
        consumer = clients.reader()
    except KafkaError as error:
        raise LogError(clients.explained(error, None)) from error
    try:
        known = sorted(consumer.partitions_for_topic(topic) or ())
        partitions = [TopicPartition(topic, p) for p in known if partition in (None, p)]
        if not partitions:
            _find(clients, topic)
            raise LogError(_missing(topic))
        consumer.assign(partitions)
        ends: dict[TopicPartition, int] = consumer.end_offsets(partitions)
        begins: dict[TopicPartition, int] = consumer.beginning_offsets(partitions)
        if isinstance(start, Since):
            found = consumer.offsets_for_times(dict.fromkeys(partitions, start.ms))
            for tp in partitions:
                consumer.seek(tp, ends[tp] if found[tp] is None else found[tp].offset)
        else:
            back = {"beginning": sys.maxsize, "end": 0}[start] if isinstance(start, str) else start
            for tp in partitions:
                consumer.seek(tp, max(begins[tp], ends[tp] - back))
        while follow or any(consumer.position(p) < ends[p] for p in partitions):
            for tp, records in consumer.poll(timeout_ms=500).items():
                for r in records:
                    if follow or r.offset < ends[tp]:
                        yield TopicRecord(
                            topic, tp.partition, r.offset, r.timestamp, r.key, r.value, r.headers
                        )
    except (UnreadableBatchError, KafkaError) as error:
        raise _unreadable(topic, error) from error
    finally:
        consumer.close()


class PartitionReader:
    """The committed records of the partitions of one topic, one at a time and from any offset, again and again. For one
    thread.
    """

    def __init__(self, connection: KafkaConnection, topic: str) -> None:
        """Connects.

        Raises:
            LogError: no broker answered, or the topic does not exist.
        """
        self._topic = topic
        clients = Clients(connection)
        try:
            _find(clients, topic)
            self._consumer = clients.reader()
        except KafkaError as error:
            raise LogError(clients.explained(error, None)) from error

    def bounds(self, partition: int) -> tuple[int, int]:
        """The first offset that the topic still has, and the end: the first offset after the committed records.

        Raises:
            LogError: no broker answered.
        """
        tp = TopicPartition(self._topic, partition)
        try:
            return self._consumer.beginning_offsets([tp])[tp], self._consumer.end_offsets([tp])[tp]
        except KafkaError as error:
            raise _unreadable(self._topic, error) from error

    def read(self, partition: int, start: int, end: int) -> Iterator[TopicRecord]:
        """The records from `start` on and before `end`, which are `bounds`, or between them.

        Raises:
            UnreadableError: a record is damaged or too large to be read.
            LogError: no broker answered, or the topic has deleted `start` in the meantime.
        """
        tp = TopicPartition(self._topic, partition)
        try:
            if self._consumer.assignment() != {tp}:
                self._consumer.assign([tp])
            self._consumer.seek(tp, start)
            while start < end:
                for records in self._consumer.poll(timeout_ms=500).values():
                    for r in records:
                        if r.offset < end:
                            yield TopicRecord(
                                self._topic,
                                partition,
                                r.offset,
                                r.timestamp,
                                r.key,
                                r.value,
                                r.headers,
                            )
                start = self._consumer.position(tp)
        except (UnreadableBatchError, KafkaError) as error:
            raise _unreadable(self._topic, error) from error

    def close(self) -> None:
        self._consumer.close(autocommit=False, timeout_ms=1000)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _unreadable(topic: str, error: UnreadableBatchError | KafkaError) -> LogError:
    if isinstance(error, UnreadableBatchError):
        return UnreadableError(topic, error.tp.partition, error.offset, error.next_offset, error.reason)
    return LogError(f"The topic {topic} could not be read: {explained(error, 'Read', f'topic {topic}')}")


def partitions_of(connection: KafkaConnection, topic: str) -> int:
    """The number of partitions.

    Raises:
        LogError: no broker answered, or the topic does not exist.
    """
    clients = Clients(connection)
    try:
        with clients.admin() as admin:
            count = partition_count(admin, topic)
    except KafkaError as error:
        raise LogError(clients.explained(error, None)) from error
    if count is None:
        raise LogError(_missing(topic))
    return count


def _find(clients: Clients, topic: str) -> None:
    """Raises LogError if there is no such topic or this user may not describe it, else as the client does."""
    with clients.admin() as admin:
        if partition_count(admin, topic) is None:
            raise LogError(_missing(topic))


def _missing(topic: str) -> str:
    return f"There is no topic {topic}. `coursesyncd topics create` creates the topics of the configuration."
