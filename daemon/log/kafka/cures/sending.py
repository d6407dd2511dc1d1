"""Sending records one by one is slow, and a header without a value cannot be sent.

Defect (speed): for each record, `KafkaProducer.send` validates, estimates the size, formats a debug line and asks the
    transaction manager; the accumulator takes a lock; the batch's builder checks types and encodes each number in a loop; and
    a future with two callbacks is made. All records of a step are known at once, and so are their partitions. The daemon
    sends more than three records a change.
Defect: Kafka allows null for a header's value, and the library reads and encodes it. But `KafkaProducer.send` refuses it. A
    dead letter keeps the headers of the rejected record, and an empty value is not null.
Cure: `send_all` encodes the records of each partition in one loop, in the format that the library's builder writes, and gives
    whole batches to the library's accumulator. From there they take its own path: its sender thread, its retries, its
    transactions. A batch has one future; the offsets of its records follow from the first.
Gain: 94 % of the library's CPU time per record (1.4 instead of 24.0 µs; `python -m tests.bench.client_speed`, paired, 21
    rounds of 2,000 records of 300 bytes, two shared cores).
Upstream: not reported.
Versions: 3.0.12.
Remove when: `python -m tests.bench.client_speed` no longer shows a gain worth the code.
    tests/unit/test_kafka_clients.py::test_the_path_of_a_record_is_still_the_one_that_sending_takes fails if a newer version
    sends records differently. tests/unit/test_kafka_sending.py compares the bytes with those of the library.

A broker may refuse a batch for its size. The library then splits it and sends the halves, which report to the futures of
single records; `_Batch` makes these at that moment.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from kafka import KafkaProducer, TopicPartition
from kafka.errors import IllegalStateError, KafkaError, KafkaTimeoutError, MessageSizeTooLargeError
from kafka.producer.future import FutureRecordMetadata
from kafka.producer.producer_batch import ProducerBatch
from kafka.record.default_records import DefaultRecordBatchBuilder
from kafka.record.memory_records import MemoryRecordsBuilder

Record = tuple[bytes | None, bytes | None, tuple[tuple[str, bytes | None], ...]]
"""Key, value and headers."""

_MAGIC = 2
"""The record format since Kafka 0.11."""


_HEADER_BYTES = DefaultRecordBatchBuilder.header_size_in_bytes()


class Sent:
    """Records of one partition that are on their way together."""

    def __init__(self, batch: _Batch, records: Sequence[Record]) -> None:
        self._batch = batch
        self.records = records

    @property
    def partition(self) -> TopicPartition:
        return self._batch.topic_partition

    def errors(self, deadline: float) -> list[KafkaError | None]:
        """Wait for the broker. Why each record has failed, or None for those that the broker has acknowledged.

        `deadline` is by `time.monotonic`. What is unknown by then counts as failed, with a `KafkaTimeoutError`.
        """
        produced = self._batch.produce_future
        if not produced.is_done:
            produced.wait(max(0.0, deadline - time.monotonic()))
        if self._batch.was_split:
            return [_error_of(future, deadline) for future in self._batch.record_futures]
        if not produced.is_done:
            return [KafkaTimeoutError("the broker has not answered in time")] * len(self.records)
        _, _, exception_of = produced.value
        if exception_of is None:
            return [None] * len(self.records)
        return [exception_of(number) for number in range(len(self.records))]

    @property
    def offsets(self) -> Sequence[int]:
        """Of the records, which must be acknowledged."""
        if self._batch.was_split:
            return [future.value.offset for future in self._batch.record_futures]
        first: int = self._batch.produce_future.value[0]
        return range(first, first + len(self.records))

    @property
    def appended_at(self) -> int | None:
        """When the broker wrote the last of the records, which must be acknowledged, by its own clock (ms); None if the topic
        has ``CreateTime``. `RecordMetadata.timestamp` does not say which of the two it is.
        """
        time_ms: int = self._produced(len(self.records) - 1)[1]
        return None if time_ms == -1 else time_ms

    def reached_the_broker(self, number: int) -> bool:
        """Whether this record, which has failed, was sent to the broker.

        Records that wait behind a refused one are given up with the same error. For those the library sets no offset, or -1.
        """
        produced = self._produced(number)
        return produced is not None and produced[0] != -1

    def _produced(self, number: int) -> Any:
        batch = self._batch
        if batch.was_split:
            return batch.record_futures[number]._produce_future.value  # noqa: SLF001
        return batch.produce_future.value


class _Batch(ProducerBatch):  # type: ignore[misc]
    """A batch of the library's that makes futures of single records only when it is split."""

    def __init__(self, partition: TopicPartition, records: MemoryRecordsBuilder) -> None:
        self._futures: list[Any] | None = None
        super().__init__(partition, records)

    @property
    def was_split(self) -> bool:
        return self._futures is not None

    @property
    def record_futures(self) -> list[Any]:
        """Of a batch that was split."""
        assert self._futures is not None
        return self._futures

    @property
    def _record_futures(self) -> list[Any]:
        """Read by `RecordAccumulator.split_and_reenqueue`, and by nothing else."""
        if self._futures is None:
            self._futures = [
                FutureRecordMetadata(self.produce_future, number, None, None, -1, -1, -1)
                for number in range(self.record_count)
            ]
        return self._futures

    @_record_futures.setter
    def _record_futures(self, empty: list[Any]) -> None:
        """The constructor sets it."""


