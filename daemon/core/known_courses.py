"""The index of the courses that a shard knows: what the courses topic says of each, in memory.

How it works::

    load(key, course)   records of the topic that earlier owners have written, in the order of their offsets
    finish()            all of them are loaded
    put(key, course)    what this owner decides, from its first step on; it always replaces what was loaded

Before `finish` a course may look unknown although it is known, so `get` and `course_id` answer only afterwards. The number
of courses is limited for the process (`Budget`): beyond it, further courses are not known, which costs a submission and is
never wrong. A course that is in the index stays in it, because a record that is not replaced would become wrong.
"""

from __future__ import annotations

import msgspec

from daemon.core.course import KnownCourse, course_key


class Budget:
    """The number of courses that the indexes of one process may still take in (`courses.index_max`)."""

    def __init__(self, courses_max: int) -> None:
        self._left = courses_max

    def take(self) -> bool:
        """Whether there is room for one more course, which is then taken."""
        if self._left <= 0:
            return False
        self._left -= 1
        return True

    def give_back(self, courses: int) -> None:
        self._left += courses


class KnownCourses:
    """The index of one shard."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._courses: dict[bytes, KnownCourse] = {}
        self._own: set[bytes] = set()
        """What this owner has decided while records are still being loaded."""
        self.is_loaded = False
        """Whether every record of earlier owners has been loaded."""

    def __len__(self) -> int:
        return len(self._courses)

    def get(self, integration_id: str, origin_id: str) -> KnownCourse | None:
        """What is known of the course. None if nothing is, or if the index is not loaded yet."""
        if not self.is_loaded:
            return None
        return self._courses.get(course_key(integration_id, origin_id))

    def course_id(self, integration_id: str, origin_id: str) -> str | None:
        """The API's id of the course. None if it is not known, or if the index is not loaded yet."""
        known = self.get(integration_id, origin_id)
        return None if known is None else known.course_id

    def put(self, integration_id: str, origin_id: str, course: KnownCourse) -> None:
        """Record what this owner has decided about the course."""
        key = course_key(integration_id, origin_id)
        if not self.is_loaded:
            self._own.add(key)
        self._set(key, course)

    def load(self, key: bytes, course: KnownCourse | None) -> None:
        """A record that an earlier owner has written; None: a tombstone. A record without the id of the course says
        nothing about the id, so an id in an earlier record is kept.
        """
        assert not self.is_loaded
        present = self._courses.get(key)
        if key in self._own:
            if present is not None and present.course_id is None and course is not None:
                self._courses[key] = msgspec.structs.replace(present, course_id=course.course_id)
            return
        if course is None:
            if present is not None:
                del self._courses[key]
                self._budget.give_back(1)
            return
        if course.course_id is None and present is not None:
            course = msgspec.structs.replace(course, course_id=present.course_id)
        self._set(key, course)

    def finish(self) -> None:
        """Everything that earlier owners have written is loaded."""
        self.is_loaded = True
        self._own.clear()

    def close(self) -> None:
        """The shard has ended: give back the places. Idempotent."""
        self._budget.give_back(len(self._courses))
        self._courses.clear()
        self.is_loaded = False

    def _set(self, key: bytes, course: KnownCourse) -> None:
        if key in self._courses or self._budget.take():
            self._courses[key] = course
