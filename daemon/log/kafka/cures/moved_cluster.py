"""A client never returns to its bootstrap servers.

Defect: metadata are requested from the brokers that are known. If all of them have moved to other addresses while the
    client had no connection, it asks the old addresses forever, although the bootstrap servers know the new ones. A
    consumer then reads nothing and reports no error.
Upstream: not reported for kafka-python. Other clients have it as KIP-899 and KIP-1102
    (https://github.com/apache/kafka/pull/13277), the Java client since 4.0 by default.
Versions: 3.0.12.
Remove when: tests/unit/test_kafka_cures.py::test_metadata_are_still_requested_from_known_brokers_only fails.
    tests/log_port/test_kafka_moved.py shows the cure on a broker.
"""

from __future__ import annotations

from kafka.cluster import ClusterMetadata
from kafka.errors import KafkaError

BOOTSTRAP_MS = 5_000
"""How long the bootstrap servers are asked before the known brokers have their turn again."""


class BootstrapIsTheFallback(ClusterMetadata):  # type: ignore[misc]
    """Runs on the client's I/O thread. One refresh runs at a time."""

    async def refresh_metadata(self, node_id: str | int | None = None) -> None:
        """Request metadata from `node_id`; without it, from a known broker and, if that fails, from a bootstrap server.

        This does not wait until every known broker has failed: the answer of a bootstrap server is as good as theirs.
        """
        try:
            await super().refresh_metadata(node_id)
        except KafkaError:
            if node_id is not None:  # a bootstrap server, see below
                raise
            await self._manager.bootstrap_async(BOOTSTRAP_MS)
