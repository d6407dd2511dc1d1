"""Joining a group on a real broker, where the polls of a busy process come late."""

from __future__ import annotations

import time

import pytest
from kafka.structs import MemberState

from daemon.log.kafka.clients import Clients, KafkaConnection
from daemon.log.port import Topics

PARTITIONS = 2
POLLS_MAX = 30

pytestmark = pytest.mark.kafka


def test_a_join_that_is_answered_between_two_polls_counts(kafka_bootstrap: str, topic_names: Topics) -> None:
    """kafka-python 3.0.12 forgot it and joined again, which was answered between two polls, and so on."""
    clients = Clients(KafkaConnection((kafka_bootstrap,)))
    with clients.admin() as admin:
        admin.create_topics({topic_names.changes: {"num_partitions": PARTITIONS, "replication_factor": 1}})
        consumer = clients.group_consumer(topic_names.changes, "a", 10.0)
        try:
            consumer.subscribe([topic_names.changes])
            consumer.partitions_for_topic(topic_names.changes)
            coordinator = consumer._coordinator
            assert coordinator.ensure_coordinator_ready(timeout_ms=30_000)
            polls = 0
            while coordinator.state is not MemberState.STABLE:
                assert polls < POLLS_MAX, "joins again and again"
                consumer.poll(timeout_ms=0)
                polls += 1
                answered(coordinator)
            assert coordinator._generation.generation_id == 1, "it joined more than once"
        finally:
            consumer.close()
            admin.delete_topics([topic_names.changes])


def answered(coordinator) -> None:
    """Wait outside of any poll until what the poll began has been answered."""
    deadline = time.monotonic() + 30.0
    while coordinator._join_task is not None and not coordinator._join_task.is_done:
        assert time.monotonic() < deadline, "the broker does not answer"
        time.sleep(0.01)
