"""The four topics in the sandbox's Kafka."""

from __future__ import annotations

from collections.abc import Mapping

from kafka.errors import KafkaError

from daemon.log.kafka.clients import Clients, KafkaConnection
from daemon.log.port import Topics
from daemon.sandbox.process import SandboxError

_JOURNAL: Mapping[str, str] = {
    "cleanup.policy": "compact",
    "segment.bytes": str(64 * 1024 * 1024),
    "min.cleanable.dirty.ratio": "0.1",
    "max.compaction.lag.ms": "600000",
    "max.message.bytes": str(2 * 1024 * 1024),
}
_DEAD_LETTERS: Mapping[str, str] = {"max.message.bytes": str(2 * 1024 * 1024)}
_TIMEOUT_MS = 30_000


def create_topics(connection: KafkaConnection, topics: Topics, partitions: int) -> None:
    """Make the topics; returns when every one of them can be used.

    Raises:
        SandboxError: the cluster refused, or one of them exists.
    """
    wanted: dict[str, Mapping[str, str]] = {
        topics.changes: {},
        topics.journal: _JOURNAL,
        topics.results: {},
        topics.dead_letters: _DEAD_LETTERS,
    }
    try:
        with Clients(connection).admin() as admin:
            admin.create_topics(
                {
                    name: {
                        "num_partitions": partitions,
                        "configs": dict(settings),
                    }  # replication: the broker's default
                    for name, settings in wanted.items()
                },
                timeout_ms=_TIMEOUT_MS,
                wait_for_metadata=True,
            )
    except KafkaError as error:
        raise SandboxError(f"the topics could not be made: {error}") from error


def delete_topics(connection: KafkaConnection, topics: Topics) -> None:
    """Remove them again from a cluster that is not ours.

    Raises:
        SandboxError: the cluster refused.
    """
    names = [topics.changes, topics.journal, topics.results, topics.dead_letters]
    try:
        with Clients(connection).admin() as admin:
            admin.delete_topics(names, timeout_ms=_TIMEOUT_MS)
    except KafkaError as error:
        raise SandboxError(f"the topics {', '.join(names)} could not be deleted: {error}") from error
