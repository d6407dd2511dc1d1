"""Judges whether replicas obey what operators decide (R19).

A replica knows what it has read of the control topic: the judge sees each read. It does not ask the daemon what holds, but
reads the records by their documented format.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from daemon.log.port import ControlRead, Transaction
from tests.sim.journal_view import batch_record
from tests.sim.seen import Who

UNREAD_MAX = 4.0
"""Virtual seconds between two attempts to read the topic."""
UNSURE_MS = 1700
"""So near to the end of a pause, nobody can say whether it holds: replicas look at their clock about once a second."""


class Known(NamedTuple):
    """A decision, as its record says it."""

    offset: int
    kind: str
    value: dict[str, Any]

    def names(self, integration_id: str) -> bool:
        name: str = self.value["integration"]
        return integration_id.startswith(name[:-1]) if name.endswith("*") else name == integration_id

    def covers(self, integration_id: str, course: str, partition: int, offset: int) -> bool:
        value = self.value
        return (
            self.kind == "give-up"
            and value["integration_id"] == integration_id
            and value.get("origin_id") in (None, course)
            and partition < len(value["before"])
            and offset < value["before"][partition]
        )


class _Reader:
    """What one process has read, and when it last tried to read."""

    def __init__(self) -> None:
        self.decisions: dict[str, Known] = {}
        """By the key of the record."""
        self.is_whole = False
        self.tried_at = 0.0


class Obedience:
    """Judges what replicas do against what they have read."""

    def __init__(
        self,
        clock: Callable[[], float],
        offsets_of: Callable[[str], Iterable[int]],
        accuse: Callable[[str, str], None],
    ) -> None:
        """`offsets_of` returns the offsets of the changes in a batch."""
        self._clock = clock
        self._offsets_of = offsets_of
        self._accuse = accuse
        self._readers: dict[Who, _Reader] = {}
        self._before_last: dict[tuple[Who, int], tuple[list[Known], list[Known]]] = {}
        """What a process knew when its commit before the last one, and its last one, of this partition began."""
        self.wall_of: Callable[[str], int | None] = lambda _name: None
        """The wall clock of the host of this replica (ms). None if it is set in this history, so that the ends of pauses cannot be
        judged."""

    def reading(self, who: Who) -> None:
        """A process tries to read the topic, or goes on after it was stopped."""
        self._readers.setdefault(who, _Reader()).tried_at = self._clock()

    def has_read(self, who: Who, read: ControlRead) -> None:
        reader = self._readers[who]
        for record in read.records:
            decision = msgspec.json.decode(record.value or b"null")
            if isinstance(decision, dict) and "kind" in decision:
                key = (record.key or b"").decode()
                reader.decisions[key] = Known(record.offset, decision["kind"], decision)
        reader.is_whole = reader.is_whole or read.at_end

    def posted(self, who: Who, integration_id: str) -> None:
        reader = self._readers.get(who)
        if reader is None or not reader.is_whole:
            self._accuse("disobedience", f"{who[0]} POSTs before it has read the control topic (R19)")
            return
        if self._clock() - reader.tried_at > UNREAD_MAX:
            self._accuse("disobedience", f"{who[0]} does not follow the control topic (R19)")
        if self._is_paused(who, [*reader.decisions.values()], integration_id):
            self._accuse("disobedience", f"{who[0]} POSTs for {integration_id}, which is paused (R19)")

    def commit_begins(self, who: Who, partition: int, transaction: Transaction) -> None:
        """What is decided in this transaction was decided after the last one began."""
        reader = self._readers.get(who)
        known = [] if reader is None else [*reader.decisions.values()]
        _, last = self._before_last.get((who, partition), ([], []))
        self._before_last[who, partition] = last, known
        both = [each for each in last if each in known]
        entries = [(msgspec.json.decode(key), value) for key, value in transaction.journal]
        handed_over = {
            offset
            for (kind, *rest), value in entries
            if kind == "batch" and value is None
            for offset in self._offsets_of(rest[0])
        }
        for (kind, *rest), value in entries:
            if kind != "batch" or value is None:
                continue
            batch = batch_record(rest[0], value)
            if not handed_over.isdisjoint(batch.offsets):
                continue  # the half of a batch that was refused, or another body after an earlier task
            integration_id = batch.integration_id
            if len(both) == len(known) and self._is_paused(who, both, integration_id):
                self._accuse(
                    "disobedience",
                    f"{who[0]} seals {batch.batch_id} of {integration_id}, which is paused (R19)",
                )
            for course, offset in zip(batch.courses, batch.offsets, strict=False):
                if any(each.covers(integration_id, course, partition, offset) for each in both):
                    self._accuse(
                        "disobedience",
                        f"{who[0]} seals the change {partition}/{offset}, which is given up (R19)",
                    )

    def _is_paused(self, who: Who, known: list[Known], integration_id: str) -> bool:
        """Whether it certainly is, at the process's own clock."""
        wall = self.wall_of(who[0])
        for each in sorted(known, key=lambda each: -each.offset):
            if each.kind != "pause" or not each.names(integration_id):
                continue
            if (until := each.value.get("until")) is not None:
                if wall is None:
                    return False
                left = datetime.fromisoformat(until).timestamp() * 1000 - wall
                if abs(left) < UNSURE_MS:
                    return False
                if left < 0:
                    continue
            return bool(each.value["paused"])
        return False
