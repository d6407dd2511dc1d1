"""A JoinGroup that is answered between two polls is forgotten.

Defect: a poll that ends before a rebalance does leaves the join running, and the next poll should keep waiting for it.
    If the answer has arrived in between, `join_group_async` takes the finished task for an old one (``if self._join_task
    is None or self._join_task.is_done``) and joins once more. When that member leads the group, every member has to
    join again, up to one heartbeat interval later. Until then the partitions have no owner. A busy machine waits longer,
    because the time between two polls is longer.
Upstream: not reported.
Versions: 3.0.12.
Remove when: tests/unit/test_kafka_cures.py::test_a_finished_join_is_still_started_anew fails.
"""

from __future__ import annotations

from typing import Any

from kafka.coordinator.consumer import ConsumerCoordinator


class JoinIsRemembered(ConsumerCoordinator):  # type: ignore[misc]
    """Runs on the client's I/O thread."""

    _answered: tuple[Any, bytes] | None = None
    """The generation of a join whose result has not been used yet, and the assignment."""

    async def _do_join_and_sync_async(self) -> bytes:
        answered, self._answered = self._answered, None
        if answered is not None and answered[0] is self._generation:  # else it has lost its membership since
            return answered[1]
        assignment: bytes = await super()._do_join_and_sync_async()
        self._answered = self._generation, assignment
        return assignment

    async def _on_join_complete_async(self, *args: Any) -> Any:
        self._answered = None
        return await super()._on_join_complete_async(*args)
