"""A consumer that is closed while a heartbeat is unanswered logs an error.

Defect: closing the connection ends the request with `Cancelled`. `BaseCoordinator._failed_request` reports it as it reports
    a failure of the broker: "Error sending HeartbeatRequest to node … [Cancelled]", and "Marking the coordinator dead". The
    fetcher makes the distinction.
Upstream: not reported.
Versions: 3.0.12.
Remove when: tests/unit/test_kafka_cures.py::test_a_request_that_closing_has_cancelled_is_still_an_error fails.
    tests/log_port/test_kafka_coordinator.py shows the cure on a broker.
"""

from __future__ import annotations

from typing import Any

from kafka.coordinator.consumer import ConsumerCoordinator
from kafka.errors import Cancelled


class CloseIsQuiet(ConsumerCoordinator):  # type: ignore[misc]
    """Runs on the client's I/O thread."""

    def _failed_request(self, node_id: Any, request: Any, error: BaseException) -> None:
        if not (self._heartbeat_closed and isinstance(error, Cancelled)):
            super()._failed_request(node_id, request, error)
