"""A client does not report when a broker last answered.

Defect: while no broker answers, a consumer's `poll` returns no records and raises no error, as it does on a quiet topic.
    The metrics of the library do not have the time of the last answer either.
Upstream: not reported.
Versions: 3.0.12.
Remove when: tests/unit/test_kafka_cures.py::test_a_client_still_does_not_report_when_a_broker_last_answered fails.
    tests/log_port/test_kafka_moved.py shows the cure on a broker.
"""

from __future__ import annotations

import time
from typing import Any

from kafka import KafkaConsumer
from kafka.future import Future
from kafka.net.manager import KafkaConnectionManager


class AnswersAreTimed(KafkaConnectionManager):  # type: ignore[misc]
    """All requests except the handshakes of a connection pass through `send`."""

    answered_at: float | None = None
    """When a broker last answered (`time.monotonic`); written by the I/O thread. Bootstrap servers do not count: a client
    that reaches no other address does not work."""

    def send(self, request: Any, node_id: str | int | None = None, **settings: Any) -> Future:
        future = super().send(request, node_id, **settings)
        if not self.cluster.is_bootstrap(node_id):
            future.add_callback(self._answered)
        return future

    def _answered(self, _: object) -> None:
        self.answered_at = time.monotonic()


def answered_at(consumer: KafkaConsumer) -> float | None:
    """When a broker last answered this consumer (`time.monotonic`), from any thread. None: none has yet."""
    at: float | None = consumer._manager.answered_at  # noqa: SLF001
    return at
