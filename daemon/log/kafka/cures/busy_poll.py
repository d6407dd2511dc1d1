"""A poll does not wait while a heartbeat is overdue.

Defect: `_poll_once` waits no longer than `time_to_next_poll`, which is 0 while a heartbeat is overdue, as it is when
    the broker hangs. The poll then spins thousands of times a second, and each turn adds a callback to the fetch that is
    in flight: about 10 MB a second until the broker answers. Heartbeats do not need the poll; they have their own task.
Upstream: not reported.
Versions: 3.0.12.
Remove when: tests/unit/test_kafka_cures.py::test_an_overdue_heartbeat_still_shortens_a_poll_to_nothing fails.
"""

from __future__ import annotations

import math

from kafka.coordinator.consumer import ConsumerCoordinator


class PollWaits(ConsumerCoordinator):  # type: ignore[misc]
    """Called by the thread that polls."""

    def time_to_next_poll(self) -> float:
        """Seconds."""
        return math.inf
