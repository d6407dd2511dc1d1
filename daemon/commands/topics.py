"""``coursesyncd topics``: creates the topics and corrects their settings.

The plan is a pure function of the existing topics, so it can be read, tested and printed. The command carries it out. An
existing input or results topic is never changed: it belongs to its publisher or its readers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import click
from kafka.errors import InvalidReplicationFactorError

from daemon.commands.connections import kafka_connection
from daemon.commands.options import config_option, settings_or_exit
from daemon.log.errors import LogError
from daemon.log.kafka.admin import Admin, NewTopic, TopicFacts, create_topics, describe_topics
from daemon.log.kafka.clients import Clients
from daemon.log.kafka.topic_settings import (
    CONTROL,
    COURSES,
    DEAD_LETTERS,
    JOURNAL,
    add_partitions,
    alter_topic,
)
from daemon.log.port import Topics

PARTITIONS_DEFAULT = 6
REPLICAS_SAFE = 3
IN_SYNC_SAFE = "2"
"""With three replicas, an acknowledged record survives the loss of any one broker."""
ANOTHER_CONTROL = (
    "Delete it (the decisions in it are lost, so note them before: coursesyncd integrations), or name another topic in "
    "topics.control; then run: coursesyncd topics create"
)

Facts = Mapping[str, TopicFacts | None]
"""The existing topics by name; None for one that does not exist."""


@dataclass(frozen=True, slots=True)
class TopicStep:
    """The changes to one existing topic; none if its settings are right."""

    name: str
    configs: Mapping[str, str] = field(default_factory=dict)
    was: Mapping[str, str] = field(default_factory=dict)
    partitions: int | None = None
    """The number of partitions that it gets; None if it has enough."""


class TopicsError(Exception):
    """The operator must decide how to correct the topics. The message says what."""


def differing(facts: TopicFacts, wanted: Mapping[str, str]) -> dict[str, str]:
    """The required settings that a topic does not meet. Its limit on record sizes may be larger than required."""
    return {
        name: value
        for name, value in wanted.items()
        if not _good_enough(name, facts.configs.get(name, ""), value)
    }


def _good_enough(name: str, found: str, wanted: str) -> bool:
    if name in ("cleanup.policy", "message.timestamp.type"):
        return found == wanted
    try:
        is_, want = float(found), float(wanted)
    except ValueError:
        return False
    if name in ("max.message.bytes", "min.insync.replicas", "min.compaction.lag.ms"):
        return is_ >= want
    return is_ <= want  # segment size and compaction limits: smaller is stricter


def plan(
    topics: Topics, facts: Facts, *, partitions: int | None, replication_factor: int | None
) -> Iterator[NewTopic | TopicStep]:
    """One step per topic, in order: a topic to be created, or the changes to an existing one (possibly none).

    ``partitions`` applies if the input must be created. A ``replication_factor`` of None is the broker's default.

    Raises:
        TopicsError: the partition counts contradict each other.
    """
    existing = facts[topics.changes]
    count = existing.partitions if existing is not None else (partitions or PARTITIONS_DEFAULT)
    if existing is not None and partitions not in (None, existing.partitions):
        raise TopicsError(
            f"{topics.changes} exists with {existing.partitions} partitions, but --partitions is {partitions}. "
            "Its number of partitions is up to its publisher (more of them would reorder the changes of a course): "
            "leave --partitions out"
        )
    journal = facts[topics.journal]
    if journal is not None and journal.partitions > count:
        raise TopicsError(
            f"{topics.journal} has {journal.partitions} partitions and {topics.changes} {count}: each input partition needs "
            "its own journal partition, and partitions cannot be removed. If the input was deleted and created again, "
            f"delete {topics.journal} too (open changes are lost), then run this command again"
        )
    if journal is not None and journal.partitions < count:
        raise TopicsError(
            f"{topics.changes} has {count} partitions and {topics.journal} {journal.partitions}: courses may have moved "
            f"to other partitions. `coursesyncd topics grow --partitions {count}` checks whether adding partitions is safe, and adds them"
        )
    control = facts[topics.control]
    if control is not None and control.partitions != 1:
        raise TopicsError(
            f"{topics.control} has {control.partitions} partitions: the last decision counts, so there must be exactly one. "
            f"{ANOTHER_CONTROL}"
        )
    own = {
        topics.journal: JOURNAL,
        topics.dead_letters: DEAD_LETTERS,
        topics.courses: COURSES,
        topics.control: CONTROL,
    }
    for name in topics.names:
        found = facts[name]
        wanted = dict(own.get(name, {}))
        replicas = found.replication_factor if found is not None else (replication_factor or 0)
        if replicas >= REPLICAS_SAFE:
            wanted["min.insync.replicas"] = IN_SYNC_SAFE
        if found is None:
            partition_count = 1 if name == topics.control else count
            yield NewTopic(name, partition_count, replication_factor, wanted)
            continue
        configs = differing(found, wanted) if name in own else {}
        was = {key: found.configs.get(key, "unset") for key in configs}
        # Each shard names the partition of its courses itself, so more partitions move no course.
        lacks = name == topics.courses and found.partitions < count
        yield TopicStep(name, configs, was, count if lacks else None)


@click.group(name="topics")
def topics_group() -> None:
    """The Kafka topics."""


@topics_group.command(name="create")
@config_option
@click.option(
    "--partitions",
    type=click.IntRange(1, 10_000),
    help=f"Partitions of a new input topic, and of the others. Default: {PARTITIONS_DEFAULT}.",
)
@click.option(
    "--replication-factor",
    type=click.IntRange(1, 32),
    help="Replicas of new topics; 3 in production. Default: the broker's.",
)
def create(*, config_file: Path | None, partitions: int | None, replication_factor: int | None) -> None:
    """Create missing topics and correct their settings.

    Corrects the settings of journal, dead letters, courses and control. Existing input and results topics are left unchanged.
    Running it again is safe.
    """
    settings = settings_or_exit(config_file, unneeded=frozenset({"kombo"}))
    topics = settings.topics
    try:
        admin = Admin(Clients(kafka_connection(settings.kafka)))
        try:
            carry_out(admin, topics, partitions=partitions, replication_factor=replication_factor)
        finally:
            admin.close()
    except (LogError, TopicsError) as error:
        raise click.ClickException(str(error)) from None


def carry_out(
    admin: Admin, topics: Topics, *, partitions: int | None, replication_factor: int | None
) -> None:
    """Plan and carry out the steps, and print a line for each topic.

    Raises:
        LogError: the cluster did not answer, or refused.
        TopicsError: see `plan`.
    """
    facts = admin.ask(lambda client: describe_topics(client, topics.names))
    steps = list(plan(topics, facts, partitions=partitions, replication_factor=replication_factor))
    for step in steps:
        if isinstance(step, NewTopic):
            _create(admin, step)
        else:
            _change(admin, step)


def _create(admin: Admin, topic: NewTopic) -> None:
    try:
        admin.ask(lambda client: create_topics(client, [topic]))
    except LogError as error:
        if not isinstance(error.__cause__, InvalidReplicationFactorError):
            raise
        replicas = topic.replication_factor or "its default number of"
        raise TopicsError(
            f"{topic.name} was not created: the cluster has too few brokers for {replicas} replicas. Start more brokers, or "
            f"use a smaller --replication-factor (not below {REPLICAS_SAFE} in production)"
        ) from None
    settings = ", ".join(f"{name}={value}" for name, value in topic.configs.items())
    click.echo(f"{topic.name}: created, partitions={topic.partitions}{', ' if settings else ''}{settings}")


def _change(admin: Admin, change: TopicStep) -> None:
    told: list[str] = []
    if (partitions := change.partitions) is not None:
        admin.ask(lambda client: add_partitions(client, change.name, partitions))
        told.append(f"partitions={partitions}")
    if change.configs:
        admin.ask(lambda client: alter_topic(client, change.name, change.configs))
        told += [f"{name}={value} (was {change.was[name]})" for name, value in change.configs.items()]
    click.echo(f"{change.name}: {', '.join(told) if told else 'exists, left unchanged'}")
