"""Describing and creating topics, and reading offsets.

Functions take an admin client (`Clients.admin`), block, and raise the library's `KafkaError`. Create a new client after
an error, because a client keeps using coordinators that have moved.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

from kafka import IsolationLevel, KafkaAdminClient, OffsetAndMetadata, OffsetSpec, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import (
    AuthorizationError,
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    KafkaError,
    NotCoordinatorError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    for_code,
)

from daemon.log.errors import LogError
from daemon.log.kafka.authorization_errors import denied
from daemon.log.kafka.clients import Clients
from daemon.log.kafka.worker import report_progress
from daemon.log.port import InputFacts, Topics

_T = TypeVar("_T")

COORDINATOR_WITHIN = 10.0
"""Seconds. The first request about a group makes the cluster create the topic that holds group offsets."""
COORDINATOR_PAUSE = 0.2

_NO_SUCH_TOPIC = UnknownTopicOrPartitionError.errno


@dataclass(frozen=True, slots=True)
class TopicFacts:
    """An existing topic."""

    name: str
    topic_id: str
    partitions: int
    replication_factor: int
    """That of the partition with the fewest replicas."""
    configs: Mapping[str, str] = field(default_factory=dict)
    """All effective settings, including defaults."""


@dataclass(frozen=True, slots=True)
class NewTopic:
    """A topic to be created. The replication factor None is the broker's default."""

    name: str
    partitions: int
    replication_factor: int | None = None
    configs: Mapping[str, str] = field(default_factory=dict)


