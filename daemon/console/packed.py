"""Changes in few bytes: a console keeps a million waiting changes in memory.

A waiting change is one `bytes` object: numbers of fixed size, and its ids as MessagePack. It begins with the time at which it
was consumed, so comparing two of them compares their ages. Ids are in it verbatim, as UTF-8: `needle in packed` finds them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from daemon.core.journal import Wait
from daemon.core.model import Error, Item
from daemon.core.waiting import waits_for_customer

_HEAD = struct.Struct(">QQQBHI")
_MILLISECONDS_MAX = 2**63 - 1
_RETRY, _FOR_CUSTOMER, _BULK = 1, 2, 4

_encode = msgspec.msgpack.Encoder().encode
_decode_ids = msgspec.msgpack.Decoder(tuple[str, str | None, str | None]).decode
_decode_items = msgspec.msgpack.Decoder(list[tuple[str, int, str, int, int]]).decode

ERRORS_MAX = 20_000
"""Different errors whose messages are kept. Messages may contain ids, so their number has no other limit."""
ERROR_MESSAGE_MAX = 400
"""Characters of a message that are kept."""


class WaitingChange(NamedTuple):
    """A waiting change, unpacked."""

    consumed_at: int
    not_before: int | None
    offset: int
    is_retry: bool
    waits_for_customer: bool
    is_bulk: bool
    failures: int
    error: Error | None
    change_id: str
    batch_id: str | None
    """Of the last attempt, like `task_id`."""
    task_id: str | None


class PackedItem(NamedTuple):
    """A change in a batch."""

    origin_id: str
    offset: int
    change_id: str
    consumed_at: int
    failures: int


class Errors:
    """Each different error once. Nothing is dropped: of further ones, only the code is kept."""

    def __init__(self) -> None:
        self._numbers: dict[Error, int] = {}
        self._errors: list[Error | None] = [None]

    def __getitem__(self, number: int) -> Error | None:
        return self._errors[number]

    def number(self, error: Error | None) -> int:
        """0: no error."""
        if error is None:
            return 0
        error = shortened(error)
        if error not in self._numbers and len(self._errors) > ERRORS_MAX:
            error = Error(error.code, "")
            if len(self._errors) > 2 * ERRORS_MAX:
                error = Error(None, "")
        number = self._numbers.get(error)
        if number is None:
            number = self._numbers[error] = len(self._errors)
            self._errors.append(error)
        return number


def shortened(error: Error) -> Error:
    """The error without its link, and without what is too long to be kept."""
    return Error(error.code, error.message[:ERROR_MESSAGE_MAX], error.title)


def packed_wait(wait: Wait, errors: Errors) -> bytes:
    item, last = wait.item, wait.last
    flags = (
        (_RETRY if last is not None else 0)
        | (_FOR_CUSTOMER if waits_for_customer(wait) else 0)
        | (_BULK if wait.bulk is True else 0)
    )
    head = _HEAD.pack(
        _bounded(item.consumed_at),
        _bounded(wait.not_before or 0),
        _bounded(item.offset),
        flags,
        min(max(item.failures, 0), 65_535),
        0 if last is None else errors.number(last.error),
    )
    ids = (item.change_id, None, None) if last is None else (item.change_id, last.batch_id, last.task_id)
    return head + _encode(ids)


def unpacked_wait(packed: bytes, errors: Errors) -> WaitingChange:
    consumed_at, not_before, offset, flags, failures, error = _HEAD.unpack_from(packed)
    change_id, batch_id, task_id = _decode_ids(packed[_HEAD.size :])
    return WaitingChange(
        consumed_at,
        not_before or None,
        offset,
        bool(flags & _RETRY),
        bool(flags & _FOR_CUSTOMER),
        bool(flags & _BULK),
        failures,
        errors[error],
        change_id,
        batch_id,
        task_id,
    )


def consumed_at(packed: bytes) -> int:
    """When the waiting change was consumed, ms."""
    return int.from_bytes(packed[:8], "big")


def not_before(packed: bytes) -> int:
    """When it may be sent again, ms; 0 if at any time."""
    return int.from_bytes(packed[8:16], "big")


def is_retry(packed: bytes) -> bool:
    return bool(packed[24] & _RETRY)


def for_customer(packed: bytes) -> bool:
    return bool(packed[24] & _FOR_CUSTOMER)


def packed_items(items: Sequence[Item]) -> bytes:
    return _encode(
        [(each.origin_id, each.offset, each.change_id, each.consumed_at, each.failures) for each in items]
    )


def unpacked_items(packed: bytes) -> list[PackedItem]:
    return [PackedItem(*each) for each in _decode_items(packed)]


def _bounded(milliseconds: int) -> int:
    return min(max(milliseconds, 0), _MILLISECONDS_MAX)
