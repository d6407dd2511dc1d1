"""The words of the domain as values: change, item, batch, task, result.

Times are whole milliseconds since the Unix epoch (wall clock or API time, as named); a duration is
in seconds and says so. Absent is ``None``, never 0 or -1.

A shard owns one input partition, so inside it the *source* of a change is its offset alone; topic
and partition are added where a record leaves the shard.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

import msgspec

from daemon.core.operation import Operation

API_ID_CHARS_MAX = 512
"""Longest id of the API that is kept. The vendor's ids have 24 to 60 characters. Journal keys must stay small (R7)."""
ERROR_CODE_CHARS_MAX = 200
LOG_URL_CHARS_MAX = 2000
"""A longer link is dropped: a truncated link does not work."""


class Status(StrEnum):
    """The terminal outcome of a change, as published."""

    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    TIMED_OUT = "TIMED_OUT"
    SUPERSEDED = "SUPERSEDED"
    REJECTED = "REJECTED"


class RejectReason(StrEnum):
    """Why a record was not accepted; a metric label, so a short and closed list."""

    MALFORMED = "malformed"  # not JSON, not UTF-8, nested too deep, a foreign framing
    SCHEMA = "schema"  # JSON of the wrong shape: a missing field, a wrong type, an empty value
    COURSE = "course"  # a course that breaks the API's own rules
    IDENTIFIER = "identifier"  # an id that cannot travel: control characters, too long
    UNSUPPORTED = "unsupported"  # an event type this version does not handle
    OVERSIZED = "oversized"  # larger than a batch may ever be
    TOMBSTONE = "tombstone"  # no value at all
    BACKLOG = "backlog"  # the backlog is full and the configuration says to reject


class Error(msgspec.Struct, frozen=True, gc=False):
    """The API's error object, or one of ours (codes ``COURSESYNC.*``).

    Only ``message`` is always there (vendor's OpenAPI, ErrorResponseGeneral).
    """

    code: str | None
    message: str
    title: str | None = None
    log_url: str | None = None


class Change(msgspec.Struct, frozen=True, gc=False):
    """A validated input record: what one course of one integration shall be."""

    operation: Operation
    offset: int
    change_id: str
    integration_id: str
    origin_id: str
    body: bytes
    """The item as its operation puts it into a request, known fields only."""
    consumed_at: int
    key: bytes | None = None
    value: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()
    """The record as it came: for the dead letter, should there be no room for the change."""


HEADER_OVERHEAD = 150
"""Bytes of memory that the objects of one header take, beside its name and its content."""


def headers_size(headers: Sequence[tuple[str, bytes | None]]) -> int:
    """Bytes of memory of a record's headers. A record of 1 MiB may have half a million of them."""
    return sum([len(name) + len(content or b"") + HEADER_OVERHEAD for name, content in headers])


class Rejection(msgspec.Struct, frozen=True, gc=False):
    """An input record that is not accepted; what is known of it is kept for the result."""

    offset: int
    reason: RejectReason
    error: Error
    change_id: str | None
    integration_id: str | None
    origin_id: str | None
    consumed_at: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


class Item(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One change inside a batch, without its payload: what is needed to end it.

    Journalled as an array, in this order; append fields only, with a default.
    """

    origin_id: str
    offset: int
    change_id: str
    consumed_at: int
    seals: int
    """How many batches this change was sealed into, this one included; makes batch ids unique."""
    failures: int
    """How often a submission of it ended for a reason that may pass."""


class Result(msgspec.Struct, frozen=True, gc=False):
    """The one record that ends a change."""

    offset: int
    status: Status
    integration_id: str | None
    origin_id: str | None
    change_id: str | None
    consumed_at: int
    resolved_at: int
    attempts: int = 0
    """Batches that this change was submitted in; 0 when it never was."""
    course_id: str | None = None
    error: Error | None = None
    superseded_by: int | None = None
    """Offset of the newer change of the same course, in the same partition."""
    batch_id: str | None = None
    task_id: str | None = None
    submitted_at: int | None = None
    """When the API accepted the batch (wall clock of the daemon)."""
    completed_at: int | None = None
    """The API's own time of completion."""


class Correction(msgspec.Struct, frozen=True, gc=False):
    """The late truth about a change that was published as ``TIMED_OUT``."""

    result: Result


class Now(NamedTuple):
    """The time as the core is told it."""

    wall: int
    """Milliseconds since the epoch; for what is durable or published. May jump."""
    mono: float
    """Seconds of a clock that never goes back; for delays inside one process."""
