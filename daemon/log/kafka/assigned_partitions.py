"""Which partitions are being read, from which offset, and what has been reported to the loop.

A partition is read after its `begin` (identified by the token), while the caller does not hold it and the loop keeps up.
Otherwise it is paused, from the moment of assignment.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

from kafka import KafkaConsumer, TopicPartition

from daemon.log.kafka.cures.fetching import PartitionFetchError, UnreadableBatchError
from daemon.log.kafka.cures.position import known_position
from daemon.log.kafka.loop_queue import LoopQueue
from daemon.log.kafka.transient_errors import UNEXPLAINED_MAX, Streak
from daemon.log.port import PositionLost, Record, Records, Unreadable

RECORDS_WAITING_MAX = 2_000
"""Records handed over and not yet taken at which reading stops: four polls."""
BYTES_WAITING_MAX = 16 * 1024 * 1024
"""Bytes of these records at which reading stops as well; large records reach this first. The poll that reaches the limit
comes on top, and `POLL_BYTES_MAX` bounds it."""
RESUME_SHARE = 0.5
"""Share of both limits below which reading resumes. It keeps the loop busy until the next poll."""

PROGRESS_INTERVAL = 1.0
"""Seconds between two reports of the position of partitions without new records."""

PLACEHOLDER_OFFSET = 0
"""Without a position the client would look for one in the group and fail. It is never fetched: the partition stays paused
until `begin` seeks."""


class AssignedPartitions:
    """For the thread that owns the consumer, except `assigned` and `gone`, which the listener calls."""

    def __init__(self, consumer: KafkaConsumer, topic: str, loop_queue: LoopQueue) -> None:
        self.owned: set[int] = set()
        self.throttled = False
        """Reading has stopped because the loop is behind."""
        self._consumer = consumer
        self._topic = topic
        self._loop_queue = loop_queue
        self._tokens: dict[int, int] = {}
        self._held: set[int] = set()
        self._told: dict[int, tuple[int, int | None]] = {}
        """Position and end of each partition as last reported to the loop."""
        self._progress_due = 0.0
        self._unreadable: dict[int, int] = {}
        """The offset at which the last read of a partition failed."""
        self._unserved: dict[int, Streak] = {}

    # --- the assignment ---------------------------------------------------------------------------

    def assigned(self, partitions: Iterable[int]) -> None:
        """Take over a new assignment. All its partitions are paused."""
        self.owned = set(partitions)
        self._tokens.clear()
        self._held.clear()
        for partition in self.owned:
            self._rest(self._place(partition))

    def gone(self, partitions: Iterable[int]) -> None:
        self.owned.difference_update(partitions)
        for partition in partitions:
            self._tokens.pop(partition, None)
            self._held.discard(partition)

    # --- commands; ignored for a partition that has been revoked, which the caller learns separately ----

    def begin(self, partition: int, offset: int, token: int) -> None:
        if partition in self.owned:
            self._consumer.seek(self._place(partition), offset)
            self._tokens[partition] = token
            self._told.pop(partition, None)
            self._held.discard(partition)
            self._unreadable.pop(partition, None)
            self._unserved.pop(partition, None)
            self._apply([partition])

    def hold(self, partition: int) -> None:
        if partition in self.owned:
            self._held.add(partition)
            self._apply([partition])

    def release(self, partition: int) -> None:
        if partition in self.owned:
            self._held.discard(partition)
            self._apply([partition])

    def throttle(self) -> None:
        """Stop reading, but keep polling, while the loop is behind."""
        share = RESUME_SHARE if self.throttled else 1.0
        throttled = (
            self._loop_queue.records_waiting > RECORDS_WAITING_MAX * share
            or self._loop_queue.bytes_waiting > BYTES_WAITING_MAX * share
        )
        if throttled != self.throttled:
            self.throttled = throttled
            self._apply(self._tokens)

    # --- results of a poll ------------------------------------------------------------------

    def hand_over(self, polled: Mapping[TopicPartition, Sequence[Record]]) -> None:
        for tp, records in polled.items():
            token = self._tokens.get(tp.partition)
            if token is not None:  # else it is paused, and no record can arrive
                self._tell(tp, token, records)

    def tell_progress(self) -> None:
        """Report positions that advanced past transaction markers only. A lag that counted markers would never reach 0."""
        now = time.monotonic()
        if now >= self._progress_due:
            self._progress_due = now + PROGRESS_INTERVAL
            for partition, token in self._tokens.items():
                self._tell(self._place(partition), token, ())

    def lose(self, offsets: Mapping[TopicPartition, int | None], why: str) -> None:
        """Report partitions that cannot be read from their position. `offsets` gives the positions that are known."""
        for tp, known in offsets.items():
            token = self._tokens.pop(tp.partition, None)
            if token is None:
                continue
            self._rest(tp)
            offset = PLACEHOLDER_OFFSET if known is None else known
            message = f"{tp.topic} partition {tp.partition} cannot be read from offset {offset}: {why}"
            self._loop_queue.put(PositionLost(tp.partition, token, offset, message))

    def unreadable(self, error: UnreadableBatchError) -> None:
        """Handle fetched data that cannot be read.

        The data are fetched a second time, because the network or this machine's memory may have damaged them. If that
        fails too, reading ends.
        """
        partition = error.tp.partition
        if self._unreadable.get(partition) != error.offset:
            self._unreadable[partition] = error.offset
            return
        self._end(error.tp, error.offset, error.next_offset, error.reason)

    def unserved(self, error: PartitionFetchError) -> None:
        """Handle a broker that refuses to serve a partition.

        As a rule this is transient. If it lasts, reading of this partition ends; the others continue.
        """
        streak = self._unserved.setdefault(error.tp.partition, Streak())
        if streak.note(time.monotonic()) > UNEXPLAINED_MAX:
            self._end(error.tp, error.offset, error.offset + 1, error.reason)

    def lose_all(self, why: str) -> None:
        self.lose({self._place(partition): None for partition in self._tokens}, why)

    # --- inside -----------------------------------------------------------------------------------

    def _end(self, tp: TopicPartition, offset: int, next_offset: int, reason: str) -> None:
        token = self._tokens.pop(tp.partition, None)
        if token is not None:
            self._rest(tp)
            self._loop_queue.put(Unreadable(tp.partition, token, offset, next_offset, reason))

    def _tell(self, tp: TopicPartition, token: int, records: Sequence[Record]) -> None:
        progress = (known_position(self._consumer, tp), self._consumer.highwater(tp))
        if records or progress != self._told.get(tp.partition):
            self._told[tp.partition] = progress
            self._loop_queue.put(Records(tp.partition, token, records, *progress))

    def _apply(self, partitions: Iterable[int]) -> None:
        """Pause and resume partitions in the client according to the current state."""
        for partition in partitions:
            if partition in self._tokens and partition not in self._held and not self.throttled:
                self._consumer.resume(self._place(partition))
            else:
                self._consumer.pause(self._place(partition))

    def _rest(self, tp: TopicPartition) -> None:
        self._consumer.pause(tp)
        self._consumer.seek(tp, PLACEHOLDER_OFFSET)

    def _place(self, partition: int) -> TopicPartition:
        return TopicPartition(self._topic, partition)
