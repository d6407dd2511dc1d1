"""``coursesyncd topics``: what the four topics must look like, and making them so.

The plan is a pure function of what is there, so that it can be read, tested and printed; the command
carries it out. Nothing of the input and the results is ever changed once they exist: they belong to
their publisher and readers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import click
from kafka.errors import InvalidReplicationFactorError

from daemon.commands.connections import kafka_connection
from daemon.commands.options import config_option, settings_or_exit
from daemon.log.kafka.admin import Admin, NewTopic, TopicFacts, create_topics, describe_topics
from daemon.log.kafka.clients import Clients
from daemon.log.kafka.topic_settings import DEAD_LETTERS, JOURNAL, alter_topic
from daemon.log.port import LogError, Topics

PARTITIONS_DEFAULT = 6
REPLICAS_SAFE = 3
IN_SYNC_SAFE = "2"
"""With three replicas: a record that was acknowledged survives the loss of any one broker."""

Facts = Mapping[str, TopicFacts | None]
"""What is there, by the topic's name."""


@dataclass(frozen=True, slots=True)
class TopicStep:
    """What to do to one topic that exists; nothing when all is well."""

    name: str
    configs: Mapping[str, str] = field(default_factory=dict)
    was: Mapping[str, str] = field(default_factory=dict)


class TopicsError(Exception):
    """The topics cannot be made right without a decision of the operator. The message says which."""


def differing(facts: TopicFacts, wanted: Mapping[str, str]) -> dict[str, str]:
    """The wanted configs that a topic does not have. A limit on record sizes may be larger than wanted."""
    return {
        name: value
        for name, value in wanted.items()
        if not _good_enough(name, facts.configs.get(name, ""), value)
    }


def _good_enough(name: str, found: str, wanted: str) -> bool:
    if name == "cleanup.policy":
        return found == wanted
    try:
        is_, want = float(found), float(wanted)
    except ValueError:
        return False
    if name in ("max.message.bytes", "min.insync.replicas"):
        return is_ >= want
    return is_ <= want  # segment size and what bounds compaction: smaller is stricter


def plan(
    topics: Topics, facts: Facts, *, partitions: int | None, replication_factor: int | None
) -> Iterator[NewTopic | TopicStep]:
    """What makes the topics right, in order: a topic to be made, or a change (perhaps none) of one.

    ``partitions`` of the input when it has to be made; ``replication_factor`` None: the broker's default.

    Raises:
        TopicsError: the partition counts cannot be brought together.
    """
    existing = facts[topics.changes]
    count = existing.partitions if existing is not None else (partitions or PARTITIONS_DEFAULT)
    if existing is not None and partitions not in (None, existing.partitions):
        raise TopicsError(
            f"{topics.changes} exists with {existing.partitions} partitions, and --partitions says {partitions}. "
            "Its partitions are its publisher's matter (more of them would reorder the changes of a course): "
            "leave --partitions out"
        )
    journal = facts[topics.journal]
    if journal is not None and journal.partitions > count:
        raise TopicsError(
            f"{topics.journal} has {journal.partitions} partitions and {topics.changes} {count}: each partition of "
            "the input has its own in the journal, and partitions cannot be taken away. If the input was made anew, "
            f"let the journal be made anew too: delete {topics.journal} (what was under way is lost), then run this again"
        )
    if journal is not None and journal.partitions < count:
        raise TopicsError(
            f"{topics.changes} has {count} partitions and {topics.journal} {journal.partitions}: courses may have moved "
            f"to other partitions. `coursesyncd topics grow --partitions {count}` looks whether that is safe, and does it"
        )
    own = {topics.journal: JOURNAL, topics.dead_letters: DEAD_LETTERS}
    for name in topics.names:
        found = facts[name]
        wanted = dict(own.get(name, {}))
        replicas = found.replication_factor if found is not None else (replication_factor or 0)
        if replicas >= REPLICAS_SAFE:
            wanted["min.insync.replicas"] = IN_SYNC_SAFE
        if found is None:
            yield NewTopic(name, count, replication_factor, wanted)
            continue
        configs = differing(found, wanted) if name in own else {}
        yield TopicStep(name, configs, {key: found.configs.get(key, "unset") for key in configs})


@click.group(name="topics")
def topics_group() -> None:
    """The Kafka topics."""


@topics_group.command(name="create")
@config_option
@click.option(
    "--partitions",
    type=click.IntRange(1, 10_000),
    help=f"Partitions of the input, where it is missing; of the others too. Default: {PARTITIONS_DEFAULT}.",
)
@click.option(
    "--replication-factor",
    type=click.IntRange(1, 32),
    help="Replicas of the topics that are made; 3 in production. Default: the broker's.",
)
def create(*, config_file: Path | None, partitions: int | None, replication_factor: int | None) -> None:
    """Make the topics right.

    Creates those that are missing, and corrects journal and dead letters. What exists of the input and
    of the results is left as it is. May be run as often as you like.
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
    """Plan, do, and print a line for each topic.

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
            f"{topic.name} was not made: the cluster has too few brokers for {replicas} replicas. Start more, or give a "
            f"smaller --replication-factor (less than {REPLICAS_SAFE} is not for production)"
        ) from None
    settings = ", ".join(f"{name}={value}" for name, value in topic.configs.items())
    click.echo(f"{topic.name}: made, partitions={topic.partitions}{', ' if settings else ''}{settings}")


def _change(admin: Admin, change: TopicStep) -> None:
    told: list[str] = []
    if change.configs:
        admin.ask(lambda client: alter_topic(client, change.name, change.configs))
        told += [f"{name}={value} (was {change.was[name]})" for name, value in change.configs.items()]
    click.echo(f"{change.name}: {', '.join(told) if told else 'exists, left as it is'}")
