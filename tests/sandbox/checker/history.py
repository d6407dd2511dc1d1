"""What happened, as plain data: the input, the results, the API's tasks, the LMS.

Times are milliseconds since the epoch. The content of a course is stored as a digest of its meaning: two contents are equal if
a reader of the course page would see no difference, regardless of the order of fields and of whether an optional field is
null or absent.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

Digest = bytes

CourseKey = tuple[str, str]
"""Integration id and origin id."""

COURSE_FIELDS = ("type", "title", "course_url", "description", "thumbnail_url", "duration", "languages")
"""The fields of a course in the API (vendor's OpenAPI, PostLmsCoursesBulkRequestBody)."""


def content_digest(course: Mapping[str, Any]) -> Digest:
    """Equal for contents with the same meaning: unknown fields are ignored, null equals absent, the languages after the
    first one are a set, and host names are case-insensitive.
    """
    known = {name: course[name] for name in COURSE_FIELDS if course.get(name) is not None}
    if "languages" in known:
        known["languages"] = known["languages"][:1] + sorted(known["languages"][1:])
    for name in known.keys() & {"course_url", "thumbnail_url"}:
        known[name] = _with_folded_host(known[name])
    text = json.dumps(known, ensure_ascii=False, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _with_folded_host(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    if scheme.lower() not in ("http", "https"):
        return url
    end = min((rest.find(mark) for mark in "/?#\\" if mark in rest), default=len(rest))
    user, at, host = rest[:end].rpartition("@")
    return f"{scheme}{separator}{user}{at}{host.lower()}{rest[end:]}"


class LogRecord(NamedTuple):
    """A committed record of the input or of the results, as stored in the log."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


class Source(NamedTuple):
    """The place of an input record."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


class TaskStatus(StrEnum):
    PENDING = "PENDING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"


class SentItem(NamedTuple):
    """One item of the request that created a task, and its outcome."""

    origin_id: str
    digest: Digest
    succeeded: bool | None
    """What the API reports about it. None if it reports nothing (the task is not completed, or the item is left out)."""
    applied: bool
    """Whether the LMS has applied it."""


class ApiTask(NamedTuple):
    """A task of the API: its items, and what the API reports about it."""

    task_id: str
    integration_id: str
    created_at: int
    completed_at: int | None
    """None while it is pending."""
    applied_at: int | None
    """When the LMS applied its items. None if it has not."""
    status: TaskStatus
    error_code: str | None
    """Error code of a task that FAILED."""
    items: Sequence[SentItem]
    strangers: Sequence[tuple[str, Digest]] = ()
    """origin_id and content of items that are not part of it, although their POST was answered with its id."""


class HeldCourse(NamedTuple):
    """A course in the LMS at the end of the run."""

    integration_id: str
    origin_id: str
    digest: Digest
    task_id: str
    """The task that wrote it."""
    course_id: str | None = None
