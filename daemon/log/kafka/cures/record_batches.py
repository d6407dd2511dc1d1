"""Reading the records of a batch is unbounded, and fails on header names that are not UTF-8.

Defects, cured together because one function turns the bytes of a batch into records:

1. A batch is decompressed whole, whatever its size. 22 kB of zstd became 700 MiB, and the process died of it at every
   start.
2. All headers of a record become objects, and two bytes on disk are enough for one header.
3. A record with a header name that is not UTF-8 makes its batch a corrupt one. The protocol requires UTF-8, but brokers do
   not check it and C clients send any bytes. The cure decodes such a name with replacement characters.

`Batches` stands between the library's fetcher and the batches of a response. The fetcher still checks checksums, follows
transactions and skips markers; `CheckedRecordBatch` replaces only the step that makes records of bytes. It takes about 60 % of the
library's time per record.

Upstream: not reported. For zstd, 3.0.12 has a fixed maximum of its own, as a fallback only.
Versions: 3.0.12.
Remove when: tests/unit/test_kafka_cures.py::test_a_batch_is_still_decompressed_whole,
    tests/unit/test_kafka_cures.py::test_headers_are_still_unlimited and
    tests/unit/test_kafka_cures.py::test_a_header_name_that_is_not_utf_8_still_fails fail.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kafka.record import MemoryRecords
from kafka.record.default_records import DefaultRecordBatch
from kafka.record.legacy_records import LegacyRecordBatch
from kafka.record.util import decode_varint

from daemon.log.kafka.cures.decompression import DamagedError, TooLargeError, decompress

RECORD_HEADERS_MAX = 10_000
"""Headers of one record. No client needs a hundred of them."""

LEGACY_MESSAGES_MAX = 100_000
"""Messages in one compressed batch in format v0 or v1. The library makes objects of all of them at once."""

_HEADER_BYTES = DefaultRecordBatch.HEADER_STRUCT.size
_LEGACY_OVERHEAD = LegacyRecordBatch.LOG_OVERHEAD
"""Offset and length, before each message."""


class Batches:
    """The part of `MemoryRecords` that the fetcher uses."""

    def __init__(self, records: MemoryRecords, limit: int, first: int) -> None:
        """Yields records from offset `first`. A decompressed batch may have at most `limit` bytes."""
        self._records = records
        self._limit = limit
        self._first = first
        self.current: CheckedRecordBatch | None = None
        """The batch that is being read."""

    def next_batch(self) -> CheckedRecordBatch | None:
        self.current = None
        batch = self._records.next_batch()
        if batch is not None:
            self.current = CheckedRecordBatch(batch, self._limit, self._first)
        return self.current


class _Record:
    """The part of a record that the fetcher uses."""

    __slots__ = ("headers", "key", "offset", "size_in_bytes", "timestamp", "timestamp_type", "value")

    checksum = None

    def __init__(
        self,
        size_in_bytes: int,
        offset: int,
        timestamp: int,
        timestamp_type: int,
        key: bytes | None,
        value: bytes | None,
        headers: list[tuple[str, bytes | None]],
    ) -> None:
        self.size_in_bytes = size_in_bytes
        self.offset = offset
        self.timestamp = timestamp
        self.timestamp_type = timestamp_type
        self.key = key
        self.value = value
        self.headers = headers

    def validate_crc(self) -> bool:
        """The batch has a checksum, and it was checked."""
        return True


class CheckedRecordBatch:
    """A batch of the library that makes its records in its own way.

    Iteration raises TooLargeError, DamagedError, IndexError or ValueError if the bytes are not valid records.
    """

    __slots__ = ("_batch", "_first", "_limit", "bytes_held")

    def __init__(self, batch: Any, limit: int, first: int) -> None:
        self._batch = batch
        self._limit = limit
        self._first = first
        self.bytes_held = 0
        """Size of the decompressed records, once they are being read."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        """The marker in a control batch. Control batches are never compressed."""
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        batch = self._batch
        if batch.size_in_bytes > self._limit:
            raise TooLargeError
        if batch.magic < 2:
            records = _legacy_records(batch, self._limit)
            self.bytes_held = len(batch._buffer)  # noqa: SLF001
            return records
        data = memoryview(batch._buffer)[_HEADER_BYTES:]  # noqa: SLF001
        codec = batch.compression_type
        content = decompress(codec, data, self._limit) if codec else bytes(data)
        self.bytes_held = len(content)
        return _records(batch, content, self._first)


_WRONG_LENGTH = "the record at offset {} does not have the length that it declares"


def _records(batch: Any, data: bytes, first: int) -> Iterator[_Record]:
    """The records of a batch in format v2 from offset `first`. Records below it are skipped without being parsed.

    Record => Length Attributes TimestampDelta OffsetDelta Key Value Headers. The attributes are one unused byte. Every
    other field is a varint, or bytes or a list that a varint precedes.
    """
    base_offset, first_timestamp = batch.base_offset, batch.first_timestamp
    timestamp_type = batch.timestamp_type
    timestamp = batch.max_timestamp if timestamp_type else None
    least, last = base_offset, batch.last_offset
    at = 0
    for _ in range(batch.records_count):
        size, at = decode_varint(data, at)
        end = at + size
        delta, at = decode_varint(data, at + 1)
        offset, at = decode_varint(data, at)
        offset += base_offset
        if not least <= offset <= last:
            raise DamagedError(f"it holds a record with offset {offset}, which is out of order")
        least = offset + 1
        if offset < first:
            if not at <= end <= len(data):
                raise DamagedError(_WRONG_LENGTH.format(offset))
            at = end
            continue
        length, at = decode_varint(data, at)
        key = None
        if length >= 0:
            key = data[at : at + length]
            at += length
        length, at = decode_varint(data, at)
        value = None
        if length >= 0:
            value = data[at : at + length]
            at += length
        count, at = decode_varint(data, at)
        headers: list[tuple[str, bytes | None]] = []
        if count:
            if not 0 < count <= RECORD_HEADERS_MAX:
                raise DamagedError(
                    f"the record at offset {offset} has {count:,} headers, more than {RECORD_HEADERS_MAX:,}"
                )
            for _ in range(count):
                length, at = decode_varint(data, at)
                if length < 0:
                    raise DamagedError(f"a header of the record at offset {offset} has no name")
                name = data[at : at + length].decode("utf-8", "replace")
                at += length
                length, at = decode_varint(data, at)
                if length >= 0:
                    headers.append((name, data[at : at + length]))
                    at += length
                else:
                    headers.append((name, None))
        if at != end:
            raise DamagedError(_WRONG_LENGTH.format(offset))
        yield _Record(
            size,
            offset,
            first_timestamp + delta if timestamp is None else timestamp,
            timestamp_type,
            key,
            value,
            headers,
        )
    if at != len(data):
        raise DamagedError(f"it has {len(data) - at:,} bytes after its last record")


def _legacy_records(batch: Any, limit: int) -> Iterator[Any]:
    """The records of a batch in format v0 or v1, which old topics may still hold: a message whose value may be a
    compressed list of messages."""
    codec = batch.compression_type
    if codec:
        key_offset = batch.KEY_OFFSET_V1 if batch.magic else batch.KEY_OFFSET_V0
        _, value = batch._read_key_value(key_offset)  # noqa: SLF001
        messages = memoryview(decompress(codec, memoryview(value or b""), limit))
        at = count = 0
        while at < len(messages):
            length = int.from_bytes(messages[at + 8 : at + _LEGACY_OVERHEAD], "big", signed=True)
            at += _LEGACY_OVERHEAD + length
            count += 1
            if length < 0 or count > LEGACY_MESSAGES_MAX:
                raise DamagedError(f"it holds more than {LEGACY_MESSAGES_MAX:,} messages, or a truncated one")
        batch._buffer, batch._decompressed = messages, True  # noqa: SLF001
    return iter(batch)
