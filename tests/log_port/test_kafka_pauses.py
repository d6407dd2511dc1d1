"""Pausing and resuming partitions of a real broker."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from kafka import KafkaConsumer, TopicPartition

from daemon.core.placement import place
from daemon.log.kafka.clients import Clients, KafkaConnection
from daemon.log.port import Topics
from daemon.log.topic_access import Publisher

PATIENCE = 60.0
"""Seconds, for a machine that does other things too."""

pytestmark = pytest.mark.kafka


@pytest.fixture
def connection(kafka_bootstrap: str, topic_names: Topics) -> KafkaConnection:
    connection = KafkaConnection((kafka_bootstrap,))
    with Clients(connection).admin() as admin:
        admin.create_topics({topic_names.changes: {"num_partitions": 2, "replication_factor": 1}})
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


def publish(connection: KafkaConnection, to: TopicPartition, count: int) -> None:
    key = next(key for key in (b"a", b"b", b"c", b"d") if place(key, 2) == to.partition)
    with Publisher(connection, to.topic) as publisher:
        for _ in range(count):
            publisher.send(key, b"{}")
