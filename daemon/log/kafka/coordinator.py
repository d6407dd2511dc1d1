"""Cures for four faults of the client library's group coordinator, all of 3.0.12.

**A join that is answered between two polls is forgotten.** A poll that ends before a rebalance does leaves the
join under way; the next poll is to go on waiting for it. But when it has been answered meanwhile, it is taken for
an old one and the member joins once more (`join_group_async`: ``if self._join_task is None or
self._join_task.is_done``). When that member leads the group, everybody has to join again, up to a heartbeat
interval later: partitions are nobody's for as long, and longer on a busy machine, where the time between
two polls is longer.

**A join that the leader began because partitions had been added is given up half-way.** What tells it to join is that
the metadata differ from those of the last assignment; they do not any more once it has made the new one. A poll that
ends just then, before the answer to that, is the last that waits (`need_rejoin`): the member is assigned nothing,
sends no heartbeats, is evicted, and goes on polling for ever.

**A poll does not wait while a heartbeat is overdue**, as it is when the broker hangs (`_poll_once` waits no
longer than `time_to_next_poll`, which is 0 then). It goes round thousands of times a second instead, and each round
leaves a callback on the fetch that is under way: some 10 MB a second, until the broker answers.

**A static member that stood still forgets who it is.** A process that has not polled for
``max_poll_interval_ms`` (it was frozen) gives up its member id and joins anew. The broker takes that for a new
process of the same instance id, and throws out the one that has replaced the frozen process meanwhile. With its
old member id it is told FENCED_INSTANCE_ID, or UNKNOWN_MEMBER_ID where nobody has replaced it and its session
is over.
"""

from __future__ import annotations

import math
from typing import Any

from kafka import KafkaConsumer
from kafka.coordinator.consumer import ConsumerCoordinator


class _Coordinator(ConsumerCoordinator):  # type: ignore[misc]
    """Runs on the client's I/O thread."""

    _answered: tuple[Any, bytes] | None = None
    """The generation of a join that nobody has taken note of yet, and what was assigned."""

    async def _do_join_and_sync_async(self) -> bytes:
        answered, self._answered = self._answered, None
        if answered is not None and answered[0] is self._generation:  # else it has lost its membership since
            return answered[1]
        assignment: bytes = await super()._do_join_and_sync_async()
        self._answered = self._generation, assignment
        return assignment

    def need_rejoin(self) -> bool:
        """A join that was begun has to be brought to its end."""
        return bool(self.rejoining or super().need_rejoin())

    def time_to_next_poll(self) -> float:
        """Seconds; heartbeats need no poll, they have a task of their own."""
        return math.inf

    async def _on_join_complete_async(self, *args: Any) -> Any:
        self._answered = None
        return await super()._on_join_complete_async(*args)

    async def maybe_leave_group_async(
        self, reason: str | None = None, timeout_ms: float | None = None
    ) -> None:
        if self.is_dynamic_member() or self._heartbeat_closed:
            await super().maybe_leave_group_async(reason, timeout_ms)
        else:
            self.heartbeat.poll()  # so that a heartbeat is sent next, and answered


def cure(consumer: KafkaConsumer) -> None:
    """To be called before the new consumer subscribes: the library has no place to put another coordinator."""
    consumer._coordinator.__class__ = _Coordinator  # noqa: SLF001
