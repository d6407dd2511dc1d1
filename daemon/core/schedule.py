"""Schedules the polls: the heap over all pending tasks of the process, and the policy of the intervals.

The heap holds `(due, sequence, key)`. Scheduling a key again, or removing it, leaves its old entry in the heap. A
stale entry is recognised by its sequence and skipped when it reaches the top. So both operations cost O(log n) or
less, and a million tasks need no search. When more than half of a large heap is stale, the heap is rebuilt.
"""

from __future__ import annotations

import heapq
import zlib
from collections.abc import Hashable, Iterator
from typing import Generic, NamedTuple, TypeVar

Key = TypeVar("Key", bound=Hashable)

REBUILD_MIN = 1024
"""Smaller heaps are not rebuilt: it would save nothing."""

ITEMS_PER_UNIT = 100
"""A batch with more items is polled later and less often, in proportion."""
INTERVAL_LIMIT = 3600.0
"""Seconds: the maximum interval of any batch. The vendor recommends 30 to 60 minutes for very large ones."""

GROWING_POLLS_MAX = 64
"""Intervals stop growing after this many polls. This bounds the power, and the computation per task during a restore.
"""


class Schedule(Generic[Key]):
    """A priority queue of keys by due time, in seconds of a monotonic clock. Each key occurs at most once."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Key]] = []
        self._live: dict[Key, int] = {}
        self._sequence = 0

    def __len__(self) -> int:
        return len(self._live)

    def __contains__(self, key: Key) -> bool:
        return key in self._live

    def __iter__(self) -> Iterator[Key]:
        return iter(self._live)

    def push(self, due: float, key: Key) -> None:
        """Schedule the key. This replaces its earlier time, if any."""
        self._sequence += 1
        self._live[key] = self._sequence
        heapq.heappush(self._heap, (due, self._sequence, key))
        if len(self._heap) > REBUILD_MIN and len(self._heap) > 2 * len(self._live):
            self._heap = [entry for entry in self._heap if self._live.get(entry[2]) == entry[1]]
            heapq.heapify(self._heap)

    def discard(self, key: Key) -> None:
        self._live.pop(key, None)

    def due(self) -> float | None:
        """When the first key is due; None if nothing is scheduled."""
        heap, live = self._heap, self._live
        while heap and live.get(heap[0][2]) != heap[0][1]:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def first(self) -> Key | None:
        """The key that is due first."""
        return None if self.due() is None else self._heap[0][2]

    def pop_due(self, now: float) -> tuple[float, Key] | None:
        """Remove and return the earliest key that is due by now, with its due time."""
        due = self.due()
        if due is None or due > now:
            return None
        _, _, key = heapq.heappop(self._heap)
        del self._live[key]
        return due, key


class PollIntervals(NamedTuple):
    """Growing intervals. Large batches are polled later and less often (`docs/kombo-api.md`, "Tasks and polling")."""

    first_after: float
    """Seconds from acceptance to the first poll of a batch of up to `ITEMS_PER_UNIT` items."""
    factor: float
    interval_max: float

    def interval(self, polls: int, items: int) -> float:
        """Seconds to wait before poll number `polls` (0 is the first), without jitter. It never shrinks with `polls`."""
        scale = max(1.0, items / ITEMS_PER_UNIT)
        growth = self.factor ** min(polls, GROWING_POLLS_MAX)
        interval = min(self.first_after * growth, self.interval_max) * scale
        return min(interval, max(INTERVAL_LIMIT, self.interval_max))

    def delay(self, polls: int, items: int, seed: int) -> float:
        """Seconds to wait before poll number `polls`. Jitter of ±10 %, derived from the seed, spreads tasks that were
        submitted or restored together.
        """
        return self.interval(polls, items) * (0.9 + 0.2 * jitter(polls, seed))

    def resume(self, elapsed: float, items: int, seed: int) -> tuple[int, float]:
        """For a task that was accepted `elapsed` seconds ago: the number of its next poll by the same schedule, and
        the seconds until that poll. None of this is journalled.
        """
        polls, at = 0, self.delay(0, items, seed)
        while (
            at < elapsed
            and polls < GROWING_POLLS_MAX
            and self.first_after * self.factor**polls < self.interval_max
        ):
            polls += 1
            at += self.delay(polls, items, seed)
        if at >= elapsed:
            return polls, at - elapsed
        # Long after the growing phase: a point within one interval, derived from the seed, so that polls do
        # not cluster.
        interval = self.delay(polls, items, seed)
        return polls, interval * (seed & 0xFFFF) / 0xFFFF


def jitter(polls: int, seed: int) -> float:
    """From 0 to 1, evenly distributed over seeds, and the same in every process."""
    return zlib.crc32(polls.to_bytes(4, "big"), seed & 0xFFFFFFFF) / 0xFFFFFFFF


def poll_seed(batch_id: str) -> int:
    """The jitter seed of a batch, which is the same in every process."""
    return zlib.crc32(batch_id.encode())
