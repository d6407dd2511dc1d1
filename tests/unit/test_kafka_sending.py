"""Batches that are encoded here have the bytes that the library would have sent, and their records the right offsets."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka import TopicPartition
from kafka.errors import InvalidRecordError, KafkaError, KafkaTimeoutError, MessageSizeTooLargeError
from kafka.producer.record_accumulator import RecordAccumulator
from kafka.record.memory_records import MemoryRecords, MemoryRecordsBuilder

from daemon.log.kafka.cures.sending import Encoded, Record, Sent, _append, _Batch, _built, encode_all

PARTITION = TopicPartition("t", 0)
TIME = 1_790_000_000_123
SIZE_MAX = 262_144
CONFIG = {"compression_attrs": 0, "batch_size": SIZE_MAX}

byte_texts = st.binary(max_size=40) | st.integers(0, 20_000).map(lambda size: b"x" * size)
headers = st.lists(st.tuples(st.text(max_size=20), st.none() | byte_texts), max_size=4).map(tuple)
records = st.lists(
    st.tuples(st.none() | byte_texts, st.none() | byte_texts, headers), min_size=1, max_size=30
)


def theirs(of: list[Record]) -> bytes:
    builder = MemoryRecordsBuilder(2, 0, SIZE_MAX)
    for key, value, record_headers in of:
        assert builder.append(TIME, key, value, list(record_headers)) is not None
    builder.close()
    return bytes(builder.buffer())


def batches_of(records: list[Record], size_max: int = SIZE_MAX, request_max: int = SIZE_MAX) -> list[Encoded]:
    return encode_all({PARTITION: records}, {"batch_size": size_max, "max_request_size": request_max})


def ours(encoded: Encoded) -> bytes:
    builder = _built(encoded, TIME, CONFIG)
    assert builder.next_offset() == len(encoded.records)
    builder.close()
    return bytes(builder.buffer())


@given(records)
def test_a_batch_has_the_bytes_that_the_library_writes(of: list[Record]) -> None:
    rest = list(of)
    for encoded in batches_of(of):
        assert encoded.records == rest[: len(encoded.records)]
        assert ours(encoded) == theirs(rest[: len(encoded.records)])
        del rest[: len(encoded.records)]
    assert rest == []


@pytest.mark.parametrize("number", [0, 1, 63, 64, 4095, 4096, 8191, 8192])
def test_positions_of_every_length_are_right(number: int) -> None:
    of: list[Record] = [(None, None, ())] * (number + 1)
    (encoded,) = batches_of(of)
    assert ours(encoded) == theirs(of)


def test_batches_are_filled_and_a_large_record_is_alone() -> None:
    of: list[Record] = [(b"%d" % number, b"x" * 400, ()) for number in range(8)]
    of.insert(4, (b"large", b"x" * 5_000, ()))
    batches = batches_of(of, 1_000, 10_000)
    assert [len(encoded.records) for encoded in batches] == [2, 2, 1, 2, 2]
    read = [record for encoded in batches for batch in MemoryRecords(ours(encoded)) for record in batch]
    assert [(record.key, record.value, tuple(record.headers)) for record in read] == of


def test_a_record_that_no_request_can_hold_is_refused_before_it_is_sent() -> None:
    with pytest.raises(MessageSizeTooLargeError, match="at most 1,000 are sent"):
        batches_of([(b"k", b"x" * 1_000, ())], 500, 1_000)


# --- what becomes of them -------------------------------------------------------------------------


def a_batch_of(count: int) -> tuple[RecordAccumulator, _Batch, Sent]:
    accumulator = RecordAccumulator(batch_size=SIZE_MAX, message_version=2, delivery_timeout_ms=100_000)
    of: list[Record] = [(b"%d" % number, b"v", ()) for number in range(count)]
    (encoded,) = batches_of(of)
    batch = _Batch(PARTITION, _built(encoded, TIME, CONFIG))
    _append(accumulator, batch)
    return accumulator, batch, Sent(batch, of)


def soon() -> float:
    return time.monotonic() + 5.0


def test_offsets_follow_from_the_first() -> None:
    _, batch, sent = a_batch_of(3)
    batch.complete(17, -1)
    assert sent.errors(soon()) == [None, None, None]
    assert list(sent.offsets) == [17, 18, 19]
    assert sent.appended_at is None
    assert (sent.partition, len(sent.records)) == (PARTITION, 3)


def test_the_time_of_the_broker_is_known() -> None:
    _, batch, sent = a_batch_of(2)
    batch.complete(0, 5_000)
    assert sent.appended_at == 5_000


def test_each_record_has_its_own_error() -> None:
    _, batch, sent = a_batch_of(2)
    refused, with_it = InvalidRecordError("bad"), KafkaError("with it")
    batch.done(
        base_offset=0,
        timestamp_ms=-1,
        top_level_exception=refused,
        record_exceptions_fn=lambda number: (refused, with_it)[number],
    )
    assert sent.errors(soon()) == [refused, with_it]
    assert sent.reached_the_broker(0)


def test_what_was_given_up_has_not_reached_the_broker() -> None:
    _, batch, sent = a_batch_of(1)
    batch.abort(KafkaError("given up"))
    assert not sent.reached_the_broker(0)


def test_without_an_answer_all_have_failed() -> None:
    _, _, sent = a_batch_of(2)
    assert [type(error) for error in sent.errors(time.monotonic())] == [KafkaTimeoutError] * 2


def test_a_batch_that_the_library_splits_reports_the_halves() -> None:
    accumulator, batch, sent = a_batch_of(5)
    accumulator._batches[PARTITION].popleft()
    batch.records.close()
    assert accumulator.split_and_reenqueue(batch) == 2
    first, second = accumulator._batches[PARTITION]
    first.complete(100, 7_000)
    second.complete(200, 7_001)
    assert sent.errors(soon()) == [None] * 5
    assert list(sent.offsets) == [100, 101, 102, 200, 201]
    assert sent.appended_at == 7_001


def test_a_half_of_a_split_batch_may_fail_alone() -> None:
    accumulator, batch, sent = a_batch_of(2)
    accumulator._batches[PARTITION].popleft()
    batch.records.close()
    accumulator.split_and_reenqueue(batch)
    first, second = accumulator._batches[PARTITION]
    first.complete(100, -1)
    error = MessageSizeTooLargeError("still")
    second.done(
        base_offset=3, timestamp_ms=-1, top_level_exception=error, record_exceptions_fn=lambda _: error
    )
    assert sent.errors(soon()) == [None, error]
    assert [sent.reached_the_broker(number) for number in (0, 1)] == [True, True]
