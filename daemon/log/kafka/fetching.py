"""A fetcher that stays within bounds, and that says which partition an error is about.

Two more faults of kafka-python 3.0.12, beside those that `record_batches` cures:

* A poll is limited in records, not in bytes: 500 records may be 500 batches of many MiB each.
* An error in what was fetched of one partition says nothing of the partition, so it stops all of them. And an error in
  a batch leaves an iterator behind that brings nothing and has no end: the next poll spins for ever, without a pause.

Here such an error is an `UnreadableBatchError` (the data: trying again does not help) or a `PartitionFetchError` (the
broker's answer: it may). Nothing of the fetch is left then, the position is where the error is, and the next poll
fetches the partition anew unless it is paused.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import Fetcher
from kafka.errors import AuthorizationError, KafkaError, OffsetOutOfRangeError
from kafka.record import MemoryRecords

from daemon.core.model import headers_size
from daemon.log.kafka.decompression import TooLargeError, codec_name
from daemon.log.kafka.record_batches import Batches

POLL_BYTES_MAX = 16 * 1024 * 1024
"""Bytes of records that one poll brings, over all partitions; the record that reaches it comes on top."""

LIMIT_SETTING = "kafka.record_batch_bytes_max"


class PartitionFetchError(KafkaError):  # type: ignore[misc]
    """The broker does not serve a partition from this offset, and gives a reason that is not known to be transient."""

    def __init__(self, tp: TopicPartition, offset: int, reason: str) -> None:
        super().__init__(reason)
        self.tp, self.offset, self.reason = tp, offset, reason

    def __str__(self) -> str:
        return f"{self.tp.topic} partition {self.tp.partition} is not served from offset {self.offset} on: {self.reason}"


class UnreadableBatchError(KafkaError):  # type: ignore[misc]
    """The records from `offset` up to `next_offset` cannot be read, however often it is tried."""

    def __init__(self, tp: TopicPartition, offset: int, next_offset: int, reason: str) -> None:
        super().__init__(reason)
        self.tp, self.offset, self.next_offset, self.reason = tp, offset, next_offset, reason

    def __str__(self) -> str:
        return (
            f"{self.tp.topic} partition {self.tp.partition} cannot be read at the offsets {self.offset} to "
            f"{self.next_offset - 1}: {self.reason}"
        )


class _PartitionRecords(Fetcher.PartitionRecords):  # type: ignore[misc]
    """What was fetched of one partition, taken piece by piece."""

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
        """Bytes that the poll under way may still take."""
        super().__init__(fetch_offset, tp, self._batches, **settings)

    def take(self, n: int | None = None) -> list[Any]:
        """Up to `n` records, and no more when there is no room left."""
        error, self._next_inline_exception = self._next_inline_exception, None
        records: list[Any] = []
        before, headers = self.bytes_read, 0
        try:
            if error is not None:
                raise error
            for record in islice(self.record_iterator, n):
                records.append(record)
                if record.headers:
                    headers += headers_size(record.headers)
                if self.bytes_read - before + headers >= self.room:
                    break
        except MemoryError:
            raise
        except Exception as caught:
            if not records:
                self.drain()
                raise self._unreadable(caught) from caught
            self._next_inline_exception = caught
        self.room -= self.bytes_read - before + headers
        return records

    def _unreadable(self, error: Exception) -> UnreadableBatchError:
        offset, batch = self.next_fetch_offset, self._batches.current
        if batch is None:
            return UnreadableBatchError(
                self.topic_partition, offset, offset + 1, f"no record batch is there: {error}"
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
            reason += f" is damaged: {_said(error)}"
        return UnreadableBatchError(self.topic_partition, offset, max(last, offset) + 1, reason)


def _said(error: Exception) -> str:
    if isinstance(error, IndexError):
        return "its records end too early"
    return str(error.args[0]) if error.args else type(error).__name__


class BoundedFetcher(Fetcher):  # type: ignore[misc]
    """Its methods run in the thread that polls."""

    PartitionRecords: Callable[..., _PartitionRecords]
    _room = 0

    def fetched_records(self, *args: Any, **kwargs: Any) -> Any:
        self._room = POLL_BYTES_MAX
        return super().fetched_records(*args, **kwargs)

    def _append(self, drained: Any, part: _PartitionRecords, max_records: int, update_offsets: bool) -> int:
        """How many records it has brought; all that are wanted when the poll has no room for more."""
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
                raise PartitionFetchError(tp, offset, f"the broker answers {type(error).__name__}") from error
            raise UnreadableBatchError(
                tp, offset, offset + 1, f"no record batch is there: {error}"
            ) from error


def bound(consumer: KafkaConsumer, record_batch_bytes_max: int) -> None:
    """Cure a new consumer: the library has no place to put another fetcher."""
    fetcher = consumer._fetcher  # noqa: SLF001
    fetcher.__class__ = BoundedFetcher
    fetcher.PartitionRecords = partial(_PartitionRecords, limit=record_batch_bytes_max)
