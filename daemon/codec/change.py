r"""The wire format of the input: the records of publishers, as msgspec structs.

These structs are the validation *and* the published JSON Schema. A ``Meta`` holds a rule of the API (source: the
vendor's OpenAPI description, PostLmsCoursesBulkRequestBody). Its description goes into the schema, and
``extra["expected"]`` completes the sentence "found …, expected …" of a rejection.

Unknown fields are allowed everywhere and dropped. An optional field that is absent stays absent (``UNSET``), and one
that is null stays null: to the API these are two different bodies.

Patterns end in ``$(?!\n)``, because in Python a plain ``$`` accepts a trailing newline, and the regular expressions
of JSON Schema do not support ``\Z``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from daemon.core.deactivate import DEACTIVATE
from daemon.core.upsert import UPSERT

INTEGRATION_ID_MAX = 256
ORIGIN_ID_MAX = 512
CHANGE_ID_MAX = 256
COURSE_ID_MAX = 512
"""Characters. The ids are part of keys, headers and the journal, which are all bounded (R7)."""

UPSERTED = UPSERT.event_type
DEACTIVATED = DEACTIVATE.event_type

BULK = "bulk"
"""The `Priority` that has an effect."""

_INT64_MAX = 2**63 - 1
_NO_CONTROLS = r"^[^\u0000-\u001f\u007f-\u009f]*$(?!\n)"
_NO_NUL = {"pattern": r"^[^\u0000]*$"}
"""For the texts of a course, which end in the database of a learning system. PostgreSQL, for example, cannot store the
character NUL, and one such course can make the whole batch fail. A pattern would cost 1 µs for each text, so
`daemon.codec.decode` checks the record as a whole."""

IntegrationId = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=INTEGRATION_ID_MAX,
        pattern=r"^[!-~]*$(?!\n)",
        description="The Kombo integration to write to. It is sent in an HTTP header.",
        examples=["workday:HWUTwvyx2wLoSUHphiWVrp28"],
        extra={"expected": f"1 to {INTEGRATION_ID_MAX} printable ASCII characters, no spaces"},
    ),
]
OriginId = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=ORIGIN_ID_MAX,
        pattern=_NO_CONTROLS,
        description="The publisher's id of the course.",
        examples=["cybersecurity-101"],
        extra={"expected": f"1 to {ORIGIN_ID_MAX} characters, no control characters"},
    ),
]
ChangeId = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=CHANGE_ID_MAX,
        pattern=_NO_CONTROLS,
        description="The publisher's id of this change. The result repeats it. Changes with equal ids are "
        "not deduplicated.",
        extra={"expected": f"1 to {CHANGE_ID_MAX} characters, no control characters"},
    ),
]
CourseId = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=COURSE_ID_MAX,
        pattern=r"^(?!\.{1,2}$)[^\u0000-\u001f\u007f-\u009f]*$(?!\n)",
        description="The API's id of the course, as `course_id` in the results, or `remote:` and its id in the learning "
        "system. If it is absent or null, the id that the API reported last for this course is used.",
        examples=["26vafvWSRmbhNcxJYqjCzuJg", "remote:32"],
        extra={"expected": f"1 to {COURSE_ID_MAX} characters, no control characters, not . or .."},
    ),
]
EventType = Annotated[
    Literal["course.upserted"],
    Meta(description="What happened to the course.", extra={"expected": '"course.upserted"'}),
]
DeactivationType = Annotated[
    Literal["course.deactivated"],
    Meta(description="What happened to the course.", extra={"expected": '"course.deactivated"'}),
]
AnyType = Annotated[
    Literal["course.upserted", "course.deactivated"],
    Meta(extra={"expected": '"course.upserted" or "course.deactivated"'}),
]
EventTime = Annotated[
    str,
    Meta(
        description="When it happened, ISO 8601. For information only: changes are ordered by their "
        "records, not by this time.",
        examples=["2026-11-23T10:00:00Z"],
        extra={"expected": "text such as 2026-11-23T10:00:00Z"},
    ),
]
Resend = Annotated[
    bool,
    Meta(
        description="Send the course even if it is known to have this content already, which otherwise ends the change as "
        "`UNCHANGED`.",
        extra={"expected": "true or false"},
    ),
]
Priority = Annotated[
    Literal["normal", "bulk"],
    Meta(
        description="`bulk` for what nobody waits for, such as a first load or a nightly run: changes of the same "
        "integration that are not bulk are sent before it. The order of the changes of a course stays the same. The default "
        "is `normal`.",
        extra={"expected": '"normal" or "bulk"'},
    ),
]
TraceMember = Annotated[
    Any,
    Meta(
        description="The trace context of the change, as in W3C Trace Context (the CloudEvents extension Distributed Tracing). "
        "The result has it in its headers. What is not valid is ignored.",
        extra={"expected": "anything"},
    ),
]
CourseType = Annotated[
    Literal["EXTERNAL"],
    Meta(
        description="The content stays with the publisher. The learning system links to `course_url`.",
        extra={"expected": '"EXTERNAL"'},
    ),
]
Title = Annotated[
    str,
    Meta(
        min_length=1,
        extra_json_schema=_NO_NUL,
        description="The course's title.",
        extra={"expected": "text that is not empty"},
    ),
]
CourseUrl = Annotated[
    str,
    Meta(
        min_length=1,
        extra_json_schema=_NO_NUL,
        description="Link to the course itself.",
        extra={"expected": "a URL (text that is not empty)"},
    ),
]
Description = Annotated[
    str, Meta(extra_json_schema=_NO_NUL, description="What the course is about.", extra={"expected": "text"})
]
ThumbnailUrl = Annotated[
    str, Meta(extra_json_schema=_NO_NUL, description="Link to a picture.", extra={"expected": "a URL (text)"})
]
Duration = Annotated[
    int,
    Meta(
        gt=0,
        le=_INT64_MAX,
        description="Minutes.",
        extra={"expected": "a whole number of minutes greater than 0, at most 64 bits"},
    ),
]
Language = Annotated[
    str,
    Meta(
        pattern=r"^[a-z]{2,3}(-[A-Z]{2})?$(?!\n)",
        examples=["en", "de-CH"],
        extra={
            "expected": 'a language tag such as "en" or "de-CH": two or three lower-case letters, optionally followed by a '
            'hyphen and two capital letters (a rule of the API, which refuses other valid tags such as "es-419" or "zh-Hans")'
        },
    ),
]
Languages = Annotated[
    list[Language],
    Meta(
        description="IETF language tags, the main language first.",
        extra={"expected": 'a list of language tags such as "en" or "de-CH"'},
    ),
]


class Course(msgspec.Struct, frozen=True, gc=False):
    """A course as the API accepts it."""

    type: CourseType
    title: Title
    course_url: CourseUrl
    description: Description | UnsetType | None = UNSET
    thumbnail_url: ThumbnailUrl | UnsetType | None = UNSET
    duration: Duration | UnsetType | None = UNSET
    languages: Languages | UnsetType | None = UNSET


class CourseChange(msgspec.Struct, frozen=True, gc=False):
    """One change of one course, as plain JSON. Unknown fields are allowed and ignored.

    All changes of one course must be in one partition: `integration_id` is the best record key, and all publishers must
    use the same partitioner (murmur2; in librdkafka `partitioner=murmur2_random`).
    """

    id: ChangeId
    type: EventType
    integration_id: IntegrationId
    origin_id: OriginId
    course: Course
    time: EventTime | UnsetType | None = UNSET
    resend: Resend | UnsetType | None = UNSET
    priority: Priority | UnsetType | None = UNSET


class CourseChangeData(msgspec.Struct, frozen=True, gc=False):
    """The data of a CloudEvent: the change without the attributes of the envelope."""

    integration_id: IntegrationId
    origin_id: OriginId
    course: Course
    resend: Resend | UnsetType | None = UNSET
    priority: Priority | UnsetType | None = UNSET


class CourseDeactivation(msgspec.Struct, frozen=True, gc=False):
    """The retirement of a course, as plain JSON: the learning system shall not offer it any more. It is a change like any
    other, in the order of its record. Unknown fields are allowed and ignored.
    """

    id: ChangeId
    type: DeactivationType
    integration_id: IntegrationId
    origin_id: OriginId
    course_id: CourseId | UnsetType | None = UNSET
    time: EventTime | UnsetType | None = UNSET
    priority: Priority | UnsetType | None = UNSET


class CourseDeactivationData(msgspec.Struct, frozen=True, gc=False):
    """The data of a CloudEvent: the change without the attributes of the envelope."""

    integration_id: IntegrationId
    origin_id: OriginId
    course_id: CourseId | UnsetType | None = UNSET
    priority: Priority | UnsetType | None = UNSET


class EventAttributes(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The attributes of a CloudEvent that the daemon reads. In binary mode they are headers with the prefix ``ce_``."""

    specversion: Annotated[Literal["1.0"], Meta(extra={"expected": '"1.0"'})]
    id: ChangeId
    type: AnyType
    source: Annotated[str, Meta(extra={"expected": "text"})] | UnsetType = UNSET
    time: EventTime | UnsetType | None = UNSET
    traceparent: TraceMember = UNSET
    tracestate: TraceMember = UNSET


class CourseChangeEvent(EventAttributes, frozen=True, gc=False, kw_only=True):
    """One change of one course as a CloudEvent in structured mode, content type `application/cloudevents+json`.

    In binary mode the attributes are the headers `ce_specversion`, `ce_id` and `ce_type`, and the value of the record
    is `data` alone. CloudEvents requires `source`; the daemon does not use it.
    """

    type: EventType
    data: CourseChangeData


class CourseDeactivationEvent(EventAttributes, frozen=True, gc=False, kw_only=True):
    """The retirement of a course as a CloudEvent in structured mode, content type `application/cloudevents+json`.

    In binary mode the attributes are the headers `ce_specversion`, `ce_id` and `ce_type`, and the value of the record
    is `data` alone. CloudEvents requires `source`; the daemon does not use it.
    """

    type: DeactivationType
    data: CourseDeactivationData


class SubmissionItem(msgspec.Struct, frozen=True, gc=False):
    """One entry of ``items`` in a bulk submission."""

    origin_id: str
    course: Course
