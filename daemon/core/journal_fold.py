"""The fold that rebuilds the memory of a shard from its journal.

It keeps the *last value per key* (R9). This also holds for a record that cannot be read: it stops the restore only if no
later record or tombstone has its key.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from daemon.core.items import Items
from daemon.core.journal import (
    Floor,
    JournalError,
    Late,
    NewerJournalError,
    Position,
    Refusal,
    SealedBatch,
    Task,
    Wait,
    decode,
    digest,
)

UNREADABLE_MAX = 1_000
"""Keys of records that cannot be read, at which a fold stops: nobody would erase more than this by hand."""


class RestoredBatch(msgspec.Struct):
    """A batch as restored by the fold. As in memory, its items are packed, and its body is dropped once there is a task."""

    offset: int
    sealed: SealedBatch
    """Its record, without its items and its body."""
    items: Items
    courses: list[str]
    """Their origin ids. The shard keeps them as the keys of what is busy (`Lane.busy`)."""
    body: bytes | None
    digest: bytes
    task: Task | None = None


class RestoredLate(NamedTuple):
    """A watched task as restored by the fold."""

    record: Late
    """Without its items."""
    items: Items


class Fold:
    """Folds journal records into the memory of the shard."""

    def __init__(self) -> None:
        self.position: Position | None = None
        self.waits: dict[tuple[str, str], Wait] = {}
        self.batches: dict[str, RestoredBatch] = {}
        self.late: dict[tuple[str, ...], RestoredLate] = {}
        """By the parts of the key after its kind; the last one is the id of the task (`late_key`)."""
        self.floors: dict[str, Floor] = {}
        self.refusals: dict[str, Refusal] = {}
        """By batch."""
        self._tasks: dict[str, Task] = {}
        self._unreadable: dict[bytes, JournalError] = {}
        """Why the last record of a key cannot be read, by the key's digest."""

    def apply(self, offset: int, key: bytes | None, value: bytes | None) -> None:
        """Fold one record in. Call `finish` after the last one.

        Raises:
            JournalError: too many records are not valid.
        """
        try:
            parts, record = decode(key, value)
        except JournalError as error:
            located = type(error)(f"offset {offset}: {error}")
            located.__cause__ = error.__cause__
            self._note_unreadable(key, value, located)
            return
        if self._unreadable:
            self._unreadable.pop(digest(key or b""), None)
        match record:
            case None:
                self._forget(parts)
            case Position():
                self.position = record
            case Wait():
                self.waits[parts[1], parts[2]] = record
            case SealedBatch():
                body = bytes(record.body)
                task = self._tasks.get(parts[1])
                bare = msgspec.structs.replace(record, items=(), body=msgspec.Raw(b""))
                items = Items.pack(record.items)
                kept = body if task is None else None
                courses = [item.origin_id for item in record.items]
                self.batches[parts[1]] = RestoredBatch(offset, bare, items, courses, kept, digest(body), task)
            case Task():
                self._tasks[parts[1]] = record
                batch = self.batches.get(parts[1])
                if batch is not None:
                    batch.task, batch.body = record, None
            case Refusal():
                self.refusals[parts[1]] = record
            case Late():
                bare_late = msgspec.structs.replace(record, items=())
                self.late[tuple(parts[1:])] = RestoredLate(bare_late, Items.pack(record.items))
            case Floor():
                self.floors[parts[1]] = record

    def finish(self) -> None:
        """Must be called before anything of the fold is used.

        Raises:
            NewerJournalError: the journal is of a newer version.
            JournalError: the last record of a key is not valid.
        """
        errors = list(self._unreadable.values())
        newer = (error for error in errors if isinstance(error, NewerJournalError))
        if error := next(newer, None) or next(iter(errors), None):
            raise error

    def _note_unreadable(self, key: bytes | None, value: bytes | None, error: JournalError) -> None:
        name = digest(key or b"")
        if value is None:  # a tombstone: nothing is left that would have to be read
            self._unreadable.pop(name, None)
            return
        self._unreadable[name] = error
        if len(self._unreadable) > UNREADABLE_MAX:
            raise error

    def unread(self) -> list[tuple[str, RestoredBatch]]:
        """Batches whose body was dropped but is needed, because their task was lost. The body must be read back, at
        `offset`, before they are sent. Keeping all bodies instead would hold the payload of every open batch.
        """
        return [
            (id_, batch) for id_, batch in self.batches.items() if batch.task is None and batch.body is None
        ]

    def _forget(self, parts: list[str]) -> None:
        match parts[0]:
            case "position":
                self.position = None
            case "wait":
                self.waits.pop((parts[1], parts[2]), None)
            case "batch":
                self.batches.pop(parts[1], None)
            case "task":
                self._tasks.pop(parts[1], None)
                batch = self.batches.get(parts[1])
                if batch is not None:
                    batch.task = None
            case "refusal":
                self.refusals.pop(parts[1], None)
            case "late":
                self.late.pop(tuple(parts[1:]), None)
            case "floor":
                self.floors.pop(parts[1], None)
