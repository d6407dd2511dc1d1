"""A cure for joins that the client library completes and then forgets.

A poll that ends before a rebalance does leaves the join under way; the next poll is to go on waiting for it.
But when the join has been answered between the two, kafka-python 3.0.12 takes it for an old one and joins once
more (`join_group_async`: ``if self._join_task is None or self._join_task.is_done``). When that member leads
the group, everybody has to join again, up to a heartbeat interval later: partitions are nobody's for as
long, and longer on a busy machine, where the time between two polls is longer.
"""

from __future__ import annotations

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

    async def _on_join_complete_async(self, *args: Any) -> Any:
        self._answered = None
        return await super()._on_join_complete_async(*args)


def remember_joins(consumer: KafkaConsumer) -> None:
    """Cure a new consumer, before it subscribes: the library has no place to put another coordinator."""
    consumer._coordinator.__class__ = _Coordinator  # noqa: SLF001