class Admin:
    """Keeps one admin client and drops it after an error. Methods block; call them from one thread."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._client: KafkaAdminClient | None = None

    def ask(self, question: Callable[[KafkaAdminClient], _T]) -> _T:
        """The result of `question`, which is a function of the client.

        Raises:
            LogError: the cluster did not answer, or refused.
        """
        try:
            if self._client is None:
                self._client = self._clients.admin()
            return question(self._client)
        except KafkaError as error:
            why = self._clients.explained(error, self._client)
            self.close()
            raise LogError(why) from error

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with suppress(Exception):
                client.close()


def describe_topics(client: KafkaAdminClient, names: Iterable[str]) -> dict[str, TopicFacts | None]:
    """The facts about each topic; None for a topic that does not exist.

    Raises:
        LogError: this user may not describe them or their settings.
    """
    names = list(names)
    facts = {name: _shape(client, name) for name in names}
    existing = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names if facts[name]]
    described = client.describe_configs(existing, config_filter="all")["topic"] if existing else {}
    for name, configs in described.items():
        if not configs:  # the library ignores the error; without an error there are always some
            raise LogError(denied("DescribeConfigs", f"topic {name}"))
    return {
        name: None
        if shape is None
        else TopicFacts(*shape, {key: entry["value"] for key, entry in described[name].items()})
        for name, shape in facts.items()
    }


def create_topics(client: KafkaAdminClient, topics: Iterable[NewTopic]) -> None:
    """Create topics and wait until they can be used.

    Raises:
        TopicAlreadyExistsError: one of them exists; the others may have been created.
        LogError: this user may not create one of them.
    """
    wanted = {
        topic.name: {
            "num_partitions": topic.partitions,
            "replication_factor": -1 if topic.replication_factor is None else topic.replication_factor,
            "configs": dict(topic.configs),
        }
        for topic in topics
    }
    try:
        client.create_topics(wanted, wait_for_metadata=True)
    except AuthorizationError as error:
        raise LogError(denied("Create", f"topic {', '.join(wanted)}")) from error


def partition_count(client: KafkaAdminClient, topic: str) -> int | None:
    """None if there is no such topic."""
    shape = _shape(client, topic)
    return None if shape is None else shape[2]


def topic_id(client: KafkaAdminClient, topic: str) -> str | None:
    """None if there is no such topic. A topic that was created again has another id."""
    shape = _shape(client, topic)
    return None if shape is None else shape[1]


def offsets(client: KafkaAdminClient, topic: str, partition: int) -> tuple[int, int]:
    """Earliest and end offset of a partition. The end includes uncommitted records: readers of committed records reach
    it once all transactions before it have ended."""
    tp = TopicPartition(topic, partition)
    report_progress()
    earliest: int = client.list_partition_offsets({tp: OffsetSpec.EARLIEST})[tp].offset
    return earliest, _end(client, tp, IsolationLevel.READ_UNCOMMITTED)


def _end(client: KafkaAdminClient, tp: TopicPartition, isolation: IsolationLevel) -> int:
    report_progress()
    found = client.list_partition_offsets({tp: OffsetSpec.LATEST}, isolation_level=isolation)
    end: int = found[tp].offset
    return end


def offset_at(client: KafkaAdminClient, topic: str, partition: int, timestamp: int) -> int | None:
    """The offset of the first record with a timestamp of at least `timestamp` (ms since the epoch); None if there is
    none."""
    tp = TopicPartition(topic, partition)
    report_progress()
    found: int = client.list_partition_offsets({tp: timestamp})[tp].offset
    return None if found < 0 else found


def journal_end(client: KafkaAdminClient, topic: str, partition: int) -> int | None:
    """The end offset of a journal partition; None if there is no such partition."""
    partitions = partition_count(client, topic)
    if partitions is None or partition >= partitions:
        return None
    return _end(client, TopicPartition(topic, partition), IsolationLevel.READ_UNCOMMITTED)


def input_facts(client: KafkaAdminClient, topics: Topics, partition: int, group_id: str) -> InputFacts:
    """The current facts about an input partition, including the offset that the group has committed. A partition that
    the topic does not have yet is reported as empty.

    Raises:
        UnknownTopicOrPartitionError: the input topic or the journal topic does not exist.
    """
    _, topic_id, partitions, _ = _existing(client, topics.changes)
    _, _, journal_partitions, _ = _existing(client, topics.journal)
    tp = TopicPartition(topics.changes, partition)
    stable = earliest = latest = 0
    if partition < partitions:
        # In this order, because offsets only grow between the requests.
        earliest, latest = offsets(client, topics.changes, partition)
        stable = min(_end(client, tp, IsolationLevel.READ_COMMITTED), latest)
    group_offset = _group_offset(client, group_id, tp)
    return InputFacts(
        topic_id=topic_id,
        partitions=partitions,
        earliest=earliest,
        stable=stable,
        latest=latest,
        group_offset=group_offset,
        journal_partitions=journal_partitions,
        courses_partitions=partition_count(client, topics.courses) or 0,
    )


def _group_offset(client: KafkaAdminClient, group_id: str, tp: TopicPartition) -> int | None:
    deadline = time.monotonic() + COORDINATOR_WITHIN
    while True:
        report_progress()
        try:
            committed = client.list_group_offsets({group_id: [tp]})[group_id].get(tp)
        except AuthorizationError as error:
            raise LogError(denied("Describe", f"group {group_id}")) from error
        except (CoordinatorNotAvailableError, CoordinatorLoadInProgressError, NotCoordinatorError):
            if time.monotonic() > deadline:
                raise
            time.sleep(COORDINATOR_PAUSE)
        else:
            return None if committed is None or committed.offset < 0 else int(committed.offset)


def commit_group_offset(
    client: KafkaAdminClient, topic: str, partition: int, group_id: str, offset: int
) -> None:
    """Commit an offset for a group without members. A group with members commits its own offsets.

    Raises:
        KafkaError: the group has members, or the cluster refused.
    """
    tp = TopicPartition(topic, partition)
    client.alter_group_offsets(group_id, {tp: OffsetAndMetadata(offset, "", -1)})


def _existing(client: KafkaAdminClient, topic: str) -> tuple[str, str, int, int]:
    shape = _shape(client, topic)
    if shape is None:
        raise UnknownTopicOrPartitionError(f"topic {topic} does not exist")
    return shape


def _shape(client: KafkaAdminClient, name: str) -> tuple[str, str, int, int] | None:
    """Name, id, partitions, replication factor."""
    report_progress()
    (topic,) = client.describe_topics([name])
    if topic["error_code"] == _NO_SUCH_TOPIC:
        return None
    if topic["error_code"] == TopicAuthorizationFailedError.errno:
        raise LogError(denied("Describe", f"topic {name}"))
    if topic["error_code"] != 0:
        raise for_code(topic["error_code"])(f"topic {name} could not be described")
    replicas = min(len(partition["replica_nodes"]) for partition in topic["partitions"])
    return name, str(topic["topic_id"]), len(topic["partitions"]), replicas
