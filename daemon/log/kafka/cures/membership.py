"""A consumer does not report when a heartbeat was answered, nor that a static member was fenced.

Defect: there is no public access to the time of the last answered heartbeat, on which R4 rests. After FENCED_INSTANCE_ID
    (KIP-345) a static member stops its heartbeats, and `poll` returns nothing forever instead of raising.
Upstream: not reported.
Versions: 3.0.12.
Remove when: tests/unit/test_kafka_cures.py::test_a_consumer_still_does_not_report_its_heartbeats fails.
    tests/unit/test_kafka_clients.py::test_the_fields_that_membership_reads_are_still_there fails if a newer version
    renames a field.

The client's I/O thread writes the fields. Reading them without a lock is safe here: the order of the reads makes every
race err on the side of "not confirmed".
"""

from __future__ import annotations

import time

from kafka import KafkaConsumer
from kafka.structs import MemberState


class Membership:
    """For the thread that owns the consumer, between polls."""

    def __init__(self, consumer: KafkaConsumer) -> None:
        self._coordinator = consumer._coordinator  # noqa: SLF001

    @property
    def fenced(self) -> bool:
        """The broker has answered a heartbeat with FENCED_INSTANCE_ID. Nothing else switches off the heartbeats of a
        member that is stable and not about to rejoin."""
        coordinator = self._coordinator
        return (
            coordinator.state is MemberState.STABLE
            and not coordinator.rejoining
            and not coordinator._heartbeat_enabled  # noqa: SLF001
        )

    @property
    def heartbeat_age(self) -> float | None:
        """Seconds since the last heartbeat was sent or the member joined; None if it has no heartbeats to send, or the
        coordinator is unknown."""
        coordinator = self._coordinator
        if coordinator.state is not MemberState.STABLE or coordinator.coordinator_id is None:
            return None
        heartbeat = coordinator.heartbeat
        return time.monotonic() - float(max(heartbeat.last_send, heartbeat.last_reset))

    def confirmed_since(self, moment: float) -> bool:
        """A heartbeat that was sent after `moment` (of `time.monotonic`) was answered, and no rebalance is due."""
        coordinator = self._coordinator
        if coordinator.state is not MemberState.STABLE or coordinator.rejoining:
            return False
        heartbeat = coordinator.heartbeat
        # One heartbeat is in flight at a time, so an answer that is later than the last send belongs to it.
        # The library also counts the answer "rebalance in progress", but sets rejoin_needed first.
        sent = heartbeat.last_send
        answered = heartbeat.last_receive
        return bool(moment < sent <= answered and not coordinator.rejoin_needed)

    def hurry(self, moment: float) -> None:
        """Send a heartbeat now instead of within a second, unless one was sent since `moment`."""
        coordinator = self._coordinator
        if coordinator.state is MemberState.STABLE and coordinator.heartbeat.last_send <= moment:
            # As after a failed heartbeat, the library then waits for retry_backoff_ms only. The next send clears
            # the mark.
            coordinator.heartbeat.fail_heartbeat()
            coordinator._heartbeat_wakeup.notify()  # noqa: SLF001
