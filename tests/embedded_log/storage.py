"""The records of one partition, and what a `read_committed` reader sees of them.

A record is *decided* when its transaction has ended. Undecided records are in the list like all others, but readers stop
before the first of them, at the *stable* offset. Aborted records are removed at once, because no reader here reads
uncommitted records. Their offsets stay empty, and so does the offset that the end of each transaction uses for its marker.
"""

from __future__ import annotations

from bisect import bisect_left
from operator import attrgetter

from daemon.log.port import Message, Record

_offset_of = attrgetter("offset")


class OffsetOutOfRangeError(Exception):
    """The offset is before the first or after the last offset of this partition."""


class UnreadableOffsetError(Exception):
    """The record at this offset cannot be read. See `Partition.unreadable`."""


class Partition:
    __slots__ = ("_records", "_undecided", "end", "start", "unreadable")

    def __init__(self) -> None:
        self.start = 0
        """The first offset that retention has kept. It may have no record."""
        self.end = 0
        """The next offset to be written."""
        self._records: list[Record] = []
        self.unreadable: set[int] = set()
        """Offsets whose record no reader can read, such as those of a damaged or oversized batch."""
        self._undecided: dict[str, list[int]] = {}
        """Offsets written by each open transaction, by transactional id."""

    @property
    def stable(self) -> int:
        """Everything below this offset is decided."""
        return min((offsets[0] for offsets in self._undecided.values()), default=self.end)

    @property
    def first_undecided(self) -> str | None:
        """The transactional id of the first open transaction."""
        return min(self._undecided, key=lambda id_: self._undecided[id_][0], default=None)

    def append(self, timestamp: int, message: Message, transactional_id: str | None = None) -> int:
        """Write one record at the end. It is undecided if it belongs to a transaction."""
        offset = self.end
        self._records.append(Record(offset, timestamp, message.key, message.value, message.headers))
        self.end = offset + 1
        if transactional_id is not None:
            self._undecided.setdefault(transactional_id, []).append(offset)
        return offset

    def decide(self, transactional_id: str, *, commit: bool) -> None:
        """End the transaction in this partition. Its marker takes an offset."""
        offsets = self._undecided.pop(transactional_id)
        if not commit:
            first = self._index(offsets[0])
            aborted = set(offsets)
            self._records[first:] = [r for r in self._records[first:] if r.offset not in aborted]
        self.end += 1

    def read(self, offset: int, count_max: int, before: int | None = None) -> tuple[list[Record], int]:
        """The committed records from an offset on, and the offset to read from next.

        `before` ends the read earlier than the stable offset. The next offset is after any gap, so that a reader reaches the
        end even if the last offsets have no record.

        Raises:
            OffsetOutOfRangeError: there is no such offset.
            UnreadableOffsetError: the record at the offset is unreadable.
        """
        if offset in self.unreadable:
            raise UnreadableOffsetError
        if not self.start <= offset <= self.end:
            raise OffsetOutOfRangeError
        limit = self.stable if before is None else min(before, self.stable)
        limit = min((bad for bad in self.unreadable if offset <= bad < limit), default=limit)
        if offset >= limit:
            return [], offset
        first = self._index(offset)
        last = min(self._index(limit), first + count_max)
        records = self._records[first:last]
        cut_short = len(records) == count_max
        return records, records[-1].offset + 1 if cut_short else limit

    def at(self, offset: int) -> Record | None:
        """The committed record at exactly this offset."""
        index = self._index(offset)
        if offset >= self.stable or index == len(self._records):
            return None
        record = self._records[index]
        return record if record.offset == offset else None

    def compact(self, before: int | None, *, drop_tombstones: bool) -> None:
        """Keep the last record of each key among the decided ones below `before`."""
        limit = self.stable if before is None else min(before, self.stable)
        clean = self._index(limit)
        last = {record.key: record.offset for record in self._records[:clean]}
        self._records[:clean] = [
            record
            for record in self._records[:clean]
            if last[record.key] == record.offset and not (drop_tombstones and record.value is None)
        ]

    def delete_before(self, offset: int) -> None:
        """Delete the decided records below this offset, as retention does."""
        self.start = max(self.start, min(offset, self.stable))
        del self._records[: self._index(self.start)]

    def _index(self, offset: int) -> int:
        return bisect_left(self._records, offset, key=_offset_of)
