"""What is known of each course, as the API last confirmed it: R15 and R16.

Every verdict on a submission leaves one of three marks on its courses, in the transaction of the verdict:

    confirmed   the API reported the item as succeeded: the course is what the operation makes of it
    uncertain   the submission may have been applied, and nobody knows: state `UNKNOWN`, without content
    none        the submission was refused, or its task failed as a whole: nothing was processed

A submission that may have run more than once (an earlier POST without an understood answer, or a task that the API has
forgotten) is never in the last group: another task of the same bytes may have been applied.

A change whose course is known to have its content already ends as `UNCHANGED`, without a submission. That is decided when
its course is free, so the verdict on the last submission of the course is in.
"""

from __future__ import annotations

import msgspec

from daemon.config import Policies
from daemon.core.course import CourseRecord, CourseState, KnownCourse
from daemon.core.journal import Attempt
from daemon.core.known_courses import KnownCourses
from daemon.core.lane import Held
from daemon.core.model import Item, Now
from daemon.core.step import Draft

WITHOUT_ID_MAX = 10_000
"""Records without an id, written while the index is loaded, that are completed afterwards. In the others the id is missing
until the next verdict on their course; the index has it.
"""


class KnownState:
    """The known state of the courses of one shard. The draft of the next step is passed in, because each step has its own."""

    def __init__(self, policy: Policies, known: KnownCourses) -> None:
        self._policy = policy
        self.courses = known
        self._without_id: dict[tuple[str, str], CourseRecord] = {}
        """The records that were written without an id because the index was not loaded."""

    def confirmed(
        self,
        draft: Draft,
        state: CourseState,
        integration_id: str,
        item: Item,
        attempt: Attempt,
        course_id: str | None,
        now: Now,
    ) -> None:
        """The API reported the item as succeeded. `course_id` as reported; None: it did not say."""
        content = item.content if state is CourseState.ACTIVE else None
        record = self._record(integration_id, item, attempt, state, content, course_id, now)
        self._write(draft, record)

    def uncertain(self, draft: Draft, integration_id: str, item: Item, attempt: Attempt, now: Now) -> None:
        """The submission may have been applied, and the API does not say whether it was."""
        record = self._record(integration_id, item, attempt, CourseState.UNKNOWN, None, None, now)
        self._write(draft, record)

    def unchanged(self, integration_id: str, held: Held, now: Now) -> KnownCourse | None:
        """What is known of the course of this change, if it makes the change superfluous (R16). Its course must be free.
        A change that was ever submitted is submitted again: an earlier attempt may have been applied.
        """
        makes, content = held.operation.makes, held.item.content
        if held.item.seal_count or held.resend or (content is None and makes is CourseState.ACTIVE):
            return None
        address = held.operation.address
        if address is not None and address(held.body, None) is not None:
            return None  # the publisher names the course, perhaps another one
        known = self.courses.get(integration_id, held.item.origin_id)
        if (
            known is None
            or known.state is not makes
            or known.content != content
            or not self._is_trusted(integration_id, known, now)
        ):
            return None
        return known

    def loaded(self, draft: Draft) -> None:
        """The index is loaded: write the ids into the records that lack them."""
        self.courses.finish()
        records, self._without_id = self._without_id, {}
        for (integration_id, origin_id), record in records.items():
            course_id = self.courses.course_id(integration_id, origin_id)
            if course_id is not None:
                self._write(draft, msgspec.structs.replace(record, course_id=course_id))

    def _is_trusted(self, integration_id: str, known: KnownCourse, now: Now) -> bool:
        """A time in the future shows that a clock was wrong, so nothing is known about the age."""
        age = (now.wall - known.recorded_at) / 1000
        return 0 <= age < self._policy(integration_id).unchanged.trust_for

    def _record(
        self,
        integration_id: str,
        item: Item,
        attempt: Attempt,
        state: CourseState,
        content: bytes | None,
        course_id: str | None,
        now: Now,
    ) -> CourseRecord:
        if course_id is None:
            course_id = self.courses.course_id(integration_id, item.origin_id)
        return CourseRecord(
            integration_id=integration_id,
            origin_id=item.origin_id,
            state=state,
            course_id=course_id,
            content=content,
            offset=item.offset,
            change_id=item.change_id,
            task_id=attempt.task_id,
            confirmed_at=None if state is CourseState.UNKNOWN else attempt.completed_at,
            recorded_at=now.wall,
        )

    def _write(self, draft: Draft, record: CourseRecord) -> None:
        integration_id, origin_id = record.integration_id, record.origin_id
        if self._without_id:  # only until the index is loaded
            self._without_id.pop((integration_id, origin_id), None)
        if record.course_id is None and not self.courses.is_loaded and len(self._without_id) < WITHOUT_ID_MAX:
            self._without_id[integration_id, origin_id] = record
        self.courses.put(integration_id, origin_id, record.known())
        draft.record_course(record)
