"""Where records are in their topic, by the ids in them: the last records of a topic, without the records.

How it works. A ring of arrays: for each record a location, and a hash of each id. A search compares one array with one number,
which takes milliseconds for a million records. The found records are read from Kafka again and compared with what was asked, so
that two ids with the same hash do no harm.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import NamedTuple

_OFFSET_BITS = 48


class Location(NamedTuple):
    partition: int
    offset: int


class RecordIndex:
    """At most `records_max` records; the oldest are dropped. 8 bytes for each column and record."""

    def __init__(self, columns: Sequence[str], records_max: int) -> None:
        self._columns = {name: array("q") for name in columns}
        self._locations = array("Q")
        self._records_max = records_max
        self._next = 0
        """Where the next record goes when the ring is full."""

    def __len__(self) -> int:
        return len(self._locations)

    def add(self, location: Location, ids: Sequence[object]) -> None:
        """`ids`: for each column what is searched for; None is never found."""
        packed = location.partition << _OFFSET_BITS | location.offset
        hashes = [0 if each is None else _hash(each) for each in ids]
        if len(self._locations) < self._records_max:
            self._locations.append(packed)
            for column, number in zip(self._columns.values(), hashes, strict=True):
                column.append(number)
            return
        at = self._next
        self._next = (at + 1) % self._records_max
        self._locations[at] = packed
        for column, number in zip(self._columns.values(), hashes, strict=True):
            column[at] = number

    def find(self, column: str, id_: object, limit: int) -> list[Location]:
        """The last `limit` records that may have this id, the newest first. Read them to see whether they do."""
        values, number = self._columns[column], _hash(id_)
        found: list[int] = []
        at = -1
        while True:
            try:
                at = values.index(number, at + 1)
            except ValueError:
                break
            found.append(at)
        found.sort(key=self._age)
        return [self._location(each) for each in found[:limit]]

    def _age(self, at: int) -> int:
        return (self._next - 1 - at) % len(self._locations)

    def _location(self, at: int) -> Location:
        packed = self._locations[at]
        return Location(packed >> _OFFSET_BITS, packed & (1 << _OFFSET_BITS) - 1)


def _hash(id_: object) -> int:
    """Never 0, which stands for no id."""
    return hash(id_) or 1
