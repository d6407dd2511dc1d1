"""A poll is not limited in bytes, paused partitions keep what they have decompressed, and an error in fetched data does not say
which partition it is about.

Defects, cured together because all are in the methods that take records out of a fetch:

1. A poll is limited in records only. 500 records may be 500 batches of many MiB each.
2. An error in what was fetched for one partition does not name the partition, so it stops all of them. An error inside
   a batch also leaves an exhausted iterator behind in a fetch that is not marked as finished; the next poll spins on it
   without a pause.

3. A partition that is paused in the middle of a batch keeps the decompressed batch until it is resumed. A process with many
   partitions holds as many batches. The cure keeps `PARKED_BYTES_MAX` of them. A partition whose batch is dropped fetches it
   again when it is resumed, and continues at its position.

The cure raises `UnreadableBatchError` (the data are bad; a retry does not help) or `PartitionFetchError` (the broker
answered with an error; a retry may help). Nothing of the fetch is left then. The position is where the error is, and the
next poll fetches the partition again unless it is paused.

Upstream: not reported.
Versions: 3.0.12.
Remove when: tests/unit/test_kafka_cures.py::test_a_poll_is_still_not_limited_in_bytes,
    tests/unit/test_kafka_cures.py::test_paused_partitions_still_keep_their_batches and
    tests/unit/test_kafka_cures.py::test_an_error_in_a_batch_still_names_no_partition fail.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kafka import TopicPartition
from kafka.consumer.fetcher import Fetcher
from kafka.errors import AuthorizationError, KafkaError, OffsetOutOfRangeError
from kafka.record import MemoryRecords

from daemon.log.kafka.cures.decompression import TooLargeError, codec_name
from daemon.log.kafka.cures.record_batches import Batches
from daemon.log.port import Record

POLL_BYTES_MAX = 16 * 1024 * 1024
"""Bytes of records in one poll, over all partitions. The record that reaches the limit comes on top."""

PARKED_BYTES_MAX = 32 * 1024 * 1024
"""Bytes of decompressed batches that all paused partitions together keep. Much more than ordinary batches need, so that short
pauses cause no second fetch."""

LIMIT_SETTING = "kafka.record_batch_bytes_max"


class PartitionFetchError(KafkaError):  # type: ignore[misc]
    """The broker refuses to serve a partition from this offset, for a reason that is not known to be transient."""

    def __init__(self, tp: TopicPartition, offset: int, reason: str) -> None:
        super().__init__(reason)
        self.tp, self.offset, self.reason = tp, offset, reason

    def __str__(self) -> str:
        return f"{self.tp.topic} partition {self.tp.partition} cannot be fetched from offset {self.offset}: {self.reason}"


class UnreadableBatchError(KafkaError):  # type: ignore[misc]
    """The records from `offset` up to, but not including, `next_offset` cannot be read. A retry does not help."""

    def __init__(self, tp: TopicPartition, offset: int, next_offset: int, reason: str) -> None:
        super().__init__(reason)
        self.tp, self.offset, self.next_offset, self.reason = tp, offset, next_offset, reason

    def __str__(self) -> str:
        return (
            f"{self.tp.topic} partition {self.tp.partition} cannot be read at the offsets {self.offset} to "
            f"{self.next_offset - 1}: {self.reason}"
        )


class BoundedPartitionRecords(Fetcher.PartitionRecords):  # type: ignore[misc]
    """The data fetched for one partition, taken piece by piece."""

    next_fetch_offset: int
    bytes_read: int
    record_iterator: Any
    _next_inline_exception: Exception | None

    def __init__(
        self, fetch_offset: int, tp: TopicPartition, records: MemoryRecords, *, limit: int, **settings: Any
    ) -> None:
        self._limit = limit
        self._batches = Batches(records, limit, fetch_offset)
        self.room = POLL_BYTES_MAX
        """Bytes that the current poll may still take."""
        self._rest: list[Record] = []
        """Of the chunk that was read last: those that no poll has taken yet."""
        super().__init__(fetch_offset, tp, self._batches, **settings)

    @property
    def bytes_held(self) -> int:
        """Size of the decompressed batch that is being read."""
        return self._batches.current.bytes_held if self._batches.current is not None else 0

    def take(self, n: int | None = None) -> list[Record]:
        """Up to `n` records; fewer if the bytes of this poll are used up. The chunk that reaches this limit comes on top."""
        error, self._next_inline_exception = self._next_inline_exception, None
        before = self.bytes_read
        records, self._rest = self._rest, []
        try:
            if error is not None:
                raise error
            while (n is None or len(records) < n) and self.bytes_read - before < self.room:
                chunk = next(self.record_iterator, None)
                if chunk is None:
                    break
                records += chunk.value
        except MemoryError:
            raise
        except Exception as caught:
            if not records:
                self.drain()
                raise self._unreadable(caught) from caught
            self._next_inline_exception = caught
        self.room -= self.bytes_read - before
        if n is not None and len(records) > n:
            records, self._rest = records[:n], records[n:]
            self.next_fetch_offset = self._rest[0].offset
        elif records:  # unless the fetch has moved on already, past the records or past its end
            self.next_fetch_offset = max(self.next_fetch_offset, records[-1].offset + 1)
        return records

    def drain(self) -> None:
        self._rest = []
        super().drain()

    def _unreadable(self, error: Exception) -> UnreadableBatchError:
        offset, batch = self.next_fetch_offset, self._batches.current
        if batch is None:
            return UnreadableBatchError(
                self.topic_partition, offset, offset + 1, f"no record batch could be read there: {error}"
            )
        offset = max(offset, batch.base_offset)
        # A batch in format v0 or v1 has the offset of its last message.
        last = batch.last_offset if batch.magic >= 2 else batch.base_offset
        codec = batch.compression_type
        reason = f"its record batch of {batch.size_in_bytes:,} bytes" + (
            f" ({codec_name(codec)})" if codec else ""
        )
        if isinstance(error, TooLargeError):
            does = "decompresses to" if codec else "has"
            reason += f" {does} more than {self._limit:,} bytes ({LIMIT_SETTING})"
        else:
            reason += f" is damaged: {_message(error)}"
        return UnreadableBatchError(self.topic_partition, offset, max(last, offset) + 1, reason)


def _message(error: Exception) -> str:
    if isinstance(error, IndexError):
        return "its records are truncated"
    return str(error.args[0]) if error.args else type(error).__name__


class BoundedFetcher(Fetcher):  # type: ignore[misc]
    """Methods run in the thread that polls."""

    PartitionRecords: Callable[..., BoundedPartitionRecords]
    _paused_partition_records: dict[TopicPartition, BoundedPartitionRecords]
    _room = 0

    def fetched_records(self, *args: Any, **kwargs: Any) -> Any:
        self._room = POLL_BYTES_MAX
        try:
            return super().fetched_records(*args, **kwargs)
        finally:
            self._drop_parked()

    def _drop_parked(self) -> None:
        held = 0
        for tp, part in list(self._paused_partition_records.items()):
            held += part.bytes_held
            if held > PARKED_BYTES_MAX:
                held -= part.bytes_held
                del self._paused_partition_records[tp]

    def _append(
        self, drained: Any, part: BoundedPartitionRecords, max_records: int, update_offsets: bool
    ) -> int:
        """The number of records taken, or `max_records` if the bytes of this poll are used up, which ends the poll."""
        part.room = self._room
        count: int = super()._append(drained, part, max_records, update_offsets)
        self._room = part.room
        return count if self._room > 0 else max_records

    def _parse_fetched_data(self, completed_fetch: Any) -> Any:
        tp, offset = completed_fetch.topic_partition, completed_fetch.fetched_offset
        try:
            return super()._parse_fetched_data(completed_fetch)
        except (OffsetOutOfRangeError, AuthorizationError, MemoryError):
            raise
        except Exception as error:
            if completed_fetch.partition_data.error_code:
                raise PartitionFetchError(
                    tp, offset, f"the broker answered {type(error).__name__}"
                ) from error
            raise UnreadableBatchError(
                tp, offset, offset + 1, f"no record batch could be read there: {error}"
            ) from error
