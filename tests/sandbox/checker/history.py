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


DEACTIVATED: Digest = b"deactivated"
"""In place of the digest of a content: the course shall not be offered any more."""


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
    course_id: str | None = None
    """The id by which a deactivation names the course."""


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


class DeactivationCall(NamedTuple):
    """A call that deactivates a course."""

    number: int
    """In order of arrival."""
    integration_id: str
    course_id: str
    """The id by which it names the course: that of the API, or `remote:` and that of the LMS."""
    origin_id: str | None
    """Of the course with that id. None if there is none."""
    at: int
    is_done: bool
    """Whether the API has carried it out."""

    def as_task(self) -> ApiTask:
        """It is a submission of the course that has ended when it was made."""
        assert self.origin_id is not None
        item = SentItem(
            self.origin_id,
            DEACTIVATED,
            succeeded=self.is_done,
            applied=self.is_done,
            course_id=self.course_id,
        )
        return ApiTask(
            task_id=f"deactivation {self.number}",
            integration_id=self.integration_id,
            created_at=self.at,
            completed_at=self.at,
            applied_at=self.at if self.is_done else None,
            status=TaskStatus.COMPLETED,
            error_code=None,
            items=[item],
        )


class HeldCourse(NamedTuple):
    """A course in the LMS at the end of the run."""

    integration_id: str
    origin_id: str
    digest: Digest
    task_id: str
    """The task that wrote it."""
    course_id: str | None = None
    is_active: bool = True
    """Whether it was not deactivated, as far as the LMS knows. What an upsert of an inactive course does is the API's affair."""
