"""A static member that was frozen forgets its member id.

Defect: a process that has not polled for ``max_poll_interval_ms`` (it was frozen) gives up its member id and joins
    without one. The broker takes it for a new process with the same instance id and fences the process that has replaced
    the frozen one in the meantime. If it keeps its member id, the broker answers FENCED_INSTANCE_ID, or
    UNKNOWN_MEMBER_ID if nobody has replaced it and its session has expired.
Upstream: not reported for kafka-python. The Java client has the same defect in `unsubscribe`: KAFKA-20985,
    https://github.com/apache/kafka/pull/23266. Static membership is KIP-345.
Versions: 3.0.12.
Remove when: tests/unit/test_kafka_cures.py::test_a_static_member_that_was_frozen_still_forgets_its_member_id fails.
"""

from __future__ import annotations

from kafka.coordinator.consumer import ConsumerCoordinator


class MemberIdIsKept(ConsumerCoordinator):  # type: ignore[misc]
    """Runs on the client's I/O thread."""

    async def maybe_leave_group_async(
        self, reason: str | None = None, timeout_ms: float | None = None
    ) -> None:
        if self.is_dynamic_member() or self._heartbeat_closed:
            await super().maybe_leave_group_async(reason, timeout_ms)
        else:
            self.heartbeat.poll()  # the next heartbeat is sent, and answered
