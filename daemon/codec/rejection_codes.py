"""The daemon's error codes of rejected records, and the reason that each belongs to.

A code is part of the public interface: it is never renamed, and a new cause gets a new code. Codes of changes that
were accepted are defined where they are decided, in `daemon.core.settle` and `daemon.core.backlog`.
"""

from __future__ import annotations

from typing import Final

from daemon.core.backlog import BACKLOG_FULL
from daemon.core.model import RejectReason

RECORD_EMPTY: Final = "COURSESYNC.RECORD_EMPTY"
"""A tombstone: the record has no value, so it contains no course."""

RECORD_MALFORMED: Final = "COURSESYNC.RECORD_MALFORMED"
"""The bytes are not JSON: another serialisation, not UTF-8, truncated, nested too deeply."""

RECORD_INVALID: Final = "COURSESYNC.RECORD_INVALID"
"""JSON, but not a course change: a field is missing, empty or of the wrong type."""

COURSE_INVALID: Final = "COURSESYNC.COURSE_INVALID"
"""The course breaks a rule of the API, which would refuse the whole batch because of it."""

IDENTIFIER_INVALID: Final = "COURSESYNC.IDENTIFIER_INVALID"
"""An id that is not valid in headers and keys: control characters, or too long."""

TYPE_UNSUPPORTED: Final = "COURSESYNC.TYPE_UNSUPPORTED"
"""An event type that this version does not support."""

RECORD_OVERSIZED: Final = "COURSESYNC.RECORD_OVERSIZED"
"""The course alone is larger than the maximum size of a batch (``batch.bytes_max``)."""

CODE_OF_REASON: Final = {
    RejectReason.TOMBSTONE: RECORD_EMPTY,
    RejectReason.MALFORMED: RECORD_MALFORMED,
    RejectReason.SCHEMA: RECORD_INVALID,
    RejectReason.COURSE: COURSE_INVALID,
    RejectReason.IDENTIFIER: IDENTIFIER_INVALID,
    RejectReason.UNSUPPORTED: TYPE_UNSUPPORTED,
    RejectReason.OVERSIZED: RECORD_OVERSIZED,
    RejectReason.BACKLOG: BACKLOG_FULL,
}
