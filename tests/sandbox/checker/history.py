"""What happened, as plain data: the input, the results, the API's tasks, the LMS.

Times are milliseconds since the epoch. A course's content is kept as a digest of its meaning: two
contents are equal when a person reading the course page would see no difference, whatever the order of
fields, and whether an optional field is null or absent.
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
"""What the API knows of a course (vendor's OpenAPI, PostLmsCoursesBulkRequestBody)."""


def content_digest(course: Mapping[str, Any]) -> Digest:
    """Equal for contents that mean the same: unknown fields do not count, null is absent, and languages
    are a set.
    """
    known = {name: course[name] for name in COURSE_FIELDS if course.get(name) is not None}
    if "languages" in known:
        known["languages"] = sorted(known["languages"])
    text = json.dumps(known, ensure_ascii=False, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


class LogRecord(NamedTuple):
    """A committed record of the input or the results, as it lies in the log."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


class Source(NamedTuple):
    """Which input record."""

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
    """One item of the request that made a task, and what became of it."""

    origin_id: str
    digest: Digest
    succeeded: bool | None
    """What the API reports of it; None when it reports nothing (not completed, or left out)."""
    applied: bool
    """Whether the LMS has taken it over."""


class Task(NamedTuple):
    """A task of the API: what it carried, and what the API says of it."""

    task_id: str
    integration_id: str
    created_at: int
    completed_at: int | None
    """None while it is pending."""
    applied_at: int | None
    """When the LMS took over its items, None when it has not."""
    status: TaskStatus
    error_code: str | None
    """Of a task that FAILED."""
    items: Sequence[SentItem]


class HeldCourse(NamedTuple):
    """What the LMS holds at the end."""

    integration_id: str
    origin_id: str
    digest: Digest
    task_id: str
    """Which task wrote it."""
