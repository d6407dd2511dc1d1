"""Our own error codes of rejected records, and the closed list of reasons they belong to.

A code is part of the public interface: it is never renamed, and a new cause gets a new one. Codes
of acceptable changes stand where they are decided, in ``daemon.core.settle`` and ``daemon.core.backlog``.
"""

from __future__ import annotations

from typing import Final

from daemon.core.backlog import BACKLOG_FULL
from daemon.core.model import RejectReason

RECORD_EMPTY: Final = "COURSESYNC.RECORD_EMPTY"
"""A tombstone: the record has no value, so it says nothing about a course."""

RECORD_MALFORMED: Final = "COURSESYNC.RECORD_MALFORMED"
"""The bytes are not JSON: another serialisation, not UTF-8, cut short, nested too deep."""

RECORD_INVALID: Final = "COURSESYNC.RECORD_INVALID"
"""JSON, but no course change: a field is missing, empty or of the wrong type."""

COURSE_INVALID: Final = "COURSESYNC.COURSE_INVALID"
"""The course breaks a rule of the API, which would refuse it together with its whole batch."""

IDENTIFIER_INVALID: Final = "COURSESYNC.IDENTIFIER_INVALID"
"""An id that cannot travel in headers and keys: control characters, or too long."""

TYPE_UNSUPPORTED: Final = "COURSESYNC.TYPE_UNSUPPORTED"
"""A kind of event that this version does not handle, ``course.deactivated`` among them."""

RECORD_OVERSIZED: Final = "COURSESYNC.RECORD_OVERSIZED"
"""The course alone is larger than a whole batch may be (``batch.bytes_max``)."""

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
