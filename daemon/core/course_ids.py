"""The API's ids of courses, for calls that need one (`Operation.address`).

The id that counts is the one that the API reported last. A change asks for it when it is sealed, and by then the verdict on
the last submission of its course is in.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol

IDS_MAX = 100_000
"""Courses of which a shard remembers the id, about 30 MiB. At this number it forgets the one that was heard of longest ago."""


class CourseIds(Protocol):
    @property
    def is_loaded(self) -> bool:
        """Whether `course_id` knows everything that it will know by itself. Before, a change that needs an id waits."""
        ...

    def course_id(self, integration_id: str, origin_id: str) -> str | None:
        """The id of the course; None if it is not known."""
        ...

    def reported(self, integration_id: str, origin_id: str, course_id: str) -> None:
        """The API has reported the id of a course."""
        ...


class ReportedIds:
    """`CourseIds` that the API has reported since the restore."""

    is_loaded = True

    def __init__(self) -> None:
        self._ids: OrderedDict[tuple[str, str], str] = OrderedDict()

    def course_id(self, integration_id: str, origin_id: str) -> str | None:
        return self._ids.get((integration_id, origin_id))

    def reported(self, integration_id: str, origin_id: str, course_id: str) -> None:
        course = (integration_id, origin_id)
        self._ids[course] = course_id
        self._ids.move_to_end(course)
        if len(self._ids) > IDS_MAX:
            self._ids.popitem(last=False)
