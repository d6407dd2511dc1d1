"""The wire format of the courses topic: what each learning system holds of a course, as the API last confirmed it.

The topic is public, and the daemon reads its own records back (`decode_course`). The digest of the content is written in
hexadecimal; readers may compare digests of one course, and nothing else.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from daemon.codec.result import Source
from daemon.codec.texts import truncated
from daemon.codec.times import iso_ms
from daemon.core.course import CourseRecord, CourseState, KnownCourse, course_key
from daemon.core.model import API_ID_CHARS_MAX

_Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]


class KnownCourseRecord(msgspec.Struct, frozen=True, gc=False):
    """What the learning system of an integration holds of a course, as the API last confirmed it. The topic is compacted:
    the last record of a key counts, and a record without a value erases it.

    READ THE TOPIC WITH `isolation.level=read_committed`. A consumer with `read_uncommitted`, which is the default of the Java
    client and of kafka-python, also sees records that are not valid.
    """

    integration_id: str
    origin_id: str
    state: Annotated[
        CourseState,
        Meta(
            description="ACTIVE: the last submission that was confirmed created or updated the course. INACTIVE: it "
            "deactivated the course. UNKNOWN: a later submission may have been applied, and the API has not said "
            "whether it was (a time-out, an item that failed, an answer with an earlier task)."
        ),
    ]
    course_id: Annotated[str | None, Meta(description="Kombo's id of the course; null if it is not known.")]
    change: Annotated[Source, Meta(description="The input record of the change that decided this.")]
    change_id: Annotated[str, Meta(description="The `id` of that change.")]
    task_id: Annotated[str | None, Meta(description="The id of the API's task; null if there was none.")]
    confirmed_at: Annotated[
        _Time | None,
        Meta(description="When the task completed, by the API's clock; null if the state is UNKNOWN."),
    ]
    recorded_at: Annotated[_Time, Meta(description="When this was decided, by the daemon's clock.")]
    content: Annotated[
        str | UnsetType,
        Meta(
            description="Digest of the confirmed content: equal for contents of this course that mean the same. Only if the "
            "state is ACTIVE, and absent if a version that computes no digests sealed the submission.",
            examples=["b3c1d5a0b6c2f1e09d4b7c8a5e6f7081"],
        ),
    ] = UNSET


class _Known(msgspec.Struct, frozen=True, gc=False):
    """The fields that the daemon reads back."""

    state: CourseState
    course_id: str | None
    recorded_at: datetime
    content: str | None = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Known).decode


def encode_course(record: CourseRecord, partition: int, *, changes_topic: str) -> tuple[bytes, bytes]:
    """Key and value of the record for the courses topic. Key: ``[integration_id, origin_id]``."""
    course_id, task_id, confirmed_at = record.course_id, record.task_id, record.confirmed_at
    value = KnownCourseRecord(
        integration_id=record.integration_id,
        origin_id=record.origin_id,
        state=record.state,
        # A truncated id would name another course; the API's client keeps none that is longer.
        course_id=None if course_id is None or len(course_id) > API_ID_CHARS_MAX else course_id,
        change=Source(changes_topic, partition, record.offset),
        change_id=record.change_id,
        task_id=None if task_id is None else truncated(task_id, API_ID_CHARS_MAX),
        confirmed_at=None if confirmed_at is None else iso_ms(confirmed_at),
        recorded_at=iso_ms(record.recorded_at),
        content=UNSET if record.content is None else record.content.hex(),
    )
    return course_key(record.integration_id, record.origin_id), _encode(value)


def decode_course(value: bytes | None) -> KnownCourse | None:
    """What a record of the courses topic says; None for one that erases the course.

    Raises:
        ValueError: it is not a record of this format.
    """
    if value is None:
        return None
    known = _decode(value)
    content = None if known.content is None else bytes.fromhex(known.content)
    return KnownCourse(known.state, content, known.course_id, round(known.recorded_at.timestamp() * 1000))
