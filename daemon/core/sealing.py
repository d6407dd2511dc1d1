"""Sealing: which ready changes of a shard become batches now, and in which order.

A batch takes a place in the window of its integration, and one in the window of the shard, until it has its verdict. The
lanes take turns. Within a lane, bulk changes come after the others, and leave places free (R21).
"""

from __future__ import annotations

from collections.abc import Sequence

from daemon.core.addressing import addressed
from daemon.core.lane import Lane, ReadyQueue
from daemon.core.memory import Memory
from daemon.core.model import Now
from daemon.core.priority import bulk_places
from daemon.core.step import Trigger
from daemon.core.unchanged import end_unchanged


class Sealing:
    """Seals the ready changes of one shard. It seals nothing more into a step that is full."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._places = memory.settings.window.batches_max_per_partition
        self.bulk_waits = False
        """Bulk changes wait for the index of the known courses (R17)."""
        self.window_was_full = False
        """A lane had to wait for a place in the shard's window since the window was last filled."""

    def seal(self, now: Now, *, lingered: bool) -> bool:
        """Seal the ready changes. When the linger is over, every lane is sealed. When one lane is full, lanes that
        are at least half full are sealed as well, because a smaller batch is cheaper than a wait record for each of
        its changes. Returns whether changes are left that could be sealed into the next step, or when the linger is over.
        """
        left = self.window_was_full = False
        for lane in list(self._memory.waiting.ready_lanes()):
            self.seal_lane(lane, now, partial=lingered)
            sealable = self.sealable(lane)
            left = left or bool(sealable) or (bool(lane.unexamined) and not self.bulk_waits)
        return left

    def sealable(self, lane: Lane) -> list[ReadyQueue]:
        """The queues of the lane of which a batch could be sealed now, even if it were small. Notes in `window_was_full` if
        only a place in the shard's window is missing.
        """
        found = []
        for queue in (lane.normal, lane.bulk):
            if queue.count and self._window_open(lane, queue):
                if self._has_place(lane, queue):
                    found.append(queue)
                else:
                    self.window_was_full = True
        return found

    def _window_open(self, lane: Lane, queue: ReadyQueue) -> bool:
        """Whether the integration's window has a place for a batch of this queue. Bulk leaves some of them free (R21), and has
        none while it waits for the index (R17).
        """
        if queue.bulk and self.bulk_waits:
            return False
        places = self._memory.policy(lane.integration_id).window.batches_max
        return lane.open_batches < places and not (queue.bulk and lane.open_bulk >= bulk_places(places))

    def _has_place(self, lane: Lane, queue: ReadyQueue) -> bool:
        """Whether the shard's window has a place for a batch of this queue. The second half of the places is reserved
        for lanes without an open batch: however many lanes are slow, the others continue with one batch each. A lane
        whose open batches are all bulk continues with one that is not.
        """
        taken, places = self._memory.open_batches, self._places
        in_the_way = lane.open_batches if queue.bulk else lane.open_batches - lane.open_bulk
        return 2 * taken < places or (taken < places and in_the_way == 0)

    def is_full(self, lane: Lane, queue: ReadyQueue, share: float = 1.0) -> bool:
        """Whether the changes of this queue fill a batch, or this share of one."""
        limits = self._memory.policy(lane.integration_id).batch
        return queue.count >= limits.items_max * share or queue.bytes >= limits.bytes_max * share

    def seal_lane(self, lane: Lane, now: Now, *, partial: bool) -> None:
        memory = self._memory
        if not self.bulk_waits:  # each change is compared once
            end_unchanged(memory, lane, now)
        limits = memory.policy(lane.integration_id).batch
        ripe = [queue for queue in (lane.normal, lane.bulk) if partial or self.is_full(lane, queue, 0.5)]
        while (queue := self._next_queue(lane, ripe)) is not None:
            if memory.draft.is_full:
                return
            full = self.is_full(lane, queue)
            taken = memory.waiting.take(lane, queue, limits.items_max, limits.bytes_max)
            operation = taken[0].operation
            at_limit = len(taken) in (limits.items_max, operation.items_max)
            trigger = Trigger.ITEMS if at_limit else Trigger.BYTES if full else Trigger.LINGER
            for held in taken:
                memory.draft.wait_changed(lane.integration_id, held.item.origin_id, durable=held.durable)
            if entries := addressed(memory, lane.integration_id, taken, now):
                memory.seal(operation, lane.integration_id, entries, trigger, now, bulk=queue.bulk)
                lane.turns.took(bulk=queue.bulk, bulk_waits=lane.bulk.count > 0)
                memory.waiting.move_to_end(lane)
            else:
                memory.waiting.drop_if_idle(lane.integration_id)

    def _next_queue(self, lane: Lane, ripe: Sequence[ReadyQueue]) -> ReadyQueue | None:
        """The queue of which the next batch of the lane is sealed; None if no batch is. `ripe`: those that are sealed now if
        it is their turn. Before a batch of bulk changes, the others are sealed, however few they are. Where both wait, each
        has a place if bulk has one.
        """
        normal, bulk = (
            queue.count > 0 and self._window_open(lane, queue) and self._has_place(lane, queue)
            for queue in (lane.normal, lane.bulk)
        )
        is_due = (normal and lane.normal in ripe) or (bulk and lane.bulk in ripe)
        if not is_due:
            return None
        return lane.bulk if lane.turns.bulk_is_next(normal_waits=normal, bulk_waits=bulk) else lane.normal
