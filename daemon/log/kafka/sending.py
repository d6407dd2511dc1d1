"""Many records into one transaction, at two thirds of the library's price.

`KafkaProducer.send` checks, estimates, formats a debug line and asks the transaction for permission once per
record: 6 of its 16 µs, and the daemon sends two records or more for each change. What a shard sends is
checked once per transaction instead: the bytes are ours, the topics were looked up when the producer was
opened, and every partition is named before its first record. From there on it is the library's own path
(its accumulator, its sender thread, its futures).

The fields of the library that are read here are those of kafka-python 3.0.x; a test looks whether they are
still there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from kafka import KafkaProducer, TopicPartition

from daemon.log.kafka.clients import RECORD_BYTES_MAX

_SMALL = RECORD_BYTES_MAX // 2
"""Bytes of key and value below which a record with our few headers need not be measured exactly."""


class Outgoing(NamedTuple):
    """A record on its way to a partition that is known."""

    partition: TopicPartition
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


def send_all(producer: KafkaProducer, records: Sequence[Outgoing]) -> list[Any]:
    """Hand over the records, in order, and return a future for each, as `KafkaProducer.send` does. The
    transaction must have been begun, and the topics' partitions be known to the client.

    Raises:
        KafkaError: the transaction has failed already, or a record is too large.
    """
    # First, so that the coordinator hears of all partitions in one request.
    for partition in dict.fromkeys(record.partition for record in records):
        producer._transaction_manager.maybe_add_partition_to_transaction(partition)  # noqa: SLF001
    append, wake_sender = producer._accumulator.append, producer._sender.wakeup  # noqa: SLF001
    futures = []
    for partition, key, value, headers in records:
        if len(key or b"") + len(value or b"") > _SMALL:
            _measure(producer, key, value, headers)
        future, batch_is_full, _, _ = append(partition, None, key, value, headers)
        if batch_is_full:
            wake_sender()
        futures.append(future)
    wake_sender()
    return futures


def reached_the_broker(future: Any) -> bool:
    """Whether a record that has failed was sent. Those that wait behind one that is refused are given up, and
    bear its error too; the library then says -1 where the offset of the batch would be, and nothing otherwise.
    """
    produced = future._produce_future.value  # noqa: SLF001
    return produced is not None and produced[0] != -1


def _measure(
    producer: KafkaProducer, key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]
) -> None:
    size = producer._estimate_size_in_bytes(key, value, headers)  # noqa: SLF001
    producer._ensure_valid_record_size(size)  # noqa: SLF001
