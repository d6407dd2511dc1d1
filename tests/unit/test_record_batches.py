"""Fetched record batches: read as the library reads them, within bounds, and what cannot be read is named."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

import cramjam
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from kafka import IsolationLevel, TopicPartition
from kafka.consumer.fetcher import Fetcher
from kafka.protocol.consumer import FetchResponse
from kafka.record import MemoryRecords
from kafka.record.memory_records import MemoryRecordsBuilder

from daemon.log.kafka.cures import decompression, record_batches
from daemon.log.kafka.cures.decompression import CHUNK, DamagedError, TooLargeError, decompress
from daemon.log.kafka.cures.fetching import BoundedPartitionRecords, UnreadableBatchError
from daemon.log.kafka.cures.record_batches import RECORD_HEADERS_MAX
from daemon.log.port import Record
from tests import record_batch as wire

MIB = 1024 * 1024
LIMIT = 4 * MIB
TP = TopicPartition("course-changes", 3)
CODECS = {"gzip": wire.GZIP, "snappy": wire.SNAPPY, "lz4": wire.LZ4, "zstd": wire.ZSTD}


def fetched(
    data: bytes, *, offset: int = 0, limit: int = LIMIT, kind: Callable[..., Any] = BoundedPartitionRecords
) -> Any:
    """What the fetcher makes of a response."""
    if kind is BoundedPartitionRecords:
        kind = partial(BoundedPartitionRecords, limit=limit)
    return kind(
        offset,
        TP,
        MemoryRecords(data),
        isolation_level=IsolationLevel.READ_COMMITTED,
        on_drain=lambda _: None,
    )


def taken(part: Any, pieces: int = 100) -> list[Any]:
    """All of its records, as polls take them."""
    records: list[Any] = []
    while part:
        part.room = 64 * MIB
        records += part.take(pieces)
    return records


def refusal(data: bytes, *, offset: int = 0, limit: int = LIMIT) -> UnreadableBatchError:
    """Why these cannot be read; nothing is left of the fetch, so that no poll can spin."""
    part = fetched(data, offset=offset, limit=limit)
    with pytest.raises(UnreadableBatchError) as caught:
        taken(part)
    assert not part
    assert caught.value.tp == TP
    return caught.value


# --- the same records as the library's ------------------------------------------------------------

_bytes = st.none() | st.binary(max_size=300)
_headers = st.lists(st.tuples(st.text(max_size=8), _bytes), max_size=4)
Written = tuple[int, bytes | None, bytes | None, list[tuple[str, bytes | None]]]
"""Timestamp, key, value and headers."""
_batches = st.lists(
    st.tuples(
        st.integers(0, 4),
        st.lists(st.tuples(st.integers(-(2**40), 2**40), _bytes, _bytes, _headers), min_size=1, max_size=40),
    ),
    min_size=1,
    max_size=4,
)


def record_of(theirs: Any) -> Record:
    """As the daemon keeps a record of the library's."""
    return Record(theirs.offset, theirs.timestamp, theirs.key, theirs.value, tuple(theirs.headers))


