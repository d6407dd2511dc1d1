"""How long restored batches wait for POSTs of earlier owners of their partition (R6).

An owner that was fenced may still start a POST until its lease ends, and a POST may reach the API until its deadline. So a
batch that an earlier owner may have POSTed is sent `fence.lease` + `http.deadline` after that owner was fenced. How it works::

    load           some restored batches have no task: those that may have been POSTed are in quarantine
    committed      the first commit tells the broker's time: from then on the position states since when nobody has POSTed
                   them, and what has passed since an earlier owner stated it is taken off
    cleared        the wait is over: the statement leaves the position, and the batch is sent once that is committed
    hand_over      no further POST starts: the position says this, and names the POSTs that may still reach the API
    keep           POSTs may start again

A statement in the last position record is always true. An owner removes it in a commit before it does what would make it
false, and that commit fails if the owner was fenced. So an owner that dies during the wait has not POSTed the batch, the next
one continues its wait, and a batch waits once, however many owners follow one another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec
from msgspec import UNSET, UnsetType

from daemon.config import Settings
from daemon.core.model import Now

FENCINGS_MAX = 8
"""Statements in a position record. Each needs a restart within the wait of the one before. Batches beyond them wait anew
after each restart.
"""
IN_FLIGHT_MAX = 100
"""Batches that a position record names as possibly in flight. If there are more, it does not say that its owner has ended."""


class Fencing(msgspec.Struct, frozen=True):
    """Nobody has POSTed the batches in a range since this time: all earlier owners were fenced by then.

    Journal offsets: the range contains each batch without a task whose record is at `first` to `last`.
    """

    first: int
    last: int
    at: int
    """By the broker's clock, ms."""
    host_at: int
    """The same by the wall clock of the owner, ms. The shorter of the two intervals counts, so that one clock that jumps
    does not shorten a wait.
    """


class Released(msgspec.Struct, frozen=True, omit_defaults=True):
    """The owner that wrote this starts no POST until it has written a position without it."""

    in_flight: tuple[str, ...] = ()
    """Batches whose POST may still reach the API, except those in a `Fencing`."""


@dataclass(slots=True)
class _Quarantine:
    """Batches that wait for the same time."""

    batches: frozenset[str]
    until: float
    """Monotonic."""
    fencing: Fencing | None
    """What the position states about them."""


class Takeover:
    """`released` and `fencings` belong into the position record. Methods that return a bool return whether it has to be
    written again.
    """

    def __init__(self, settings: Settings) -> None:
        self._wait = settings.fence.lease + settings.http.deadline
        self._quarantines: list[_Quarantine] = []
        self._statable: tuple[int, int] | None = None
        """First and last offset of the batches about which the position states nothing yet, but may after a commit."""
        self._is_timed = False
        self.released: Released | UnsetType = UNSET

    @property
    def fencings(self) -> tuple[Fencing, ...] | UnsetType:
        stated = tuple(each.fencing for each in self._quarantines if each.fencing is not None)
        return stated or UNSET

    def load(
        self,
        released: Released | UnsetType,
        fencings: tuple[Fencing, ...] | UnsetType,
        batches: Mapping[str, int],
        fenced_at: float,
    ) -> bool:
        """What the last position record says, and the offsets of the batches that were restored without a task. `fenced_at`
        is when this owner had fenced all earlier ones (monotonic).
        """
        found: dict[Fencing | None, set[str]] = {}
        for batch_id, offset in batches.items():
            known = () if fencings is UNSET else fencings
            fencing = next((each for each in known if each.first <= offset <= each.last), None)
            if fencing is None and released is not UNSET and batch_id not in released.in_flight:
                continue
            found.setdefault(fencing, set()).add(batch_id)
        until = fenced_at + self._wait
        self._quarantines = [_Quarantine(frozenset(ids), until, fencing) for fencing, ids in found.items()]
        # If some of the others may be sent at once, nothing can be said about a range of them.
        if None in found and released is UNSET and len(found) <= FENCINGS_MAX:
            offsets = [batches[batch_id] for batch_id in found[None]]
            first, last = min(offsets), max(offsets)
            # Nor about a range with batches that may be sent earlier.
            if not any(each.first <= last and first <= each.last for each in found if each is not None):
                self._statable = first, last
        return bool(found)

    def committed(self, appended_at: int | None, now: Now) -> bool:
        """A commit of this owner has returned. `appended_at` is when it was written, by the broker's clock (ms)."""
        if self._is_timed:
            return False
        self._is_timed = True
        if appended_at is None:
            return False
        for each in self._quarantines:
            if each.fencing is None:
                if self._statable is not None:
                    each.fencing = Fencing(*self._statable, appended_at, now.wall)
            else:
                passed = min(appended_at - each.fencing.at, now.wall - each.fencing.host_at) / 1000
                each.until = min(each.until, now.mono + max(0.0, self._wait - passed))
        return self._statable is not None

    def due(self) -> float | None:
        """When the next wait is over (monotonic)."""
        return min((each.until for each in self._quarantines), default=None)

    def cleared(self, now: float) -> list[str]:
        """The batches whose wait is over. They may be sent when a position has been committed."""
        over = [each for each in self._quarantines if each.until <= now]
        if over:
            self._quarantines = [each for each in self._quarantines if each.until > now]
        return [batch_id for each in over for batch_id in sorted(each.batches)]

    def in_quarantine(self, batch_id: str) -> bool:
        return any(batch_id in each.batches for each in self._quarantines)

    def task_lost(self, offset: int) -> None:
        """The batch with this offset has no task any more, and will be POSTed again."""
        for each in self._quarantines:
            if each.fencing is not None and each.fencing.first <= offset <= each.fencing.last:
                each.fencing = None
        if self._statable is not None and self._statable[0] <= offset <= self._statable[1]:
            self._statable = None

    def hand_over(self, in_flight: Iterable[str], submissions: Iterable[str]) -> bool:
        """No POST starts until `keep`. `in_flight`: the batches that this owner has POSTed and whose POST may still reach the
        API; `submissions`: all batches without a task.
        """
        unstated = {batch_id for each in self._quarantines if not each.fencing for batch_id in each.batches}
        without_task = set(submissions)
        in_flight = tuple(sorted(without_task & unstated.union(in_flight)))
        before = self.released
        self.released = Released(in_flight) if without_task and len(in_flight) <= IN_FLIGHT_MAX else UNSET
        return self.released != before

    def keep(self) -> None:
        """POSTs may start, each after a commit that began after this call."""
        self.released = UNSET
