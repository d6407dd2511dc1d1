"""Tracks when the oldest of many changes was consumed; changes can leave in any order.

A heap would have to drop its stale entries, all at once when the oldest change leaves. A search would visit every
change. This module counts changes by the second in which they were consumed. Adding and removing a change takes one
step each, and the oldest change is in the smallest remaining second. There are at most as many entries as seconds
between the oldest and the newest change: 100 for a million changes that arrive at 10,000 per second, 600,000 if one
change per second has been waiting for a week.
"""

from __future__ import annotations


class Ages:
    __slots__ = ("_by_second", "_changes")

    def __init__(self) -> None:
        self._by_second: dict[int, int] = {}
        self._changes = 0

    def __len__(self) -> int:
        """The number of changes."""
        return self._changes

    @property
    def oldest(self) -> int | None:
        """The second in which the oldest change was consumed, in ms since the epoch; None if there is no change."""
        second = min(self._by_second, default=None)
        return None if second is None else second * 1000

    def joined(self, consumed_at: int) -> None:
        second = consumed_at // 1000
        self._by_second[second] = self._by_second.get(second, 0) + 1
        self._changes += 1

    def left(self, consumed_at: int) -> None:
        """Remove a change that was added with `joined`."""
        second = consumed_at // 1000
        remaining = self._by_second[second] - 1
        if remaining:
            self._by_second[second] = remaining
        else:
            del self._by_second[second]
        self._changes -= 1