class Encoded(NamedTuple):
    """Records of one partition as they are in one batch."""

    partition: TopicPartition
    records: Sequence[Record]
    data: bytes


def known_partitions(producer: KafkaProducer, topic: str) -> int | None:
    """The number of partitions of a topic, as the producer knows it without asking, which could block. None while its leaders
    are not known, as during the restart of a broker.
    """
    partitions = producer._metadata.partitions_for_topic(topic)  # noqa: SLF001
    return len(partitions) if partitions else None


def encode_all(
    records_of: Mapping[TopicPartition, Sequence[Record]], config: Mapping[str, Any]
) -> list[Encoded]:
    """The batches with these records, those of each partition in their order. `config` is that of the producer.

    Raises:
        MessageSizeTooLargeError: a record is too large.
    """
    return [
        batch
        for partition, records in records_of.items()
        for batch in _batches(partition, records, config["batch_size"], config["max_request_size"])
    ]


def send_all(producer: KafkaProducer, batches: Sequence[Encoded]) -> list[Sent]:
    """Send batches. A transaction must be open, and the client must know the partitions of the topics.

    Raises:
        KafkaError: the transaction has failed already.
    """
    # First, so that one request tells the coordinator of all partitions.
    for partition in {batch.partition: None for batch in batches}:
        producer._transaction_manager.maybe_add_partition_to_transaction(partition)  # noqa: SLF001
    now_ms = int(time.time() * 1000)
    sent = []
    for encoded in batches:
        batch = _Batch(encoded.partition, _built(encoded, now_ms, producer.config))
        _append(producer._accumulator, batch)  # noqa: SLF001
        sent.append(Sent(batch, encoded.records))
    producer._sender.wakeup()  # noqa: SLF001
    return sent


def _batches(
    partition: TopicPartition, records: Sequence[Record], batch_bytes_max: int, record_bytes_max: int
) -> Iterator[Encoded]:
    """As many records together as fit, and at least one."""
    start = 0
    fields: list[bytes] = []
    size = _HEADER_BYTES
    for place, record in enumerate(records):
        encoded = _encode(record, place - start)
        length = len(encoded)
        prefix = _LENGTHS[length] if length < _LENGTHS_MAX else _varint(length << 1)
        length += len(prefix)
        if place > start and size + length > batch_bytes_max:
            yield Encoded(partition, records[start:place], b"".join(fields))
            start, fields, size = place, [], _HEADER_BYTES
            encoded = _encode(record, 0)
            prefix = _length(len(encoded))
            length = len(prefix) + len(encoded)
        if _HEADER_BYTES + length > record_bytes_max:
            raise MessageSizeTooLargeError(
                f"a batch with this record alone has {_HEADER_BYTES + length:,} bytes, and at most "
                f"{record_bytes_max:,} are sent"
            )
        fields += prefix, encoded
        size += length
    if fields:
        yield Encoded(partition, records[start:], b"".join(fields))


