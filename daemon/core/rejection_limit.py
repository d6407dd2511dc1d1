"""Stops reading when too many records in a row are rejected.

How it works. A publisher that suddenly writes another format, or a version of this daemon that can no longer read the
present one, would turn the whole topic into dead letters. So rejected records are counted over a *stretch* of the input:

    begins    at a rejected record
    ends      at a record with which at most `input.rejected_ratio_max` of the records of the stretch are rejected
    stops     before a record that would be rejected, if `input.rejected_max` records of the stretch are rejected

A record that stops reading gets no result and no dead letter. The position stays in front of it, so every later reader
examines it again: it stops there too, unless the record can be read now (a fixed version was installed), a setting was
raised, or an operator has allowed the rejections (`coursesyncd reject`). The counts are part of the position record (R8).
A restart therefore never allows further rejections.

Records that are rejected because the backlog is full are valid, so they count as such.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from msgspec import UNSET, UnsetType

from daemon.config import InputSettings
from daemon.core.journal import Rejections
from daemon.core.model import Change, Rejection

Entry = Change | Rejection
NO_REJECTIONS = Rejections()


@dataclass(frozen=True, slots=True)
class Stop:
    """Why reading has stopped."""

    offset: int
    """The record that is not read."""
    code: str
    """Why that record would be rejected (`COURSESYNC.*`)."""
    since: int
    """The offset of the first record of the stretch."""
    records: int
    """The number of records of the stretch."""
    rejected: int
    """How many of them were rejected."""


class RejectionLimit:
    """Counts the records of one shard."""

    def __init__(self, limits: InputSettings, journalled: Rejections | UnsetType) -> None:
        self._limits = limits
        self._counts = NO_REJECTIONS if journalled is UNSET else journalled
        self.stop: Stop | None = None

    @property
    def record(self) -> Rejections | UnsetType:
        """The counts for the position record."""
        return UNSET if self._counts == NO_REJECTIONS else self._counts

    @property
    def stopped_at(self) -> int | None:
        """The record in front of which reading has stopped, here or before the last restore."""
        return self._counts.stopped_at

    def readable(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """The entries before the one that stops reading; none once it has stopped."""
        if self.stop is not None:
            return ()
        if self._counts == NO_REJECTIONS and not any(isinstance(entry, Rejection) for entry in entries):
            return entries
        for index, entry in enumerate(entries):
            if not self._passes(entry):
                return entries[:index]
        return entries

    def _passes(self, entry: Entry) -> bool:
        counts, rejected = self._counts, isinstance(entry, Rejection)
        if entry.offset < counts.allowed_to:
            return True
        if counts.stopped_at is not None and not rejected:
            counts = NO_REJECTIONS  # the record that stopped an earlier reader can be read now
        if isinstance(entry, Rejection) and self._is_reached(counts):
            code = entry.error.code or ""
            self.stop = Stop(entry.offset, code, counts.since, counts.records, counts.rejected)
            self._counts = msgspec.structs.replace(counts, stopped_at=entry.offset)
            return False
        since = counts.since if counts.records else entry.offset
        counted = Rejections(since, counts.records + 1, counts.rejected + rejected)
        self._counts = counted if self._exceeds_ratio(counted) else NO_REJECTIONS
        return True

    def _is_reached(self, counts: Rejections) -> bool:
        return counts.rejected >= self._limits.rejected_max and self._exceeds_ratio(counts)

    def _exceeds_ratio(self, counts: Rejections) -> bool:
        return counts.rejected > self._limits.rejected_ratio_max * counts.records
