"""Which partitions' records flow, from where, and what of them the loop has been told.

A partition's records flow when its `begin` has come (the token says which), the caller does not hold it, and the
loop takes what is handed over. In every other state it is paused, from the moment of assignment.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kafka import KafkaConsumer, TopicPartition

from daemon.log.kafka.cures.fetching import PartitionFetchError, UnreadableBatchError
from daemon.log.kafka.cures.position import known_position
from daemon.log.kafka.endurance import UNEXPLAINED_MAX, Streak
from daemon.log.kafka.handover import Handover
from daemon.log.port import PositionLost, Record, Records, Unreadable

RECORDS_WAITING_MAX = 2_000
"""Records handed over and not yet taken at which reading stops; four polls."""
BYTES_WAITING_MAX = 16 * 1024 * 1024
"""Their size at which it stops too: of large records far fewer do. What the poll brought that reached it comes on
top, and that is bounded by the client's fetches."""
RESUME_SHARE = 0.5
"""Of both, below which it goes on: enough for the loop to stay busy until the next poll brings more."""

PROGRESS_INTERVAL = 1.0
"""Seconds between two looks how far partitions are read that bring nothing."""

PLACEHOLDER_OFFSET = 0
"""A partition without a position makes the client look for one in the group and fail. Never fetched from:
the partition is paused until `begin` seeks."""


class Flows:
    """The consumer's owner thread's own, but for `assigned` and `gone`: the listener calls those."""

    def __init__(self, consumer: KafkaConsumer, topic: str, handover: Handover) -> None:
        self.owned: set[int] = set()
        self.throttled = False
        """Nothing is read, since the loop is behind."""
        self._consumer = consumer
        self._topic = topic
        self._handover = handover
        self._tokens: dict[int, int] = {}
        self._held: set[int] = set()
        self._told: dict[int, tuple[int, int | None]] = {}
        """How far each partition is read, and where it ends, as the loop has heard it."""
        self._progress_due = 0.0
        self._unreadable: dict[int, int] = {}
        """Where each partition could not be read when it was tried last."""
        self._unserved: dict[int, Streak] = {}

    # --- the assignment ---------------------------------------------------------------------------

    def assigned(self, partitions: Iterable[int]) -> None:
        """These, all of them paused, are what we have from now on."""
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

    # --- commands; those for a partition that was revoked since are void: the caller will hear of it ----

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
        """Stop reading, but not polling, while the loop is behind."""
        share = RESUME_SHARE if self.throttled else 1.0
        throttled = (
            self._handover.records_waiting > RECORDS_WAITING_MAX * share
            or self._handover.bytes_waiting > BYTES_WAITING_MAX * share
        )
        if throttled != self.throttled:
            self.throttled = throttled
            self._apply(self._tokens)

    # --- what a poll has brought ------------------------------------------------------------------

    def hand_over(self, polled: Mapping[TopicPartition, Sequence[Any]]) -> None:
        for tp, records in polled.items():
            token = self._tokens.get(tp.partition)
            if token is not None:  # else it was paused; nothing can come
                self._tell(tp, token, [_record(record) for record in records])

    def tell_progress(self) -> None:
        """How far partitions are read where nothing but markers of transactions has come: a lag that counted
        those would never come to nothing."""
        now = time.monotonic()
        if now >= self._progress_due:
            self._progress_due = now + PROGRESS_INTERVAL
            for partition, token in self._tokens.items():
                self._tell(self._place(partition), token, ())

    def lose(self, offsets: Mapping[TopicPartition, int | None], why: str) -> None:
        """These partitions can not be read from where they are (their offsets, where known)."""
        for tp, known in offsets.items():
            token = self._tokens.pop(tp.partition, None)
            if token is None:
                continue
            self._rest(tp)
            offset = PLACEHOLDER_OFFSET if known is None else known
            message = f"{tp.topic} partition {tp.partition} can not be read from offset {offset}: {why}"
            self._handover.put(PositionLost(tp.partition, token, offset, message))

    def unreadable(self, error: UnreadableBatchError) -> None:
        """What was fetched of a partition cannot be read. It is fetched once more: the network or this machine's memory
        may have damaged it on its way. Then the flow ends.
        """
        partition = error.tp.partition
        if self._unreadable.get(partition) != error.offset:
            self._unreadable[partition] = error.offset
            return
        self._end(error.tp, error.offset, error.next_offset, error.reason)

    def unserved(self, error: PartitionFetchError) -> None:
        """The broker refuses to serve a partition. That passes as a rule; if it does not, the flow ends: what is wrong
        with one partition is no reason to stop the others.
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
            self._handover.put(Unreadable(tp.partition, token, offset, next_offset, reason))

    def _tell(self, tp: TopicPartition, token: int, records: Sequence[Record]) -> None:
        progress = (known_position(self._consumer, tp), self._consumer.highwater(tp))
        if records or progress != self._told.get(tp.partition):
            self._told[tp.partition] = progress
            self._handover.put(Records(tp.partition, token, records, *progress))

    def _apply(self, partitions: Iterable[int]) -> None:
        """Make the client's pauses what they should be."""
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


def _record(record: Any) -> Record:
    return Record(
        record.offset,
        record.timestamp,
        record.key,
        record.value,
        # Kafka allows null for a header's value, the port does not.
        tuple((name, value or b"") for name, value in record.headers) if record.headers else (),
    )
