"""A producer loses a transactional request when its coordinator is unreachable, and the caller waits forever.

Defect: `Sender._maybe_send_pending_request` drops the request that it is about to send when
    `KafkaNetClient.await_ready` raises, so `commit_transaction` and its like never return. If `await_ready` returns
    False instead, the producer looks for the coordinator again.
Upstream: the hang is not reported. https://github.com/dpkp/kafka-python/pull/3091 made connection failures raise.
Versions: 3.0.12.
Remove when: tests/unit/test_kafka_clients.py::test_a_node_that_cannot_be_reached_is_not_ready_instead_of_an_error fails
    at the line that expects the library's own client to raise.
"""

from __future__ import annotations

from typing import Any

from kafka.errors import KafkaConnectionError
from kafka.net.compat import KafkaNetClient


class RequestsAreKept(KafkaNetClient):  # type: ignore[misc]
    def await_ready(self, node_id: Any, timeout_ms: int = 30_000) -> bool:
        try:
            return bool(super().await_ready(node_id, timeout_ms=timeout_ms))
        except KafkaConnectionError:
            return False
