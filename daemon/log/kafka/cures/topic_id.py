"""A consumer does not report the id of a topic.

Defect: the library fetches by topic name, and the topic id in its metadata (KIP-516) has no public accessor on
    `KafkaConsumer`. If a topic was deleted and created again, and is long enough, its records arrive at the old offsets
    as if nothing had happened.
Upstream: not reported. KIP-516 describes topic ids.
Versions: 3.0.12.
Remove when: tests/unit/test_kafka_cures.py::test_a_consumer_still_has_no_public_topic_id fails.
"""

from __future__ import annotations

import uuid

from kafka import KafkaConsumer


def known_topic_id(consumer: KafkaConsumer, topic: str) -> uuid.UUID | None:
    """The id in the consumer's current metadata; None while they do not contain the topic."""
    topic_id: uuid.UUID | None = consumer._client.cluster.topic_id(topic)  # noqa: SLF001
    return topic_id
