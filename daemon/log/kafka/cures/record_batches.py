"""Reading the records of a batch is unbounded, and fails on header names that are not UTF-8.

Defects, cured together because one function turns the bytes of a batch into records:

1. A batch is decompressed whole, whatever its size. 22 kB of zstd became 700 MiB, and the process died of it at every
   start.
2. All headers of a record become objects, and two bytes on disk are enough for one header.
3. A record with a header name that is not UTF-8 makes its batch a corrupt one. The protocol requires UTF-8, but brokers do
   not check it and C clients send any bytes. The cure decodes such a name with replacement characters.

`Batches` stands between the library's fetcher and the batches of a response. The fetcher still checks checksums, follows
transactions and skips markers; `CheckedRecordBatch` replaces only the step that makes records of bytes. It makes many at a time
(`Chunk`), since what the fetcher does with each takes as long as reading it: a record takes about half of the library's time.

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

from daemon.core.model import headers_size
from daemon.log.kafka.cures.decompression import DamagedError, TooLargeError, decompress
from daemon.log.port import Record

CHUNK_BYTES = 64 * 1024
"""Bytes of records that are made together."""

RECORD_HEADERS_MAX = 10_000
"""Headers of one record. No client needs a hundred of them."""

LEGACY_MESSAGES_MAX = 100_000
"""Messages in one compressed batch in format v0 or v1. The library makes objects of all of them at once."""

_HEADER_BYTES = DefaultRecordBatch.HEADER_STRUCT.size
_new = tuple.__new__
"""`_new(Record, …)` takes half the time of `Record(…)`."""
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


class Chunk:
    """Consecutive records, which pass through the fetcher as if they were one: its work takes as long as making the records.

    It has the attributes of a record that the fetcher reads. Its offset is that of its last record, because reading continues
    after it; its records are its value.
    """

    __slots__ = ("offset", "size_in_bytes", "value")

    timestamp = timestamp_type = -1
    key = checksum = None
    headers = ()

    def __init__(self, size_in_bytes: int, records: list[Record]) -> None:
        self.size_in_bytes = size_in_bytes
        """The memory of the records, approximately."""
        self.offset = records[-1].offset
        self.value = records

    def validate_crc(self) -> bool:
        """The batch has a checksum, and it was checked."""
        return True


class CheckedRecordBatch:
    """A batch of the library that makes its records in its own way.

    Iteration yields `Chunk`s. It raises TooLargeError, DamagedError, IndexError or ValueError if the bytes are not valid records.
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
            chunks = _legacy_chunks(batch, self._limit)
            self.bytes_held = len(batch._buffer)  # noqa: SLF001
            return chunks
        data = memoryview(batch._buffer)[_HEADER_BYTES:]  # noqa: SLF001
        codec = batch.compression_type
        content = decompress(codec, data, self._limit) if codec else bytes(data)
        self.bytes_held = len(content)
        return _chunks(batch, content, self._first)


_WRONG_LENGTH = "the record at offset {} does not have the length that it declares"


def _chunks(batch: Any, data: bytes, first: int) -> Iterator[Chunk]:
    """The records of a batch in format v2 from offset `first`. Records below it are skipped without being parsed.

    Record => Length Attributes TimestampDelta OffsetDelta Key Value Headers. The attributes are one unused byte. Every
    other field is a varint, or bytes or a list that a varint precedes.
    """
    base_offset, first_timestamp = batch.base_offset, batch.first_timestamp
    timestamp = batch.max_timestamp if batch.timestamp_type else None
    least, last = base_offset, batch.last_offset
    at = size = 0
    records: list[Record] = []
    try:
        for _ in range(batch.records_count):
            length, at = _varint(data, at)
            start, end = at, at + length
            delta, at = _varint(data, at + 1)
            offset, at = _varint(data, at)
            offset += base_offset
            if not least <= offset <= last:
                raise DamagedError(f"it holds a record with offset {offset}, which is out of order")
            least = offset + 1
            if offset < first:
                if not at <= end <= len(data):
                    raise DamagedError(_WRONG_LENGTH.format(offset))
                at = end
                continue
            length, at = _varint(data, at)
            key = None
            if length >= 0:
                key = data[at : at + length]
                at += length
            length, at = _varint(data, at)
            value = None
            if length >= 0:
                value = data[at : at + length]
                at += length
            headers, at = _headers(data, at, offset) if data[at] else ((), at + 1)
            if at != end:
                raise DamagedError(_WRONG_LENGTH.format(offset))
            time_ms = first_timestamp + delta if timestamp is None else timestamp
            records.append(_new(Record, (offset, time_ms, key, value, headers)))
            size += end - start + headers_size(headers)
            if size >= CHUNK_BYTES:
                yield Chunk(size, records)
                records, size = [], 0
        if at != len(data):
            raise DamagedError(f"it has {len(data) - at:,} bytes after its last record")
    except Exception:
        if records:  # those before one that cannot be read
            yield Chunk(size, records)
        raise
    if records:
        yield Chunk(size, records)


def _headers(data: bytes, at: int, offset: int) -> tuple[tuple[tuple[str, bytes | None], ...], int]:
    """The headers of the record at `offset`, and where they end."""
    count, at = _varint(data, at)
    if not 0 < count <= RECORD_HEADERS_MAX:
        raise DamagedError(
            f"the record at offset {offset} has {count:,} headers, more than {RECORD_HEADERS_MAX:,}"
        )
    headers: list[tuple[str, bytes | None]] = []
    for _ in range(count):
        length, at = _varint(data, at)
        if length < 0:
            raise DamagedError(f"a header of the record at offset {offset} has no name")
        name = data[at : at + length].decode("utf-8", "replace")
        length, at = _varint(data, at + length)
        value = None
        if length >= 0:
            value = data[at : at + length]
            at += length
        headers.append((name, value))
    return tuple(headers), at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number there, and where it ends."""
    number = data[at]
    if number < 0x80:
        return number >> 1 ^ -(number & 1), at + 1
    more = data[at + 1]
    if more < 0x80:
        number = number & 0x7F | more << 7
        return number >> 1 ^ -(number & 1), at + 2
    longer: tuple[int, int] = decode_varint(data, at)
    return longer


def _legacy_chunks(batch: Any, limit: int) -> Iterator[Chunk]:
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
    for r in batch:
        if not r.validate_crc():
            raise DamagedError(f"the message at offset {r.offset} does not match its checksum")
        yield Chunk(r.size_in_bytes, [Record(r.offset, r.timestamp, r.key, r.value)])
