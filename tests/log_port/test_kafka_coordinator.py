"""Membership as the client library keeps it, on a real broker: what we have cured of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from kafka import ConsumerRebalanceListener, KafkaConsumer, TopicPartition
from kafka.structs import MemberState

from daemon.log.kafka.clients import Clients, KafkaConnection
from daemon.log.port import Topics
from tests.sandbox.broker import Broker

PARTITIONS = 2
POLLS = 10
PATIENCE = 60.0
"""Seconds, for a machine that does other things too."""
SESSION_TIMEOUT = 60.0
"""Seconds: no member is given up here."""

pytestmark = pytest.mark.kafka


def test_a_join_that_is_answered_between_two_polls_counts(
    kafka_bootstrap: str, topic_names: Topics, caplog: pytest.LogCaptureFixture
) -> None:
    """kafka-python 3.0.12 forgot it and joined again, which was answered between two polls, and so on."""
    caplog.set_level(logging.INFO, "kafka.coordinator")
    clients = Clients(KafkaConnection((kafka_bootstrap,)))
    make_topic(clients, topic_names.changes)
    with member(clients, topic_names) as first:
        # Of a broker that has just started the first joins may be refused.
        poll_until_stable(first, poll_ms=1000, between=lambda: None)
    caplog.clear()
    with member(clients, topic_names) as second:
        poll_until_stable(second, poll_ms=0, between=lambda: await_answer(second))
        assert len(second.assignment()) == PARTITIONS
        joins = [line for line in caplog.messages if line.startswith("Successfully joined group")]
        assert len(joins) == 1


def test_a_leader_that_joins_because_partitions_were_added_brings_it_to_its_end(
    kafka_bootstrap: str, topic_names: Topics
) -> None:
    """kafka-python 3.0.12 gave the join up when a poll ended between the two answers that it takes, and the member
    was without partitions and heartbeats from then on.
    """
    clients = Clients(KafkaConnection((kafka_bootstrap,)))
    make_topic(clients, topic_names.changes)
    with member(clients, topic_names) as consumer, clients.admin() as admin:
        poll_until_stable(consumer, poll_ms=1000, between=lambda: None)
        admin.create_partitions({topic_names.changes: PARTITIONS + 1})
        cluster = consumer._client.cluster
        deadline = time.monotonic() + PATIENCE
        while len(cluster.partitions_for_topic(topic_names.changes)) == PARTITIONS:
            assert time.monotonic() < deadline, "the new partition is not seen"
            cluster.request_update()
            time.sleep(0.01)
        while len(consumer.assignment()) == PARTITIONS:
            assert time.monotonic() < deadline, "the new partition is not assigned"
            consumer.poll(timeout_ms=0)
            await_answer(consumer)


def test_a_poll_waits_while_the_broker_hangs(own_broker: Broker, topic_names: Topics) -> None:
    """kafka-python 3.0.12 went round and round as soon as a heartbeat was overdue, and kept a callback of each round
    until the broker answered: a replica grew by 100 MB while its broker was frozen for 7 seconds.
    """
    clients = Clients(KafkaConnection((own_broker.bootstrap,)))
    make_topic(clients, topic_names.changes)
    with member(clients, topic_names) as consumer:
        poll_until_stable(consumer, poll_ms=1000, between=lambda: None)
        rounds = count_rounds(consumer)
        own_broker.freeze()
        try:
            poll_until(consumer, lambda: heartbeat_is_overdue(consumer))
            rounds.clear()
            for _ in range(POLLS):
                consumer.poll(timeout_ms=50)
        finally:
            own_broker.thaw()
        assert len(rounds) < 10 * POLLS  # some turn early by a fraction of a millisecond


def test_a_heartbeat_that_is_unanswered_when_a_member_leaves_is_no_error(
    own_broker: Broker, topic_names: Topics, caplog: pytest.LogCaptureFixture
) -> None:
    """kafka-python 3.0.12 reported it as it reports a failure of the broker."""
    clients = Clients(KafkaConnection((own_broker.bootstrap,)))
    make_topic(clients, topic_names.changes)
    with member(clients, topic_names, "replica-0") as consumer:  # a static member does not ask to leave
        poll_until_stable(consumer, poll_ms=1000, between=lambda: None)
        own_broker.freeze()
        try:
            poll_until(consumer, lambda: heartbeat_is_overdue(consumer))
            caplog.clear()
            consumer.close()
        finally:
            own_broker.thaw()
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


class FromTheStart(ConsumerRebalanceListener):  # type: ignore[misc]  # the client has no types
    """Gives each partition a position, as the daemon does: there is no other."""

    def __init__(self, consumer: KafkaConsumer) -> None:
        self._consumer = consumer

    def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        pass

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        for partition in assigned:
            self._consumer.seek(partition, 0)


def make_topic(clients: Clients, name: str) -> None:
    with clients.admin() as admin:
        admin.create_topics({name: {"num_partitions": PARTITIONS, "replication_factor": 1}})


@contextmanager
def member(clients: Clients, topics: Topics, instance_id: str | None = None) -> Iterator[KafkaConsumer]:
    consumer = clients.group_consumer(topics.changes, instance_id, SESSION_TIMEOUT)
    try:
        consumer.subscribe([topics.changes], listener=FromTheStart(consumer))
        consumer.partitions_for_topic(topics.changes)
        yield consumer
    finally:
        consumer.close()


def poll_until_stable(consumer: KafkaConsumer, poll_ms: int, between: Callable[[], None]) -> None:
    deadline = time.monotonic() + PATIENCE
    while consumer._coordinator.state is not MemberState.STABLE:
        assert time.monotonic() < deadline, "it joins again and again"
        consumer.poll(timeout_ms=poll_ms)
        between()


def poll_until(consumer: KafkaConsumer, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "the broker answers"
        consumer.poll(timeout_ms=50)


def heartbeat_is_overdue(consumer: KafkaConsumer) -> bool:
    heartbeat = consumer._coordinator.heartbeat
    return bool(heartbeat.should_heartbeat() and heartbeat.last_send > heartbeat.last_receive)


def count_rounds(consumer: KafkaConsumer) -> list[None]:
    """Gets an entry each time that a poll of this consumer looks for records."""
    rounds: list[None] = []
    fetch_records = consumer._fetcher.fetch_records

    def counted(*args: Any, **kwargs: Any) -> Any:
        rounds.append(None)
        return fetch_records(*args, **kwargs)

    consumer._fetcher.fetch_records = counted
    return rounds


def await_answer(consumer: KafkaConsumer) -> None:
    """Wait outside of any poll until what the poll began has been answered."""
    deadline = time.monotonic() + PATIENCE
    coordinator = consumer._coordinator
    while coordinator._join_task is not None and not coordinator._join_task.is_done:
        assert time.monotonic() < deadline, "the broker does not answer"
        time.sleep(0.01)
