"""When the oldest of many changes was consumed, though they leave in any order.

A heap would have to be cleaned of what has left, all at once when its oldest goes; a search would look at all.
Here changes are counted by the second in which they were consumed: joining and leaving are a step each, and
the oldest is the least of the seconds that are left. There are as many of them as lie between the oldest and the
newest, at most: of a million changes that come in at 10,000 a second a hundred, 600,000 if one a second has waited
for a week.
"""

from __future__ import annotations


class Ages:
    __slots__ = ("_by_second", "_changes")

    def __init__(self) -> None:
        self._by_second: dict[int, int] = {}
        self._changes = 0

    def __len__(self) -> int:
        """Changes that are counted here."""
        return self._changes

    @property
    def oldest(self) -> int | None:
        """The second in which the oldest was consumed, in ms since the epoch; None when there is none."""
        second = min(self._by_second, default=None)
        return None if second is None else second * 1000

    def joined(self, consumed_at: int) -> None:
        second = consumed_at // 1000
        self._by_second[second] = self._by_second.get(second, 0) + 1
        self._changes += 1

    def left(self, consumed_at: int) -> None:
        """Of a change that had joined."""
        second = consumed_at // 1000
        remaining = self._by_second[second] - 1
        if remaining:
            self._by_second[second] = remaining
        else:
            del self._by_second[second]
        self._changes -= 1
