"""The journal by its public description (DESIGN, section 3) and by nothing of the daemon: last value per key.

Used twice: by the witness, which sees every transaction as it is committed, and at the end, when what a
reader finds in the topic must be the state of a shard that has nothing left to do.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from daemon.log.port import Record

FOREIGN_KEYS = (b"\xff", b"notes", b'["notes","n"]', b'["wait","notes"]', b'["wait","notes","n"]')
"""Of records that another program writes into the journal, with values that mean nothing, and erases again."""

_decode_key = msgspec.json.Decoder(list[str]).decode


class _Batch(msgspec.Struct):
    integration_id: str
    items: list[list[Any]]
    body: msgspec.Raw
    operation: str = "upsert"


class _Wait(msgspec.Struct):
    item: list[Any]
    body: msgspec.Raw
    not_before: int | None = None


class WaitRecord(NamedTuple):
    offset: int
    """The input record that waits."""
    seal_count: int
    """Submissions that it was part of; 0: it was never sent."""
    size: int
    """Of its body."""
    backs_off: bool
    """It waits for a time, or has waited for one."""


class Statement(msgspec.Struct, frozen=True):
    """Nobody has POSTed the batches without a task whose records lie at these offsets since this time."""

    first: int
    last: int
    at: int
    """By the broker's clock, ms."""
    host_at: int


class _Released(msgspec.Struct):
    in_flight: frozenset[str] = frozenset()


class _Position(msgspec.Struct):
    next_offset: int | None
    released: _Released | None = None
    fencings: tuple[Statement, ...] = ()


class BatchRecord(NamedTuple):
    batch_id: str
    integration_id: str
    courses: tuple[str, ...]
    """The origin ids, in the order of the body."""
    offsets: tuple[int, ...]
    """The input records that its items stand for."""
    body: bytes
    size: int
    """Of the record's value."""
    operation: str


_decode_batch = msgspec.json.Decoder(_Batch).decode
_decode_wait = msgspec.json.Decoder(_Wait).decode
_decode_position = msgspec.json.Decoder(_Position).decode


def batch_record(batch_id: str, value: bytes) -> BatchRecord:
    record = _decode_batch(value)
    return BatchRecord(
        batch_id,
        record.integration_id,
        tuple(item[0] for item in record.items),
        tuple(item[1] for item in record.items),
        bytes(record.body),
        len(value),
        record.operation,
    )


def deactivation_body(course_id: str) -> bytes:
    """What the record of the batch holds of a call that deactivates this course."""
    return msgspec.json.encode({"course_id": course_id})


def courses_of(body: bytes) -> tuple[str, ...]:
    """The origin ids that the API is told in a bulk submission, in their order; none where a mutant seals no body at all."""
    return tuple(item["origin_id"] for item in msgspec.json.decode(body).get("items", ()))


class JournalView:
    """What one journal partition holds."""

    def __init__(self) -> None:
        self.next_offset: int | None = None
        self.released: frozenset[str] | None = None
        """The owner says that it POSTs nothing any more; these batches may be in flight. None: it does not say so."""
        self.fencings: tuple[Statement, ...] = ()
        self.offsets: dict[str, int] = {}
        """Of the records of batches, where they are known."""
        self.waits: dict[tuple[str, str], WaitRecord] = {}
        """By course."""
        self.batches: dict[str, BatchRecord] = {}
        self.tasks: set[str] = set()
        """Ids of the batches that have one."""
        self.refusals: set[str] = set()
        """Ids of the batches that have one."""
        self.late: set[tuple[str, ...]] = set()
        """Batch and task of each."""

    def statements_about(self, batch_id: str) -> list[Statement]:
        """Those of the position that hold for this batch, if it has no task."""
        offset = self.offsets.get(batch_id, -1)
        return [each for each in self.fencings if each.first <= offset <= each.last]

    def apply(self, key: bytes | None, value: bytes | None, offset: int | None = None) -> None:
        if key in FOREIGN_KEYS:
            return
        kind, *rest = _decode_key(key or b"")
        match kind:
            case "position":
                position = _Position(None) if value is None else _decode_position(value)
                self.next_offset, self.fencings = position.next_offset, position.fencings
                self.released = None if position.released is None else position.released.in_flight
            case "wait":
                course = (rest[0], rest[1])
                if value is None:
                    self.waits.pop(course, None)
                else:
                    wait = _decode_wait(value)
                    self.waits[course] = WaitRecord(
                        wait.item[1], wait.item[4], len(bytes(wait.body)), wait.not_before is not None
                    )
            case "batch":
                if value is None:
                    self.batches.pop(rest[0], None)
                else:
                    self.batches[rest[0]] = batch_record(rest[0], value)
                    if offset is not None:
                        self.offsets[rest[0]] = offset
            case "task" if value is None:
                self.tasks.discard(rest[0])
            case "task":
                self.tasks.add(rest[0])
            case "refusal" if value is None:
                self.refusals.discard(rest[0])
            case "refusal":
                self.refusals.add(rest[0])
            case "late" if value is None:
                self.late.discard(tuple(rest))
            case "late":
                self.late.add(tuple(rest))

    def read(self, records: Iterable[Record]) -> JournalView:
        for record in records:
            self.apply(record.key, record.value)
        return self

    def left(self) -> list[str]:
        """What there is still to do, for people."""
        return [
            *(f"batch {id_}" + (" (has a task)" if id_ in self.tasks else "") for id_ in self.batches),
            *(f"waiting change {wait.offset} of {' '.join(course)}" for course, wait in self.waits.items()),
            *(f"refusal of batch {id_}" for id_ in self.refusals),
            *(f"late task {' '.join(ids)}" for ids in self.late),
        ]
