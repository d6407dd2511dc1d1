"""What ``coursesyncd check`` finds about the topics: whether they exist, and whether their settings keep the guarantees."""

from __future__ import annotations

from collections.abc import Iterator

from daemon.codec import DEAD_LETTER_BYTES_MAX
from daemon.commands.finding import Finding, Level, count
from daemon.commands.topics import ANOTHER_CONTROL, IN_SYNC_SAFE, REPLICAS_SAFE, Facts, differing
from daemon.config import Topics
from daemon.log.kafka.admin import TopicFacts
from daemon.log.kafka.topic_settings import CONTROL, COURSES, DEAD_LETTERS, JOURNAL

CREATE = "run: coursesyncd topics create"
RESULT_BYTES_MAX = 64 * 1024
"""More than the largest result, with all texts at their limits."""


def topic_findings(topics: Topics, facts: Facts) -> Iterator[Finding]:
    """The findings about the topics."""
    changes = facts[topics.changes]
    for name in topics.names:
        topic = facts[name]
        if topic is None:
            yield Finding(Level.WRONG, name, "the topic does not exist", CREATE)
            continue
        if name == topics.changes:
            special = _of_changes(topic)
        elif name == topics.journal:
            special = _of_journal(topic, changes)
        elif name == topics.results:
            special = _of_size(
                topic,
                RESULT_BYTES_MAX,
                f"run: kafka-configs.sh --bootstrap-server … --alter --topic {topic.name} "
                f"--add-config max.message.bytes={RESULT_BYTES_MAX}",
            )
        elif name == topics.courses:
            special = _of_courses(topic, changes)
        elif name == topics.control:
            special = _of_control(topic)
        else:
            special = _of_dead_letters(topic)
        troubles = list(special)
        if not any(trouble.level is Level.WRONG for trouble in troubles):
            shape = f"{count(topic.partitions, 'partition')}, {count(topic.replication_factor, 'replica')}"
            yield Finding(Level.OK, name, shape)
        yield from troubles
        yield from _of_durability(topic)


def _of_changes(topic: TopicFacts) -> Iterator[Finding]:
    if "compact" in topic.configs.get("cleanup.policy", ""):
        yield Finding(
            Level.ADVICE,
            topic.name,
            "is compacted: Kafka may delete a change before it is read once a newer record has the same key; if the key is "
            "integration_id, that can be a change of another course",
            "set cleanup.policy=delete, or give every course its own key",
        )


def _of_journal(topic: TopicFacts, changes: TopicFacts | None) -> Iterator[Finding]:
    if changes is not None and topic.partitions != changes.partitions:
        yield Finding(
            Level.WRONG,
            topic.name,
            f"has {count(topic.partitions, 'partition')}, but {changes.name} has {changes.partitions}: "
            "each input partition needs its own journal partition",
            f"run: coursesyncd topics grow --partitions {max(topic.partitions, changes.partitions)}",
        )
    for name, wanted in differing(topic, JOURNAL).items():
        fatal = name in ("cleanup.policy", "max.message.bytes")
        why = {
            "cleanup.policy": "the state of the daemon would be deleted",
            "max.message.bytes": "large batches could not be written",
            "message.timestamp.type": "after several crashes in a row, submissions wait longer than necessary",
        }.get(name, "a restart reads more than necessary")
        found = topic.configs.get(name, "unset")
        yield Finding(
            Level.WRONG if fatal else Level.ADVICE,
            topic.name,
            f"{name} is {found}, expected {wanted}: {why}",
            CREATE,
        )


def _of_courses(topic: TopicFacts, changes: TopicFacts | None) -> Iterator[Finding]:
    if changes is not None and topic.partitions < changes.partitions:
        yield Finding(
            Level.WRONG,
            topic.name,
            f"has {count(topic.partitions, 'partition')}, but {changes.name} has {changes.partitions}: each input "
            "partition needs its own partition of courses",
            CREATE,
        )
    for name, wanted in differing(topic, COURSES).items():
        why = {
            "cleanup.policy": "what is known of the courses would be deleted",
            "min.compaction.lag.ms": "after a crash, the id of a course may be forgotten",
        }.get(name, "a restart reads more than necessary")
        found = topic.configs.get(name, "unset")
        fatal = name == "cleanup.policy"
        yield Finding(
            Level.WRONG if fatal else Level.ADVICE,
            topic.name,
            f"{name} is {found}, expected {wanted}: {why}",
            CREATE,
        )


def _of_control(topic: TopicFacts) -> Iterator[Finding]:
    if topic.partitions != 1:
        yield Finding(
            Level.WRONG,
            topic.name,
            f"has {count(topic.partitions, 'partition')}, expected exactly 1: the last decision counts, and there is no order "
            "between partitions",
            f"{ANOTHER_CONTROL[0].lower()}{ANOTHER_CONTROL[1:]}",
        )
    if "cleanup.policy" in differing(topic, CONTROL):
        yield Finding(
            Level.WRONG,
            topic.name,
            f"cleanup.policy is {topic.configs.get('cleanup.policy')}, expected compact: what operators have decided would be "
            "deleted",
            CREATE,
        )


def _of_dead_letters(topic: TopicFacts) -> Iterator[Finding]:
    missing = differing(topic, DEAD_LETTERS)
    if "cleanup.policy" in missing:
        yield Finding(
            Level.WRONG,
            topic.name,
            f"cleanup.policy is {topic.configs.get('cleanup.policy')}, expected delete: a compacted topic refuses "
            "records without a key, and the whole transaction with them",
            CREATE,
        )
    yield from _of_size(topic, DEAD_LETTER_BYTES_MAX + 10_000, CREATE)


def _of_size(topic: TopicFacts, bytes_min: int, to_do: str) -> Iterator[Finding]:
    limit = topic.configs.get("max.message.bytes", "")
    if limit.isdecimal() and int(limit) < bytes_min:
        yield Finding(
            Level.WRONG,
            topic.name,
            f"max.message.bytes is {limit}, expected at least {bytes_min}: one large record would stop its partition",
            to_do,
        )


def _of_durability(topic: TopicFacts) -> Iterator[Finding]:
    """The guarantees hold only while committed records survive."""
    in_sync = topic.configs.get("min.insync.replicas", "1")
    if topic.replication_factor < REPLICAS_SAFE or int(in_sync) < int(IN_SYNC_SAFE):
        yield Finding(
            Level.ADVICE,
            topic.name,
            f"has {count(topic.replication_factor, 'replica')} and min.insync.replicas={in_sync}: losing one "
            "broker may lose committed records, which breaks the guarantees",
            f"in production: {REPLICAS_SAFE} replicas and min.insync.replicas={IN_SYNC_SAFE}",
        )
    if topic.configs.get("unclean.leader.election.enable") == "true":
        yield Finding(
            Level.ADVICE,
            topic.name,
            "unclean.leader.election.enable is true: a lagging replica may become leader and lose committed records",
            "set unclean.leader.election.enable=false",
        )
