"""The broker: topics, transactions and groups, in memory. Nothing here waits."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from daemon.core.placement import place
from daemon.log.errors import FencedError, LogError
from daemon.log.port import Message, Record
from tests.embedded_log.group import Group, Notice, Session
from tests.embedded_log.storage import OffsetOutOfRangeError, Partition

RECORD_BYTES_MAX = 2 * 1024 * 1024
"""Maximum size of one record of a transaction: the limit of the daemon's Kafka producer and of its journal topic. It does not
apply to publishers, whose limit is that of the input topic."""

_log = structlog.get_logger(__name__)


class _Topic:
    def __init__(self, topic_id: str, partitions: int) -> None:
        self.topic_id = topic_id
        self.partitions = [Partition() for _ in range(partitions)]
        self._unkeyed = 0

    def partition_for(self, key: bytes | None) -> int:
        """Equal keys go to the same partition, by murmur2. Records without a key go to each partition in turn."""
        if key is not None:
            return place(key, len(self.partitions))
        self._unkeyed += 1
        return (self._unkeyed - 1) % len(self.partitions)


class EmbeddedCluster:
    def __init__(self, clock: Callable[[], int]) -> None:
        """`clock` returns the timestamp of records, in milliseconds since the epoch."""
        self._clock = clock
        self._topics: dict[str, _Topic] = {}
        self._topics_made = 0
        self._producers: dict[str, Producer] = {}
        self._groups: dict[tuple[str, str], Group] = {}
        self._warned = False

    # --- topics -----------------------------------------------------------------------------------

    def create_topic(self, topic: str, partitions: int) -> None:
        if topic in self._topics:
            raise LogError(f"topic {topic} exists already")
        self._make(topic, partitions)
        self.rebalance(topic)

    def delete_topic(self, topic: str) -> None:
        """Delete its records, and the offsets that groups have committed."""
        self._topic(topic)
        del self._topics[topic]
        self._forget_offsets(topic)
        self.rebalance(topic)

    def recreate_topic(self, topic: str) -> None:
        """Delete and create it between two reads of its readers. No rebalance announces it."""
        partitions = self.partition_count(topic)
        self._forget_offsets(topic)
        self._make(topic, partitions)
        self.wake_readers(topic)

    def add_partitions(self, topic: str, partitions: int) -> None:
        """Increase the number of partitions to `partitions`."""
        present = self._topic(topic).partitions
        if partitions <= len(present):
            raise LogError(f"topic {topic} has {len(present)} partitions already")
        present.extend(Partition() for _ in range(partitions - len(present)))
        self.rebalance(topic)

    def partition_count(self, topic: str) -> int:
        """The number of partitions. 0 if there is no such topic."""
        found = self._topics.get(topic)
        return 0 if found is None else len(found.partitions)

    def topic_id(self, topic: str) -> str:
        return self._topic(topic).topic_id

    def partition(self, topic: str, partition: int) -> Partition:
        """The records of a partition.

        Raises:
            LogError: there is no such topic or partition.
        """
        partitions = self._topic(topic).partitions
        if not 0 <= partition < len(partitions):
            raise LogError(f"topic {topic} has {len(partitions)} partitions, there is no {partition}")
        return partitions[partition]

    def compact(
        self, topic: str, partition: int, *, before: int | None = None, drop_tombstones: bool = False
    ) -> None:
        """Compact as a log cleaner does: keep the last record of each key, at its offset.

        A real cleaner does not touch the newest records (those from `before` on), and keeps tombstones for about a day.
        """
        self.partition(topic, partition).compact(before, drop_tombstones=drop_tombstones)

    def delete_before(self, topic: str, partition: int, offset: int) -> None:
        """Delete the records below an offset, as retention does."""
        self.partition(topic, partition).delete_before(offset)
        self.wake_readers(topic)

    # --- records ----------------------------------------------------------------------------------

    def append(
        self, topic: str, message: Message, partition: int | None = None, *, owner: Producer | None = None
    ) -> tuple[int, int]:
        """Write one record and return its partition and offset. Without a partition, its key determines it.

        With an owner, the record belongs to that producer's transaction. Otherwise it is visible at once.

        Raises:
            LogError: no such topic or partition, or the record of a transaction is too large.
        """
        size = len(message.key or b"") + len(message.value or b"")
        size += sum(len(name) + len(value or b"") for name, value in message.headers)
        if owner is not None and size > RECORD_BYTES_MAX:
            raise LogError(f"a record of {size} bytes for {topic} is larger than {RECORD_BYTES_MAX}")
        if partition is None:
            partition = self._topic(topic).partition_for(message.key)
        written_by = None if owner is None else owner.transactional_id
        offset = self.partition(topic, partition).append(self._clock(), message, written_by)
        if owner is None:
            self.wake_readers(topic)
        return partition, offset

    def read_committed(
        self, topic: str, partition: int, offset: int, count_max: int = 500
    ) -> tuple[list[Record], int]:
        """Committed records from an offset on, and the offset to read from next (see `Partition.read`).

        Raises:
            LogError: no such topic, partition or offset.
        """
        try:
            return self.partition(topic, partition).read(offset, count_max)
        except OffsetOutOfRangeError:
            raise LogError(f"offset {offset} of {topic}/{partition} is out of range") from None

    def producer(self, transactional_id: str) -> Producer:
        """A producer that fences every earlier one with this id and aborts its open transaction."""
        earlier = self._producers.get(transactional_id)
        if earlier is not None:
            earlier.end_transaction(commit=False)
        producer = Producer(self, transactional_id, epoch=0 if earlier is None else earlier.epoch + 1)
        self._producers[transactional_id] = producer
        return producer

    def producer_id(self, transactional_id: str) -> int:
        """Stable over epochs."""
        return list(self._producers).index(transactional_id)

    def current_epoch(self, transactional_id: str) -> int:
        """The epoch of the only producer with this id that is not fenced."""
        return self._producers[transactional_id].epoch

    # --- groups -----------------------------------------------------------------------------------

    def group(self, group: str, topic: str) -> Group:
        """The members of a group that read a topic. Created on first use."""
        found = self._groups.get((group, topic))
        if found is None:
            found = self._groups[group, topic] = Group(self.deliver)
        return found

    def expire(self, member_id: str) -> None:
        """Let a member's session expire: the others get its partitions. No-op if it has no session."""
        for (_, topic), group in self._groups.items():
            group.expire(member_id, self.partition_count(topic))

    def rebalance(self, topic: str) -> None:
        """Make every group that reads the topic assign its partitions again."""
        for (_, of), group in self._groups.items():
            if of == topic:
                group.rebalance(self.partition_count(topic))

    def deliver(self, session: Session, notice: Notice) -> None:
        """Deliver a group's notice to a member. For fault injection: an override may deliver it later, but must keep the order
        of the notices of a session."""
        session.deliver(notice)

    def wake_readers(self, topic: str) -> None:
        """Make every member that waits for records of the topic check again."""
        for (_, of), group in self._groups.items():
            if of == topic:
                group.wake()

    def warn_once(self) -> None:
        """Log once that the records are not persistent."""
        if not self._warned:
            self._warned = True
            _log.warning(
                "embedded_log.started", note="all records are in memory only; never use it in production"
            )

    # --- inside -----------------------------------------------------------------------------------

    def _topic(self, topic: str) -> _Topic:
        found = self._topics.get(topic)
        if found is None:
            raise LogError(f"there is no topic {topic}")
        return found

    def _make(self, topic: str, partitions: int) -> None:
        self._topics_made += 1
        self._topics[topic] = _Topic(f"{topic}.{self._topics_made}", partitions)

    def _forget_offsets(self, topic: str) -> None:
        for (_, of), group in self._groups.items():
            if of == topic:
                group.offsets.clear()


