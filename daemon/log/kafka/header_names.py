"""Records whose header names are not UTF-8, which the library can not read.

The protocol says UTF-8, but brokers do not look, and clients in C send any bytes. The library refuses
such a record as corrupt and, polled once more, spins for ever; the daemon could not get past it. Here the
name is read with replacement characters instead. Key, value and header values are untouched.
"""

from __future__ import annotations

from typing import Any, SupportsIndex

from kafka.record.default_records import DefaultRecordBatch

_strict_read = DefaultRecordBatch._read_msg  # noqa: SLF001


class _Lenient(bytes):
    """A batch's bytes whose slices decode anything. Slow, so only for batches that need it."""

    __slots__ = ()

    def __getitem__(self, index: SupportsIndex | slice) -> Any:
        part = super().__getitem__(index)
        return _Lenient(part) if isinstance(part, bytes) else part

    def decode(self, encoding: str = "utf-8", errors: str = "replace") -> str:
        return super().decode(encoding, errors)


def _lenient_read(batch: Any) -> Any:
    try:
        return _strict_read(batch)
    except UnicodeDecodeError:  # only header names are decoded; the batch stands where it stood
        batch._buffer = _Lenient(batch._buffer)  # noqa: SLF001
        return _strict_read(batch)


def read_any_header_name() -> None:
    """From now on, in this process. Idempotent."""
    DefaultRecordBatch._read_msg = _lenient_read  # noqa: SLF001
