"""The required settings of the daemon's own topics, and changing existing topics.

Functions take an admin client, block, and raise the library's `KafkaError` or `LogError`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import AuthorizationError, TopicAuthorizationFailedError

from daemon.log.errors import LogError
from daemon.log.kafka.authorization_errors import denied
from daemon.log.kafka.sizes import RECORD_BYTES_MAX

JOURNAL: Final[Mapping[str, str]] = MappingProxyType(
    {
        # The state is the last record of each key. Deletion by age would lose it.
        "cleanup.policy": "compact",
        # The active segment is never compacted, and every restart reads the whole topic.
        "segment.bytes": str(64 * 1024 * 1024),
        "min.cleanable.dirty.ratio": "0.1",
        "max.compaction.lag.ms": "600000",
        # The one clock that all owners of a partition share (R6).
        "message.timestamp.type": "LogAppendTime",
        "max.message.bytes": str(RECORD_BYTES_MAX),
    }
)
COURSES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "cleanup.policy": "compact",
        "segment.bytes": str(64 * 1024 * 1024),
        "min.cleanable.dirty.ratio": "0.1",
        # A record that is written while the index is being loaded may lack the id of the course, which the record before it
        # has (R17). It must not be compacted before the index was loaded once more.
        "min.compaction.lag.ms": "3600000",
    }
)
CONTROL: Final[Mapping[str, str]] = MappingProxyType(
    {
        # Decisions hold until they are replaced, however old they are.
        "cleanup.policy": "compact",
    }
)
DEAD_LETTERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        # A compacted topic refuses records without a key, and with them the whole transaction.
        "cleanup.policy": "delete",
        "max.message.bytes": str(RECORD_BYTES_MAX),
    }
)


def alter_topic(client: KafkaAdminClient, name: str, configs: Mapping[str, str]) -> None:
    """Set these settings of a topic and leave the others unchanged.

    Raises:
        LogError: the cluster refused.
    """
    answer = client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, dict(configs))])
    outcome = answer["topic"][name]
    if outcome.startswith(f"[Error {TopicAuthorizationFailedError.errno}]"):
        raise LogError(denied("AlterConfigs", f"topic {name}"))
    if outcome != "OK":
        raise LogError(f"the settings of topic {name} could not be changed: {outcome}")


def add_partitions(client: KafkaAdminClient, name: str, count: int) -> None:
    """Increase the number of partitions of a topic to `count`. Raises LogError if this user may not."""
    try:
        client.create_partitions({name: count})
    except AuthorizationError as error:
        raise LogError(denied("Alter", f"topic {name}")) from error