def _encode(record: Record, number: int) -> bytes:
    """The record as it is in a batch, without its length, where it is the one with this number."""
    key, value, headers = record
    lengths = _LENGTHS  # almost always sufficient, and saves three calls for each record
    if key is None:
        key, key_length = b"", _NULL
    else:
        size = len(key)
        key_length = lengths[size] if size < _LENGTHS_MAX else _length(size)
    if value is None:
        value, value_length = b"", _NULL
    else:
        size = len(value)
        value_length = lengths[size] if size < _LENGTHS_MAX else _length(size)
    return b"".join(
        (
            b"\0\0",  # no attributes, and the time of the batch
            lengths[number] if number < _LENGTHS_MAX else _length(number),
            key_length,
            key,
            value_length,
            value,
            _encode_headers(headers) if headers else b"\0",
        )
    )


@lru_cache(16)
def _encode_headers(headers: tuple[tuple[str, bytes | None], ...]) -> bytes:
    fields = [_length(len(headers))]
    for name, value in headers:
        encoded = name.encode()
        fields += _length(len(encoded)), encoded
        fields += (_NULL,) if value is None else (_length(len(value)), value)
    return b"".join(fields)


def _length(number: int) -> bytes:
    """A number from 0 on as the format encodes signed ones: zigzag, then seven bits a byte, the lowest first."""
    return _LENGTHS[number] if number < _LENGTHS_MAX else _varint(number << 1)


def _varint(rest: int) -> bytes:
    encoded = bytearray()
    while rest > 0x7F:
        encoded.append(rest & 0x7F | 0x80)
        rest >>= 7
    encoded.append(rest)
    return bytes(encoded)


_NULL = _varint(1)
"""-1, which is the length of null."""
_LENGTHS_MAX = 4096
_LENGTHS = [_varint(number << 1) for number in range(_LENGTHS_MAX)]
"""Nearly all numbers of a batch are among these."""


def _built(encoded: Encoded, time_ms: int, config: Mapping[str, Any]) -> MemoryRecordsBuilder:
    """The library's builder, as if these records had been appended to it one by one."""
    records = MemoryRecordsBuilder(_MAGIC, config["compression_attrs"], config["batch_size"])
    batch = records._builder  # noqa: SLF001
    batch._buffer += encoded.data  # noqa: SLF001
    batch._first_timestamp = batch._max_timestamp = time_ms  # noqa: SLF001
    batch._num_records = records._next_offset = len(encoded.records)  # noqa: SLF001
    batch._last_offset = len(encoded.records) - 1  # noqa: SLF001
    return records


def _append(accumulator: Any, batch: _Batch) -> None:
    """What `RecordAccumulator.append` does with a new batch."""
    accumulator._appends_in_progress.increment()  # noqa: SLF001
    try:
        with accumulator._tp_lock(batch.topic_partition):  # noqa: SLF001
            if accumulator._closed:  # noqa: SLF001
                raise IllegalStateError("RecordAccumulator is closed")
            accumulator._batches[batch.topic_partition].append(batch)  # noqa: SLF001
            accumulator._incomplete.add(batch)  # noqa: SLF001
    finally:
        accumulator._appends_in_progress.decrement()  # noqa: SLF001


def _error_of(future: Any, deadline: float) -> KafkaError | None:
    try:
        future.get(timeout=max(0.0, deadline - time.monotonic()))
    except KafkaError as error:
        return error
    return None
