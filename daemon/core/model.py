"""The terms of the domain as values: change, item, batch, task, result.

Times are whole milliseconds since the Unix epoch (wall clock or API time, as named). Durations are in seconds, and
their documentation says so. Absent is ``None``, never 0 or -1.

A shard owns one input partition, so inside it the offset alone identifies the *source* of a change. Topic and
partition are added when a record leaves the shard.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, NamedTuple

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
    UNCHANGED = "UNCHANGED"


class FailureScope(StrEnum):
    """Whose failure it was, as published."""

    OWN = "own"  # of this change
    BATCH = "batch"  # of all changes of its batch together: any of them may have caused it


class RejectReason(StrEnum):
    """Why a record was rejected. A metric label, so the list is short and closed."""

    MALFORMED = "malformed"  # not JSON, not UTF-8, nested too deeply, or another framing
    SCHEMA = "schema"  # JSON with the wrong structure: a missing field, a wrong type, an empty value
    COURSE = "course"  # a course that breaks a rule of the API
    IDENTIFIER = "identifier"  # an id that is not valid in keys and headers: control characters, too long
    UNSUPPORTED = "unsupported"  # an event type that this version does not support
    OVERSIZED = "oversized"  # larger than the maximum size of a batch
    TOMBSTONE = "tombstone"  # no value at all
    BACKLOG = "backlog"  # the backlog is full and `backlog.on_full` is `reject`


class Error(msgspec.Struct, frozen=True, gc=False):
    """The API's error object, or one of the daemon's own (codes ``COURSESYNC.*``).

    Only ``message`` is always present (vendor's OpenAPI description, ErrorResponseGeneral).
    """

    code: str | None
    message: str
    title: str | None = None
    log_url: str | None = None


TRACESTATE_CHARS_MAX = 512
"""Longest `tracestate` that is carried, the length that W3C Trace Context asks for. It is in the journal with each change, so
it must be bounded (R7)."""


class Trace(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The trace context of a change (W3C Trace Context), as its publisher sent it. Journalled as an array."""

    parent: str
    """`traceparent`, version 00: valid, 55 characters."""
    state: str = ""
    """`tracestate`, at most `TRACESTATE_CHARS_MAX`."""

    @property
    def trace_id(self) -> int:
        return int(self.parent[3:35], 16)

    @property
    def span_id(self) -> int:
        """Of the publisher's span."""
        return int(self.parent[36:52], 16)

    @property
    def is_sampled(self) -> bool:
        """Whether the publisher records this trace."""
        return int(self.parent[53:55], 16) & 1 == 1


class Repeats(NamedTuple):
    """What a change says that repeats an older change of the same partition (R20)."""

    offset: int
    """Of the repeated change."""
    checked: int
    """Before this offset, no change of the course is newer than the repeated one. The offset of the repeating change at most."""


class Change(msgspec.Struct, frozen=True, gc=False):
    """A validated input record: the intended state of one course in one integration."""

    operation: Operation
    offset: int
    change_id: str
    integration_id: str
    origin_id: str
    body: bytes
    """The item as its operation encodes it for a request, known fields only."""
    consumed_at: int
    key: bytes | None = None
    value: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    """The original record, kept for the dead letter that is needed if the change does not fit into the backlog."""
    content: bytes | None = None
    """Digest of the content that the change gives the course. Changes with the same meaning have the same digest
    (`codec.content`).
    """
    resend: bool = False
    """Send it even if the course is known to have this content already (R16)."""
    bulk: bool = False
    """Nobody waits for it: it does not delay others (R21)."""
    trace: Trace | None = None
    repeats: Repeats | None = None
    """It was published before (R20)."""


HEADER_OVERHEAD = 150
"""Bytes of memory that the objects of one header take, besides its name and its content."""


def headers_size(headers: Sequence[tuple[str, bytes | None]]) -> int:
    """The memory of a record's headers, in bytes. A record of 1 MiB may have half a million headers."""
    return sum([len(name) + len(content or b"") + HEADER_OVERHEAD for name, content in headers])


class Rejection(msgspec.Struct, frozen=True, gc=False):
    """A rejected input record, with the ids that could be read, for the result."""

    offset: int
    reason: RejectReason
    error: Error
    change_id: str | None
    integration_id: str | None
    origin_id: str | None
    consumed_at: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    trace: Trace | None = None


Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""What can be packed (`core.items`). A larger number in a journal is damage, and is found when the journal is read."""


class Item(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One change in a batch, without its payload: what is needed to end it.

    Journalled as an array, in this order. New fields may only be appended, with a default.
    """

    origin_id: str
    offset: Int64
    change_id: str
    consumed_at: Int64
    seal_count: Int64
    """The number of batches that this change was sealed into, this one included; makes batch ids unique."""
    failures: Int64
    """The number of its submissions that failed for a transient reason."""
    content: bytes | None = None
    """As in `Change`. None if a version that did not know this field has journalled the change."""


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
    """The number of batches in which this change was submitted; 0 if it never was."""
    course_id: str | None = None
    error: Error | None = None
    superseded_by: int | None = None
    """Offset of the newer change of the same course, in the same partition."""
    batch_id: str | None = None
    task_id: str | None = None
    submitted_at: int | None = None
    """When the API accepted the batch, by the wall clock of the daemon."""
    completed_at: int | None = None
    """When the task completed, by the API's clock; for a call without a task, when the API answered it."""
    change_type: str | None = None
    """The type of the input record; None if it was rejected."""
    failure_scope: FailureScope | None = None
    """None if the change did not fail, or not by an answer of the API."""
    trace: Trace | None = None
    """The publisher's."""


class Correction(msgspec.Struct, frozen=True, gc=False):
    """The final outcome of a change that was published as ``TIMED_OUT``."""

    result: Result


class Now(NamedTuple):
    """The current time, as passed to the core."""

    wall: int
    """Milliseconds since the epoch, for values that are stored or published. It may jump."""
    mono: float
    """Seconds of a clock that never goes back, for delays inside one process."""

    def mono_at(self, wall: int) -> float:
        """A past wall clock time on the monotonic clock, as exactly as the wall clock allows."""
        return self.mono - max(0, self.wall - wall) / 1000
