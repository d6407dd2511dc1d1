"""What the learning system holds, and the calls that deactivate its courses."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from tests.sandbox.simulator.faults import Inactive
from tests.sandbox.simulator.wire import Course

ALREADY_INACTIVE = "LMS.COURSE_UPDATE_NOT_SUPPORTED"
"""The code with which a deactivation of an inactive course is refused, if it is."""


class LmsCourse(msgspec.Struct, gc=False):
    """A course as the LMS holds it."""

    course_id: str
    content: Course
    applied_at: int
    task_id: str
    applications: int
    """Number of times that a task has written it."""
    remote_id: str
    """Its id in the LMS."""
    is_active: bool = True

    def write(self, content: Course, at: int, task_id: str, rules: Inactive) -> None:
        self.content, self.applied_at, self.task_id = content, at, task_id
        self.applications += 1
        self.is_active = self.is_active or rules.upsert == "reactivates"


class Deactivation(msgspec.Struct, frozen=True, gc=False):
    """A call that deactivates a course, as far as it got past refusals that are not about the course."""

    number: int
    """From 1, in order of arrival."""
    integration_id: str
    course_id: str
    """As in the path of the call."""
    origin_id: str | None
    """Of the course that it names; None if there is none."""
    at: int
    is_done: bool
    """The course is inactive because of it, or was already and the API takes that for a success."""


def find(courses: Mapping[str, LmsCourse], course_id: str) -> tuple[str, LmsCourse] | None:
    """The course that a path names, by the API's id or by `remote:` and the id in the LMS, and its origin id."""
    is_remote = course_id.startswith("remote:")
    for origin_id, course in courses.items():
        if course_id == (f"remote:{course.remote_id}" if is_remote else course.course_id):
            return origin_id, course
    return None