@given(batches=_batches, share=st.floats(0, 1), chunk=st.sampled_from([1, 400, record_batches.CHUNK_BYTES]))
def test_records_are_those_that_the_library_reads(
    batches: list[tuple[int, list[Written]]], share: float, chunk: int
) -> None:
    data, offset = bytearray(), 0
    for codec, records in batches:
        builder = MemoryRecordsBuilder(2, codec, 1 << 24)
        for record in records:
            builder.append(*record)
        builder.close()
        made = bytearray(builder.buffer())
        made[:8] = offset.to_bytes(8, "big")
        data += made
        offset += len(records)
    first = int(offset * share)
    theirs, ours = (
        fetched(bytes(data), offset=first, kind=kind)
        for kind in (Fetcher.PartitionRecords, BoundedPartitionRecords)
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(record_batches, "CHUNK_BYTES", chunk)
        while theirs:
            ours.room = 64 * MIB
            assert ours.take(7) == [record_of(each) for each in theirs.take(7)]
            assert ours.next_fetch_offset == theirs.next_fetch_offset
    assert not ours
    assert ours.next_fetch_offset == offset


@pytest.mark.parametrize("magic", [0, 1])
@pytest.mark.parametrize("codec", [0, wire.GZIP, wire.SNAPPY])
def test_old_formats_are_read_as_the_library_reads_them(magic: int, codec: int) -> None:
    builder = MemoryRecordsBuilder(magic, codec, 1 << 20)
    for number in range(20):
        builder.append(1_700_000_000_000 + number, b"key", b"value %d " % number * 20)
    builder.close()
    data = bytes(builder.buffer())
    theirs = taken(fetched(data, kind=Fetcher.PartitionRecords))
    assert taken(fetched(data)) == [record_of(each) for each in theirs]


def test_a_header_name_that_is_not_utf8_is_read_with_replacement_characters() -> None:
    one = wire.record(b"v", key=b"k", headers=[(b"na\xffme", b"\xff"), (b"null", None)])
    (record,) = taken(fetched(wire.batch(one)))
    assert (record.key, record.value) == (b"k", b"v")
    assert record.headers == (("na\ufffdme", b"\xff"), ("null", None))


def test_the_time_that_the_broker_has_stamped_holds_for_all_records() -> None:
    data = bytearray(wire.batch(wire.record(b"v")))
    struct.pack_into(">h", data, 21, 0x08)
    struct.pack_into(">q", data, 35, 1_800_000_000_000)
    (record,) = taken(fetched(wire.sealed(bytes(data))))
    assert record.timestamp == 1_800_000_000_000


# --- the limit ------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1, LIMIT])
def test_what_fits_comes_out_whole_and_one_byte_more_does_not(codec: int, size: int) -> None:
    content = bytes(index % 251 for index in range(1000)) * (size // 1000 + 1)
    for limit in (size, LIMIT):
        small = wire.compressed(codec, [content[:size]])
        assert decompress(codec, memoryview(small), limit) == content[:size]
    large = wire.compressed(codec, [content[:size], b"x"])
    with pytest.raises(TooLargeError):
        decompress(codec, memoryview(large), size)


@pytest.mark.parametrize(
    ("codec", "size"), [(wire.GZIP, 300), (wire.SNAPPY, 60), (wire.LZ4, 200), (wire.ZSTD, 700)]
)
def test_a_bomb_takes_no_more_memory_than_the_limit_allows(codec: int, size: int) -> None:
    data = wire.bomb(codec, size * MIB)
    tracemalloc.start()
    try:
        error = refusal(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * LIMIT + 3 * len(data) + 2 * CHUNK
    name = decompression.codec_name(codec)
    assert (error.offset, error.next_offset) == (0, 1)
    assert error.reason == (
        f"its record batch of {len(data):,} bytes ({name}) decompresses to more than 4,194,304 bytes "
        "(kafka.record_batch_bytes_max)"
    )


def raw_snappy(data: bytes) -> bytes:
    return bytes(cramjam.snappy.compress_raw(data))


def test_raw_snappy_and_one_that_lies_about_its_size() -> None:
    assert decompress(wire.SNAPPY, memoryview(raw_snappy(b"abc")), LIMIT) == b"abc"
    with pytest.raises(TooLargeError):
        decompress(wire.SNAPPY, memoryview(raw_snappy(bytes(LIMIT + 1))), LIMIT)
    honest = bytearray(raw_snappy(bytes(100)))
    honest[0] = 10
    with pytest.raises(DamagedError, match="snappy"):
        decompress(wire.SNAPPY, memoryview(bytes(honest)), LIMIT)


def test_members_and_frames_are_counted_together() -> None:
    half = bytes(LIMIT // 2)
    for codec, piece in ((wire.GZIP, gzip.compress(half)), (wire.ZSTD, zstandard.compress(half))):
        assert decompress(codec, memoryview(piece * 2), LIMIT) == half * 2
        with pytest.raises(TooLargeError):
            decompress(codec, memoryview(piece * 3), LIMIT)


def test_a_batch_that_is_not_compressed_has_the_same_limit() -> None:
    assert len(taken(fetched(wire.batch(wire.record(bytes(LIMIT - 100)))))) == 1
    error = refusal(wire.batch(wire.record(bytes(LIMIT))))
    assert "has more than 4,194,304 bytes (kafka.record_batch_bytes_max)" in error.reason


def test_a_bomb_that_was_aborted_is_never_decompressed() -> None:
    content = wire.compressed(wire.ZSTD, wire.zeros(LIMIT))
    bomb = wire.batch(content, codec=wire.ZSTD, aborted_by=7)
    good = wire.batch(wire.record(b"good"), base_offset=1)
    part = BoundedPartitionRecords(
        0,
        TP,
        MemoryRecords(bomb + good),
        limit=LIMIT,
        isolation_level=IsolationLevel.READ_COMMITTED,
        aborted_transactions=[_aborted(7)],
        on_drain=lambda _: None,
    )
    assert [record.value for record in taken(part)] == [b"good"]


def _aborted(producer_id: int) -> Any:
    kind = FetchResponse.FetchableTopicResponse.PartitionData.AbortedTransaction
    return kind(producer_id=producer_id, first_offset=0)


def test_a_poll_brings_no_more_bytes_than_it_has_room_for() -> None:
    value = bytes(LIMIT - 100)
    data = b"".join(
        wire.batch(wire.compressed(wire.ZSTD, [wire.record(value)]), codec=wire.ZSTD, base_offset=offset)
        for offset in range(40)
    )
    part = fetched(data)
    part.room = 3 * LIMIT
    assert len(part.take(500)) == 4  # the one that reaches it comes on top
    assert part.room <= 0
    part.room = 1
    assert [record.offset for record in part.take(500)] == [4]


def test_many_headers_count_as_what_they_take_in_memory() -> None:
    many = [(b"", None)] * RECORD_HEADERS_MAX
    data = wire.batch(b"".join(wire.record(b"", offset, headers=many) for offset in range(50)), count=50)
    part = fetched(data)
    part.room = MIB
    assert len(part.take(500)) == 1
    part.room = 3 * MIB
    assert len(part.take(500)) == 3


def test_more_headers_than_anybody_needs_are_refused_before_they_are_made() -> None:
    many = wire.record(b"", 1, headers=[(b"", None)] * 1_000_000)
    data = wire.batch(wire.record(b"good") + many, count=2, base_offset=10)
    tracemalloc.start()
    try:
        error = refusal(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * len(data)
    assert (error.offset, error.next_offset) == (11, 12)
    assert "the record at offset 11 has 1,000,000 headers, more than 10,000" in error.reason


def test_a_million_empty_records_come_piece_by_piece() -> None:
    count = 300_000
    records = wire.compressed(wire.ZSTD, [b"".join(wire.record(None, offset) for offset in range(count))])
    part = fetched(wire.batch(records, codec=wire.ZSTD, count=count), offset=count - 3)
    assert [record.offset for record in taken(part)] == [count - 3, count - 2, count - 1]
    part = fetched(wire.batch(records, codec=wire.ZSTD, count=count))
    assert len(part.take(500)) == 500
    assert part.next_fetch_offset == 500


def test_old_batches_of_many_messages_are_refused_before_they_are_made() -> None:
    builder = MemoryRecordsBuilder(1, wire.GZIP, 1 << 24)
    for _ in range(record_batches.LEGACY_MESSAGES_MAX + 1):
        builder.append(1, None, None)
    builder.close()
    assert "more than 100,000 messages" in refusal(bytes(builder.buffer())).reason


# --- damage ---------------------------------------------------------------------------------------


def _cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


_two = wire.record(b"good") + wire.record(b"v" * 200, 1)


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
@pytest.mark.parametrize("damage", [_cut, lambda data: b"?" * len(data), lambda _: b""])
def test_damaged_compression_is_named(codec: int, damage: Callable[[bytes], bytes]) -> None:
    records = damage(wire.compressed(codec, [_two]))
    error = refusal(wire.batch(records, codec=codec, count=2, base_offset=5))
    assert error.offset in (5, 6)  # of some codecs the good record comes out before the damage
    assert error.next_offset == 7
    assert f"({decompression.codec_name(codec)}) is damaged" in error.reason


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (wire.batch(_two, codec=6, count=2), "compression codec 6 is unknown"),
        (wire.batch(_two, count=2)[:-1] + b"\x02", "failed crc check"),
        (wire.batch(_two + b"\0", count=2), "1 bytes after its last record"),
        (wire.batch(_two, count=3), "its records are truncated"),
        (wire.batch(_two, count=1), "bytes after its last record"),
        (wire.batch(wire.record(b"good") + wire.record(b"x", 0), count=2), "out of order"),
        (wire.batch(wire.record(b"good") + wire.record(b"x", 5), count=2), "out of order"),
        (wire.batch(b"\xff" * 100, count=2), "damaged"),
        (wire.batch(wire.record(b"good") + b"\x0e\0\0\2\1\1\0\0", count=2), "length that it declares"),
    ],
    ids=[
        "codec",
        "crc",
        "left over",
        "too few",
        "too many",
        "same offset",
        "offset beyond",
        "garbage",
        "length",
    ],
)
def test_other_damage_is_named(data: bytes, named: str) -> None:
    error = refusal(data)
    assert "its record batch of" in error.reason
    assert named in error.reason
    assert 0 <= error.offset < error.next_offset


def test_records_before_the_damage_come_first_and_the_next_offset_is_behind_the_whole_batch() -> None:
    good = wire.batch(wire.record(b"a") + wire.record(b"b", 1), count=2)
    bad = wire.batch(wire.record(b"c") + wire.record(b"x", 1)[:-1] + b"\2", count=3, base_offset=2)
    part = fetched(good + bad)
    assert [record.value for record in part.take(500)] == [b"a", b"b", b"c"]
    with pytest.raises(UnreadableBatchError) as caught:
        part.take(500)
    assert (caught.value.offset, caught.value.next_offset) == (3, 5)
    assert not part


def test_from_the_middle_of_a_damaged_batch_the_sentence_tells_where_it_ends() -> None:
    bomb = wire.batch(
        wire.compressed(wire.ZSTD, wire.zeros(LIMIT)), codec=wire.ZSTD, base_offset=10, count=30
    )
    error = refusal(bomb, offset=25)
    assert (error.offset, error.next_offset) == (25, 40)


@pytest.mark.parametrize("length", [-12, -5, 3, 40])
def test_what_is_no_batch_at_all_is_named(length: int) -> None:
    part_of_one = bytearray(wire.batch(_two, count=2))
    struct.pack_into(">i", part_of_one, 8, length)
    good = wire.batch(wire.record(b"good"))
    assert refusal(good + bytes(part_of_one)).offset == 1


def test_an_old_batch_with_a_message_without_end_is_named() -> None:
    inner = struct.pack(">qi", 0, -12) * 2
    value = wire.compressed(wire.GZIP, [inner])
    body = struct.pack(">bbqii", 1, wire.GZIP, 0, -1, len(value)) + value
    whole = struct.pack(">qiI", 4, len(body) + 4, zlib.crc32(body)) + body
    error = refusal(whole)
    assert "a truncated one" in error.reason
    assert (error.offset, error.next_offset) == (4, 5)


def test_many_tiny_members_and_blocks_take_no_quadratic_time() -> None:
    """Each step once copied the rest: a mebibyte of them would have stood still for minutes."""
    blocks = b"\x82SNAPPY\0" + struct.pack(">ii", 1, 1) + (struct.pack(">i", 1) + b"\0") * 200_000
    assert decompress(wire.SNAPPY, memoryview(blocks), LIMIT) == b""
    members = gzip.compress(b"") * 50_000
    assert decompress(wire.GZIP, memoryview(members), LIMIT) == b""


@pytest.mark.parametrize("length", [-4, -1, 2**31 - 1])
def test_a_snappy_block_with_an_impossible_length_is_refused(length: int) -> None:
    data = b"\x82SNAPPY\0" + struct.pack(">iii", 1, 1, length) + b"abcd"
    with pytest.raises(DamagedError, match="a block declares"):
        decompress(wire.SNAPPY, memoryview(data), LIMIT)
