"""What is known of a course: its state, its record in the courses topic, and the key of both."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class CourseState(StrEnum):
    """What a learning system holds of a course, as the API last confirmed it."""

    ACTIVE = "ACTIVE"  # an upsert succeeded last
    INACTIVE = "INACTIVE"  # a deactivation succeeded last
    UNKNOWN = "UNKNOWN"  # a later submission may have been applied, and the API has not said whether it was


class KnownCourse(msgspec.Struct, frozen=True, gc=False):
    """The part of a record that decisions need."""

    state: CourseState
    content: bytes | None
    course_id: str | None
    recorded_at: int
    """When it was decided, by our wall clock, ms."""


class CourseRecord(msgspec.Struct, frozen=True, gc=False):
    """The record of a course in the courses topic (R15)."""

    integration_id: str
    origin_id: str
    state: CourseState
    course_id: str | None
    """The API's id of the course; None if it is not known."""
    content: bytes | None
    """Digest of the confirmed content (`Change.content`). None unless `state` is `ACTIVE`."""
    offset: int
    """Of the change whose submission decided this; in the same partition."""
    change_id: str
    task_id: str | None
    confirmed_at: int | None
    """When the task completed, by the API's clock. None if `state` is `UNKNOWN`, or if the API has not said when."""
    recorded_at: int
    """When it was decided, by our wall clock, ms."""

    def known(self) -> KnownCourse:
        return KnownCourse(self.state, self.content, self.course_id, self.recorded_at)


_encode = msgspec.json.Encoder().encode


def course_key(integration_id: str, origin_id: str) -> bytes:
    """The key of its record: a JSON array, so that ids with any character cannot collide."""
    return _encode((integration_id, origin_id))