class Producer:
    """Writes transactions under an id, until another producer with this id is created.

    A transaction begins with its first record. A transaction that is never ended holds back every reader of the partitions to
    which it wrote, as in Kafka. The next producer with the same id aborts it.
    """

    def __init__(self, cluster: EmbeddedCluster, transactional_id: str, epoch: int) -> None:
        self.transactional_id = transactional_id
        self.epoch = epoch
        self._cluster = cluster
        self._touched: dict[tuple[str, int], Partition] = {}

    def append(self, topic: str, message: Message, partition: int | None = None) -> tuple[int, int]:
        """Write one record of the transaction. Returns its partition and offset.

        Raises:
            FencedError: another producer has this id.
            LogError: no such topic or partition, or the record is too large.
        """
        self._assert_owner()
        partition, offset = self._cluster.append(topic, message, partition, owner=self)
        self._touched.setdefault((topic, partition), self._cluster.partition(topic, partition))
        return partition, offset

    def end_transaction(self, *, commit: bool) -> None:
        """Commit or abort everything that was written since the last end, at once.

        Raises:
            FencedError: another producer has this id.
        """
        self._assert_owner()
        for partition in self._touched.values():
            partition.decide(self.transactional_id, commit=commit)
        topics = {topic: None for topic, _ in self._touched}
        self._touched.clear()
        for topic in topics:
            self._cluster.wake_readers(topic)

    def _assert_owner(self) -> None:
        current = self._cluster.current_epoch(self.transactional_id)
        if current != self.epoch:
            raise FencedError(
                f"{self.transactional_id} is owned by epoch {current}, this is epoch {self.epoch}"
            )
