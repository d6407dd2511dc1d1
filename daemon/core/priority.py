"""Keeps bulk changes from delaying others of their integration (R21).

A publisher marks what nobody waits for: a first load, a nightly run. Wherever changes of one integration wait for a place,
what is bulk comes after what is not, and is never starved: `Turns`. What a place is held for decides whether some are kept
free. A place among the open submissions is held for a whole task, seconds to hours, so bulk never takes all of them
(`bulk_places`). A place for a request is held until the request is answered, so it is not worth keeping one idle.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

NORMAL_IN_A_ROW_MAX = 7
"""So many in a row precede what is bulk: while both wait, every eighth is bulk."""
KEPT_FREE_SHARE = 4
"""One place in so many is never taken by what is bulk, and at least one."""


def bulk_places(places: int) -> int:
    """How many of so many places bulk may take. The only one, if there is only one."""
    return max(1, places - max(1, places // KEPT_FREE_SHARE))


class Turns:
    """Who is next in one integration."""

    def __init__(self) -> None:
        self._in_a_row = 0
        """How many have been taken since bulk last had its turn, or did not wait."""

    def bulk_is_next(self, *, normal_waits: bool, bulk_waits: bool) -> bool:
        return bulk_waits and (not normal_waits or self._in_a_row >= NORMAL_IN_A_ROW_MAX)

    def took(self, *, bulk: bool, bulk_waits: bool) -> None:
        """One was taken. `bulk_waits`: others, which are bulk, were waiting."""
        self._in_a_row = 0 if bulk or not bulk_waits else self._in_a_row + 1


class TurnQueue(Generic[T]):
    """First come, first served, except that what is bulk comes after what is not."""

    def __init__(self) -> None:
        self._normal: deque[T] = deque()
        self._bulk: deque[T] = deque()
        self._turns = Turns()

    def __len__(self) -> int:
        return len(self._normal) + len(self._bulk)

    def append(self, entry: T, *, bulk: bool) -> None:
        (self._bulk if bulk else self._normal).append(entry)

    def popleft(self) -> T:
        """Remove and return the next one.

        Raises:
            IndexError: there is none.
        """
        bulk_waits = bool(self._bulk)
        bulk = self._turns.bulk_is_next(normal_waits=bool(self._normal), bulk_waits=bulk_waits)
        self._turns.took(bulk=bulk, bulk_waits=bulk_waits)
        return (self._bulk if bulk else self._normal).popleft()

    def keep(self, wanted: Callable[[T], bool]) -> None:
        """Drop all others."""
        self._normal = deque(entry for entry in self._normal if wanted(entry))
        self._bulk = deque(entry for entry in self._bulk if wanted(entry))
