"""Sending records one by one is slow.

Defect (speed): `KafkaProducer.send` validates, estimates the size, formats a debug line and asks the transaction manager
    once per record, although all records of a step go to partitions that are known. The daemon sends at least two
    records per change. `send_all` does this work once per transaction. After that, records take the library's own path:
    its accumulator, its sender thread, its futures.
Gain: 56 % of the library's CPU time per record (15.0 instead of 25.7 µs; `python -m tests.bench.client_speed`, paired,
    21 rounds of 2,000 records of 300 bytes, two shared cores).
Upstream: not reported.
Versions: 3.0.12.
Remove when: `python -m tests.bench.client_speed` no longer shows a gain worth the code.
    tests/unit/test_kafka_clients.py::test_the_path_of_a_record_is_still_the_one_that_sending_takes fails if a newer
    version sends records in another way.

The module also reads why a record failed (`reached_the_broker`) and whether its time is the broker's (`appended_at`), which
the library's futures do not report.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from kafka import KafkaProducer, TopicPartition

from daemon.log.kafka.sizes import RECORD_BYTES_MAX

_SMALL = RECORD_BYTES_MAX // 2
"""Bytes of key and value up to which a record with at most one header needs no exact size check."""


class Outgoing(NamedTuple):
    """A record for a known partition."""

    partition: TopicPartition
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


def send_all(producer: KafkaProducer, records: Sequence[Outgoing]) -> list[Any]:
    """Send the records in order and return a future for each, as `KafkaProducer.send` does.

    A transaction must be open, and the client must know the partitions of the topics.

    Raises:
        KafkaError: the transaction has failed already, or a record is too large.
    """
    # First, so that one request tells the coordinator of all partitions.
    for partition in dict.fromkeys(record.partition for record in records):
        producer._transaction_manager.maybe_add_partition_to_transaction(partition)  # noqa: SLF001
    append, wake_sender = producer._accumulator.append, producer._sender.wakeup  # noqa: SLF001
    futures = []
    for partition, key, value, headers in records:
        if len(headers) > 1 or len(key or b"") + len(value or b"") > _SMALL:
            _measure(producer, key, value, headers)
        future, batch_is_full, _, _ = append(partition, None, key, value, headers)
        if batch_is_full:
            wake_sender()
        futures.append(future)
    wake_sender()
    return futures


def reached_the_broker(future: Any) -> bool:
    """Whether a record that has failed was sent to the broker.

    Records that wait behind a refused one are given up with the same error. For those the library sets no offset, or -1.
    """
    produced = future._produce_future.value  # noqa: SLF001
    return produced is not None and produced[0] != -1


def appended_at(future: Any) -> int | None:
    """When the broker wrote the record of this successful future, by its own clock (ms); None if the topic has ``CreateTime``.

    `RecordMetadata.timestamp` does not say which of the two it is.
    """
    time: int = future._produce_future.value[1]  # noqa: SLF001
    return None if time == -1 else time


def _measure(
    producer: KafkaProducer, key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes | None]]
) -> None:
    size = producer._estimate_size_in_bytes(key, value, headers)  # noqa: SLF001
    producer._ensure_valid_record_size(size)  # noqa: SLF001
