"""A join that the leader started because partitions were added is abandoned half-way.

Defect: the leader joins because the metadata differ from those of its last assignment. They no longer differ once it
    has computed the new assignment. If a poll ends at that moment, before the SyncGroup is answered, `need_rejoin`
    returns False and no later poll waits for the join. The member is assigned nothing, sends no heartbeats, is evicted,
    and keeps polling forever.
Upstream: not reported.
Versions: 3.0.12.
Remove when: tests/unit/test_kafka_cures.py::test_a_running_join_still_does_not_count_as_needed fails.
"""

from __future__ import annotations

from kafka.coordinator.consumer import ConsumerCoordinator


class JoinIsCompleted(ConsumerCoordinator):  # type: ignore[misc]
    """Runs on the client's I/O thread."""

    def need_rejoin(self) -> bool:
        """True also while a join is running."""
        return bool(self.rejoining or super().need_rejoin())
