"""The journal: everything a shard knows, as records of several kinds. `journal_fold` rebuilds the memory from them.

The last value of a key counts (R9): a record replaces the previous one with the same key, and a tombstone removes it.
There are no deltas, so compaction and repeated reading do not alter the outcome. Keys are JSON arrays, so that
ids with arbitrary characters cannot collide.

    ["position"]                    next input offset, and what the shard knows about the topic and the API time
    ["wait", integration, origin]   a waiting change
    ["batch", id]                   a sealed batch: frozen body and its items; written once
    ["task", batch id]              the API's task of that batch
    ["refusal", batch id]           why the API has not accepted that batch yet, for operators
    ["late", batch id, task id]     the task of that batch, which timed out and is still watched
    ["floor", integration]          the newest task of an integration that was ever seen (R14)

Values are JSON objects, so that a person with a console consumer can read them. `body` bytes are embedded verbatim:
what is read back is byte for byte what was sealed.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from daemon.core.model import Error, Item, Trace
from daemon.core.operation import Operation
from daemon.core.operations import OPERATIONS
from daemon.core.takeover import Fencing, Released
from daemon.core.trace import Stored
from daemon.core.upsert import UPSERT

FORMAT = 3
"""Version of this layout, stored in every position record. Version 2 has one floor per integration. Version 3 has the
batch in the key of a watched task, because the API may give several batches the same task id; earlier versions wrote
``["late", task id]``. It also has refusals. A version higher than this one blocks the partition (R8).
"""

DEFAULT_OPERATION = UPSERT.name


class JournalError(Exception):
    """A journal record that this version cannot read: the partition must not continue (R8)."""


class NewerJournalError(JournalError):
    """The format of the journal is newer than this version supports: run the version that wrote it again."""


class Attempt(msgspec.Struct, frozen=True, gc=False):
    """One submission of a change, and how it ended."""

    batch_id: str
    error: Error | None = None
    task_id: str | None = None
    submitted_at: int | None = None
    completed_at: int | None = None
    is_shared: bool | UnsetType = UNSET
    """Whether it failed together with all other changes of its batch; absent if it is false."""


class Rejections(msgspec.Struct, frozen=True, omit_defaults=True):
    """The rejected records of the stretch of input that is counted now: see `core.rejection_limit`."""

    since: int = 0
    """The offset of the first record of the stretch."""
    records: int = 0
    rejected: int = 0
    stopped_at: int | None = None
    """The record in front of which reading has stopped."""
    allowed_to: int = 0
    """An operator has allowed all rejections below this offset. They are not counted."""


class Position(msgspec.Struct, frozen=True):
    format: int
    next_offset: int
    topic_id: str
    partitions: int
    api_floor: int
    """The floor of integrations that have no floor record, ms (R14): the first start of the shard. In format 1 it was
    the largest API time that the shard had seen, of any integration.
    """
    rejections: Rejections | UnsetType = UNSET
    """Absent while no rejected records are counted."""
    released: Released | UnsetType = UNSET
    fencings: tuple[Fencing, ...] | UnsetType = UNSET
    """R6, see `core.takeover`. A version that does not know these two drops them, and waits for the whole time."""
    courses_since: int | UnsetType = UNSET
    """The offset in the courses partition from which records state what the courses are. Absent if no owner has written
    courses yet; a version that writes none drops it, so that none of the earlier records is believed afterwards.
    """


class Wait(msgspec.Struct, frozen=True):
    item: Item
    body: msgspec.Raw
    not_before: int | None = None
    last: Attempt | None = None
    """Present exactly if the change was submitted and failed for a transient reason (R10)."""
    operation: str | UnsetType = UNSET
    """Absent for `DEFAULT_OPERATION`, as in all records of earlier versions."""
    resend: bool | UnsetType = UNSET
    """As in `Change`; absent if it is false."""
    bulk: bool | UnsetType = UNSET
    """As in `Held` (R21); absent if it is false. A version that does not know it treats all changes alike."""
    trace: Trace | UnsetType = UNSET
    """Absent if the publisher sent none. A version that does not know it drops it."""


class SealedBatch(msgspec.Struct, frozen=True, omit_defaults=True):
    integration_id: str
    sealed_at: int
    api_floor: int
    items: tuple[Item, ...]
    body: msgspec.Raw
    replays: int = 0
    """How many consecutive bodies of these changes, right before this one, the API answered with an earlier task
    (R14).
    """
    operation: str = DEFAULT_OPERATION
    """Absent for the default."""
    splits: int = 0
    """How often a batch with these changes was halved because all of its items had failed together."""
    bulk: bool = False
    """As in `Wait`: of all its changes."""
    traces: Stored | UnsetType = UNSET
    """As in `Wait`, by offset."""


class Task(msgspec.Struct, frozen=True):
    task_id: str
    accepted_at: int
    fate_unknown: bool | UnsetType = UNSET
    """Whether an earlier POST of the batch may have created another task; absent if it is false."""


class Refusal(msgspec.Struct, frozen=True):
    """The last answer to the POST of a batch that is sent again. Nothing is decided by it."""

    verdict: str
    """A `SubmitVerdict`."""
    error: Error
    refused_at: int
    not_before: int | None
    """When it may be sent again; None while the API refuses our key for every integration."""


class Late(msgspec.Struct, frozen=True):
    batch_id: str
    integration_id: str
    items: tuple[Item, ...]
    created_at: int
    accepted_at: int
    operation: str | UnsetType = UNSET
    """As in `Wait`."""
    traces: Stored | UnsetType = UNSET
    """As in `SealedBatch`."""


class Floor(msgspec.Struct, frozen=True, omit_defaults=True):
    """The floor of one integration (R14). Written with the steps that its tasks cause, and never erased."""

    created_at: int
    """The largest `created_at` of any of its tasks that this shard has seen; API time, ms."""
    ahead_ms: int = 0
    """How far it was ahead of the API's clock when it was seen; 0 if the difference is within normal clock
    differences.
    """
    seen_at: int | None = None
    """When it was seen, by our wall clock; None if it was not ahead."""


Value = Position | Wait | SealedBatch | Task | Refusal | Late | Floor

_encoder = msgspec.json.Encoder()


class _Format(msgspec.Struct):
    """The fields that position records of every version have."""

    format: int


_decode_format = msgspec.json.Decoder(_Format).decode
_decode_key = msgspec.json.Decoder(list[str]).decode
_decoders: dict[str, tuple[tuple[int, ...], msgspec.json.Decoder[Any]]] = {
    "position": ((1,), msgspec.json.Decoder(Position)),
    "wait": ((3,), msgspec.json.Decoder(Wait)),
    "batch": ((2,), msgspec.json.Decoder(SealedBatch)),
    "task": ((2,), msgspec.json.Decoder(Task)),
    "refusal": ((2,), msgspec.json.Decoder(Refusal)),
    "late": ((3, 2), msgspec.json.Decoder(Late)),
    "floor": ((2,), msgspec.json.Decoder(Floor)),
}
"""By kind: the number of parts of the key, the current one first, and the decoder of the value."""

POSITION_KEY = _encoder.encode(["position"])


def wait_key(integration_id: str, origin_id: str) -> bytes:
    return _encoder.encode(("wait", integration_id, origin_id))


def batch_key(batch_id: str) -> bytes:
    return _encoder.encode(("batch", batch_id))


def task_key(batch_id: str) -> bytes:
    return _encoder.encode(("task", batch_id))


def refusal_key(batch_id: str) -> bytes:
    return _encoder.encode(("refusal", batch_id))


def late_key(*parts: str) -> bytes:
    """`parts`: the ids of batch and task. Formats 1 and 2 had only the id of the task."""
    return _encoder.encode(("late", *parts))


def floor_key(integration_id: str) -> bytes:
    return _encoder.encode(("floor", integration_id))


def encode_value(value: Value) -> bytes:
    return _encoder.encode(value)


def operation_name(operation: Operation) -> str | UnsetType:
    """The operation as stored in the record of a waiting change, or of a task that is watched."""
    return UNSET if operation.name == DEFAULT_OPERATION else operation.name


def operation_of(record: Wait | SealedBatch | Late) -> Operation:
    """The operation of the record.

    Raises:
        JournalError: this version does not know the operation.
    """
    name = DEFAULT_OPERATION if record.operation is UNSET else record.operation
    try:
        return OPERATIONS[name]
    except KeyError:
        raise JournalError(
            f"the journal contains changes with the operation {name!r}, which this version does not know; "
            "run the newer version of coursesyncd again"
        ) from None


def digest(body: bytes | memoryview) -> bytes:
    """Eight bytes that verify that a body read back later is the one that was sealed (R9). Processors have instructions for
    SHA-256, so that it takes a third of the time of BLAKE2.
    """
    return hashlib.sha256(body).digest()[:8]


def decode(key: bytes | None, value: bytes | None) -> tuple[list[str], Value | None]:
    """Decode one journal record. The messages of its errors contain nothing of the record, because the admin port shows
    them.

    Raises:
        JournalError: the key or the value is not valid.
        NewerJournalError: a newer version has written this journal, according to its position record.
    """
    try:
        parts = _decode_key(key or b"")
        if key == POSITION_KEY and value is not None:
            # Checked before the other fields, whose format may differ.
            _refuse_newer(_decode_format(value).format)
        sizes, decoder = _decoders[parts[0]]
        if len(parts) not in sizes:
            raise JournalError(f"a {parts[0]} record has a key of {len(parts)} parts, expected {sizes[0]}")
        return parts, None if value is None else decoder.decode(value)
    except LookupError as error:
        raise JournalError(
            "a record is of a kind that this version does not know; a newer version wrote it, or it is damaged"
        ) from error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise JournalError(
            f"a record cannot be read by this version ({type(error).__name__}); "
            "a newer version wrote it, or it is damaged"
        ) from error


def _refuse_newer(version: int) -> None:
    if version > FORMAT:
        raise NewerJournalError(
            f"the journal has format {version}, but this version reads formats up to {FORMAT}; "
            "run the newer version of coursesyncd again"
        )


def payload(batch_id: str, digest_expected: bytes, key: bytes | None, value: bytes | None) -> bytes:
    """The body of a batch, from the record that was read back from its offset (R9).

    Raises:
        JournalError: the record is not the expected one.
    """
    _, record = decode(key, value)
    if key != batch_key(batch_id) or not isinstance(record, SealedBatch):
        raise JournalError(f"the journal contains another record at the offset of batch {batch_id}")
    body = bytes(record.body)
    if digest(body) != digest_expected:
        raise JournalError(f"the body of batch {batch_id} in the journal is not the one that was sealed")
    return body
