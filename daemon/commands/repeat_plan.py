"""Which changes `coursesyncd republish` sends again. Pure: results and input records go in, offsets come out.

`Picked` collects the changes behind results, by partition. A `PartitionPlan` is then given the records of one input partition, from
`start` on. Of each course it keeps the newest picked change, unless a newer valid change follows. It is given the
end of the partition again before each piece is published, so that it is as current as it can be; what comes in between is left to
the daemon (R20).

A repeat that ended REJECTED or with `REPEAT_OUTDATED` was not accepted: it is nobody's newer change, and if it is picked, the
change that it names is sent again instead.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

from daemon.codec.result import SyncResult
from daemon.core.model import Change, Rejection, Status
from daemon.core.repeats import REPEAT_OUTDATED

Course = tuple[str, str]


class Ids(NamedTuple):
    """Of a change, as its result has them."""

    integration_id: str | None = None
    origin_id: str | None = None
    change_id: str | None = None

    def __str__(self) -> str:
        return f"change {self.change_id or '?'} of {self.origin_id or '?'} in {self.integration_id or '?'}"

    def fit(self, entry: Change | Rejection) -> bool:
        """Whether this record can be the one that the result is about."""
        found = (entry.integration_id, entry.origin_id, entry.change_id)
        return all(known is None or known == other for known, other in zip(self, found, strict=True))


@dataclass(slots=True)
class Picked:
    """The changes whose results were picked, by partition and offset."""

    changes: defaultdict[int, dict[int, Ids]] = field(default_factory=lambda: defaultdict(dict))
    not_accepted: defaultdict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    """Offsets of changes that were refused when they were admitted, picked or not: these may be repeats."""
    _corrected: set[tuple[int, int]] = field(default_factory=set)
    """Partition and offset of changes that have succeeded late."""

    def result(self, result: SyncResult, *, is_picked: bool, is_correction: bool) -> None:
        """The next result of the topic. `is_picked`: it is one of those that the operator has named."""
        partition, offset = result.change.partition, result.change.offset
        if is_correction:
            if result.status is Status.SUCCEEDED:  # it may be read before the result, which has another key
                self._corrected.add((partition, offset))
                self.changes[partition].pop(offset, None)
            return
        is_outdated = result.error is not None and result.error.code == REPEAT_OUTDATED
        if is_outdated or result.status is Status.REJECTED:
            self.not_accepted[partition].add(offset)
        if is_picked and (partition, offset) not in self._corrected:
            self.changes[partition][offset] = Ids(result.integration_id, result.origin_id, result.change_id)

    @property
    def count(self) -> int:
        return sum(map(len, self.changes.values()))


class Skipped(NamedTuple):
    """A picked change that is not sent again."""

    offset: int
    ids: Ids
    why: str


class PartitionPlan:
    """What is sent again of one partition."""

    def __init__(self, partition: int, changes: dict[int, Ids], not_accepted: set[int]) -> None:
        self.partition = partition
        self.skipped: list[Skipped] = []
        """Not sent for a reason that an operator should know."""
        self.newer = 0
        """Not sent, because a newer change of the course follows; also a picked one, or a repeat."""
        self._picked = dict(changes)
        """Without those that were found."""
        self._not_accepted = not_accepted
        self._newest: dict[Course, int] = {}
        """The picked changes to be sent, by course."""
        self._ids: dict[int, Ids] = {}
        """Of these."""
        self._earlier: dict[int, Ids] = {}
        """Changes before those that were read, which picked repeats name."""

    @property
    def start(self) -> int:
        """From which offset on the partition has to be read. There must be something picked."""
        return min(self._picked)

    def record(self, offset: int, entry: Change | Rejection) -> None:
        """The next record of the partition."""
        ids = self._picked.pop(offset, None)
        if ids is not None and not ids.fit(entry):
            found = Ids(entry.integration_id, entry.origin_id, entry.change_id)
            self._skip(offset, ids, f"another record is at its place ({found}): was the topic made anew?")
            ids = None
        if isinstance(entry, Rejection):
            if ids is not None:
                self._skip(offset, ids, f"it would be rejected again: {entry.error.message}")
            return
        if entry.repeats is not None and offset in self._not_accepted:
            if ids is not None:
                self._earlier[entry.repeats.offset] = Ids(*ids)
            return
        course = (entry.integration_id, entry.origin_id)
        if (older := self._newest.pop(course, None)) is not None:
            del self._ids[older]
            self.newer += 1
        if ids is not None:
            self._newest[course] = offset
            self._ids[offset] = Ids(entry.integration_id, entry.origin_id, entry.change_id)

    def read_to_the_end(self) -> bool:
        """All records from `start` on were passed to `record`. Returns whether they have to be read once more, from another
        `start`, because picked repeats name earlier changes.
        """
        self.skip_all("the input does not have its record any more")
        named = {offset: ids for offset, ids in self._earlier.items() if offset not in self._ids}
        self._earlier.clear()
        if not named:
            return False
        self._picked = self._ids | named
        self._newest.clear()
        self._ids = {}
        return True

    def skip_all(self, why: str) -> None:
        """No picked change can be sent."""
        for offset, ids in self._picked.items():
            self._skip(offset, ids, why)
        self._picked.clear()

    @property
    def offsets(self) -> list[int]:
        """The changes to be sent again, in ascending order."""
        return sorted(self._ids)

    def ids(self, offset: int) -> Ids | None:
        """Of a change that is to be sent again; None: it is not any more."""
        return self._ids.get(offset)

    def drop(self, offset: int, why: str | None = None) -> None:
        """Forget this change: it was sent, or is not sent for this reason."""
        ids = self._ids.pop(offset)
        assert ids.integration_id is not None
        assert ids.origin_id is not None
        del self._newest[ids.integration_id, ids.origin_id]
        if why is not None:
            self._skip(offset, ids, why)

    def _skip(self, offset: int, ids: Ids, why: str) -> None:
        self.skipped.append(Skipped(offset, ids, why))
