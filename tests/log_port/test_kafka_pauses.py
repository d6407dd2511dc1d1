"""Pausing and resuming partitions of a real broker."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from kafka import KafkaConsumer, TopicPartition

from daemon.core.placement import place
from daemon.log.errors import LogError
from daemon.log.kafka.clients import Clients, KafkaConnection
from daemon.log.kafka.cures.fetching import PARKED_BYTES_MAX
from daemon.log.port import Topics
from daemon.log.topic_access import Publisher
from tests import record_batch as wire

MIB = 1024 * 1024
PATIENCE = 60.0
"""Seconds, for a machine that does other things too."""

pytestmark = pytest.mark.kafka


@pytest.fixture
def connection(kafka_bootstrap: str, topic_names: Topics) -> KafkaConnection:
    connection = KafkaConnection((kafka_bootstrap,))
    with Clients(connection).admin() as admin:
        admin.create_topics({topic_names.changes: {"num_partitions": 2, "replication_factor": 1}})
    deadline = time.monotonic() + PATIENCE
    while True:  # the broker may know it a moment later
        try:
            Publisher(connection, topic_names.changes).close()
        except LogError:
            assert time.monotonic() < deadline
        else:
            return connection


@pytest.fixture
def consumer(connection: KafkaConnection, topic_names: Topics) -> Iterator[KafkaConsumer]:
    """As the daemon's own, at the start of both partitions."""
    with closing(Clients(connection).group_consumer(topic_names.changes, None, 10.0)) as consumer:
        consumer.assign([TopicPartition(topic_names.changes, number) for number in range(2)])
        consumer.seek_to_beginning()
        yield consumer


def test_a_resumed_partition_goes_on_though_nothing_comes_in_the_others(
    connection: KafkaConnection, consumer: KafkaConsumer, topic_names: Topics
) -> None:
    """kafka-python 3.0.12 forgot what it had read ahead of a paused partition, and so read it no more."""
    paused, other = (TopicPartition(topic_names.changes, number) for number in range(2))
    counted: dict[TopicPartition, int] = {paused: 0, other: 0}

    def poll_until(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, counted
            for partition, records in consumer.poll(timeout_ms=50).items():
                counted[partition] += len(records)

    publish(connection, paused, 700)
    poll_until(lambda: counted[paused] == 500)  # one poll's worth of the one fetch that has brought all
    consumer.pause(paused)
    publish(connection, other, 1)
    poll_until(lambda: counted[other] == 1)
    assert counted[paused] == 500

    consumer.resume(paused)
    poll_until(lambda: counted[paused] == 700)


@pytest.mark.parametrize("codec", [wire.ZSTD, wire.LZ4, 0], ids=["zstd", "lz4", "uncompressed"])
def test_paused_partitions_keep_few_decompressed_batches_and_lose_nothing(
    kafka_bootstrap: str, topic_names: Topics, codec: int
) -> None:
    """kafka-python 3.0.12 kept one for each partition that was paused in the middle of it."""
    clients = Clients(KafkaConnection((kafka_bootstrap,)))
    topic, count = topic_names.changes, 4
    size = 700_000 if codec else 100_000
    values = [bytes([number]) * size for number in range(30 if codec else 8)]
    settings = {"max.message.bytes": str(2 * MIB)}
    with clients.admin() as admin:
        admin.create_topics({topic: {"num_partitions": count, "replication_factor": 1, "configs": settings}})
    records = [wire.record(value, offset) for offset, value in enumerate(values)]
    content = wire.compressed(codec, records) if codec else b"".join(records)
    for number in range(count):
        for _ in range(2):
            batch = wire.batch(content, codec=codec, count=len(values))
            wire.produce(kafka_bootstrap, topic, number, batch)
    read: dict[TopicPartition, list[int]] = {TopicPartition(topic, number): [] for number in range(count)}
    with closing(clients.group_consumer(topic, None, 10.0)) as consumer:
        consumer.assign(list(read))
        consumer.seek_to_beginning()
        deadline, most = time.monotonic() + PATIENCE, 0
        while any(len(offsets) < 2 * len(values) for offsets in read.values()):
            assert time.monotonic() < deadline, {tp.partition: len(offsets) for tp, offsets in read.items()}
            for tp, polled in consumer.poll(timeout_ms=50, max_records=3).items():
                read[tp] += [record.offset for record in polled]
                assert [record.value[0] for record in polled] == [r.offset % len(values) for r in polled]
                consumer.pause(tp)  # in the middle of a batch, as a rule
            parked = consumer._fetcher._paused_partition_records
            most = max(most, sum(part.bytes_held for part in parked.values()))
            if len(consumer.paused()) == count:
                consumer.poll(timeout_ms=0)
                consumer.resume(*read)
        assert 0 < most <= PARKED_BYTES_MAX
    assert all(offsets == list(range(2 * len(values))) for offsets in read.values())


def publish(connection: KafkaConnection, to: TopicPartition, count: int) -> None:
    key = next(key for key in (b"a", b"b", b"c", b"d") if place(key, 2) == to.partition)
    with Publisher(connection, to.topic) as publisher:
        for _ in range(count):
            publisher.send(key, b"{}")
