"""A transaction is encoded before it is handed to the thread that sends it, without asking the broker for anything."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from kafka import TopicPartition

from daemon.config import Topics
from daemon.core.placement import place
from daemon.log.errors import CommitFailedError, RecordRefusedError
from daemon.log.kafka.clients import Clients, KafkaConnection
from daemon.log.kafka.producer import ShardProducer
from daemon.log.port import Message, Transaction

TOPICS = Topics()
PARTITION = 3
KEYS = [b"key %d" % number for number in range(20)]
STEP = Transaction([(b"k", b"v"), (b"gone", None)], results=[Message(key, b"result") for key in KEYS])


class _Client:
    """What encoding needs of an open producer."""

    def __init__(self) -> None:
        self.partitions: dict[str, set[int] | None] = {TOPICS.results: {0, 1, 2, 3}}
        self._metadata = SimpleNamespace(partitions_for_topic=lambda topic: self.partitions[topic])
        self.config = {"batch_size": 262_144, "max_request_size": 1_000_000}


@pytest.fixture
def client() -> _Client:
    return _Client()


@pytest.fixture
def producer(client: _Client) -> ShardProducer:
    made: Any = ShardProducer(Clients(KafkaConnection(("127.0.0.1:1",))), TOPICS, PARTITION)
    made._producer, made._counts = client, {TOPICS.results: 4}
    own: ShardProducer = made
    return own


def places(producer: ShardProducer) -> dict[TopicPartition, list[bytes | None]]:
    return {batch.partition: [key for key, _, _ in batch.records] for batch in producer.prepare(STEP).batches}


def expected(partitions: int) -> dict[TopicPartition, list[bytes | None]]:
    found: dict[TopicPartition, list[bytes | None]] = {
        TopicPartition(TOPICS.journal, PARTITION): [b"k", b"gone"]
    }
    for key in KEYS:
        found.setdefault(TopicPartition(TOPICS.results, place(key, partitions)), []).append(key)
    return found


def test_each_record_goes_where_its_readers_expect_it(producer: ShardProducer) -> None:
    assert places(producer) == expected(4)


def test_while_leaders_are_not_known_the_last_known_partitions_count(
    producer: ShardProducer, client: _Client
) -> None:
    client.partitions[TOPICS.results] = set(range(6))
    assert places(producer) == expected(6)
    for unknown in (None, set[int]()):
        client.partitions[TOPICS.results] = unknown
        assert places(producer) == expected(6)


def test_a_record_that_no_request_can_hold_ends_the_producer(producer: ShardProducer) -> None:
    step = Transaction([(b"k", b"x" * 1_000_000)])
    with pytest.raises(RecordRefusedError, match=r"key b'k' for .*1,000,000 bytes"):
        producer.prepare(step)
    with pytest.raises(CommitFailedError, match="has failed"):
        producer.prepare(STEP)


def test_a_transaction_without_records_is_refused(producer: ShardProducer) -> None:
    with pytest.raises(ValueError, match="proves nothing"):
        producer.prepare(Transaction([]))
