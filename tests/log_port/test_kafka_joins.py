"""Joining a group on a real broker, where the polls of a busy process come late."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from kafka import ConsumerRebalanceListener, KafkaConsumer
from kafka.structs import MemberState

from daemon.log.kafka.clients import Clients, KafkaConnection
from daemon.log.port import Topics

PARTITIONS = 2
PATIENCE = 30.0
"""Seconds, for a machine that does other things too."""

pytestmark = pytest.mark.kafka


def test_a_join_that_is_answered_between_two_polls_counts(
    kafka_bootstrap: str, topic_names: Topics, caplog: pytest.LogCaptureFixture
) -> None:
    """kafka-python 3.0.12 forgot it and joined again, which was answered between two polls, and so on."""
    caplog.set_level(logging.INFO, "kafka.coordinator")
    clients = Clients(KafkaConnection((kafka_bootstrap,)))
    with clients.admin() as admin:
        admin.create_topics({topic_names.changes: {"num_partitions": PARTITIONS, "replication_factor": 1}})
    with member(clients, topic_names) as first:
        # Of a broker that has just started the first joins may be refused.
        poll_until_stable(first, poll_ms=1000, between=lambda: None)
    caplog.clear()
    with member(clients, topic_names) as second:
        poll_until_stable(second, poll_ms=0, between=lambda: await_answer(second))
        assert len(second.assignment()) == PARTITIONS
        joins = [line for line in caplog.messages if line.startswith("Successfully joined group")]
        assert len(joins) == 1


class FromTheStart(ConsumerRebalanceListener):
    """Gives each partition a position, as the daemon does: there is no other."""

    def __init__(self, consumer: KafkaConsumer) -> None:
        self._consumer = consumer

    def on_partitions_revoked(self, revoked) -> None:
        pass

    def on_partitions_assigned(self, assigned) -> None:
        for partition in assigned:
            self._consumer.seek(partition, 0)


@contextmanager
def member(clients: Clients, topics: Topics) -> Iterator[KafkaConsumer]:
    consumer = clients.group_consumer(topics.changes, None, 10.0)
    try:
        consumer.subscribe([topics.changes], listener=FromTheStart(consumer))
        consumer.partitions_for_topic(topics.changes)
        yield consumer
    finally:
        consumer.close()


def poll_until_stable(consumer: KafkaConsumer, poll_ms: int, between) -> None:
    deadline = time.monotonic() + PATIENCE
    while consumer._coordinator.state is not MemberState.STABLE:
        assert time.monotonic() < deadline, "it joins again and again"
        consumer.poll(timeout_ms=poll_ms)
        between()


def await_answer(consumer: KafkaConsumer) -> None:
    """Wait outside of any poll until what the poll began has been answered."""
    deadline = time.monotonic() + PATIENCE
    coordinator = consumer._coordinator
    while coordinator._join_task is not None and not coordinator._join_task.is_done:
        assert time.monotonic() < deadline, "the broker does not answer"
        time.sleep(0.01)
