"""`KafkaConsumer.position` may wait for the network.

Defect: it refreshes committed offsets first, which is a request to the group coordinator, and waits for pending offset
    look-ups and validations. The thread that polls asks for the position of every partition once a second and must not
    block in it.
Upstream: not reported.
Versions: 3.0.12.
Remove when: tests/unit/test_kafka_cures.py::test_position_still_asks_the_coordinator_first fails.
"""

from __future__ import annotations

from kafka import KafkaConsumer, TopicPartition


def known_position(consumer: KafkaConsumer, partition: TopicPartition) -> int:
    """The offset of the next record of an assigned partition that has a position."""
    offset: int = consumer._subscription.assignment[partition].position.offset  # noqa: SLF001
    return offset
