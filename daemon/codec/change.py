r"""The wire format of the input: what publishers write, as msgspec structs.

These structs are the validation *and* the published JSON Schema. A ``Meta`` carries the API's rule
(source: the vendor's OpenAPI description, PostLmsCoursesBulkRequestBody), its description goes into
the schema, and ``extra["expected"]`` completes the sentence "found …, expected …" of a rejection.

Unknown fields are allowed everywhere and dropped. An optional field that is absent stays absent
(``UNSET``), one that is null stays null: to the API these are two bodies.

Patterns end in ``$(?!\n)``: in Python a bare ``$`` accepts a trailing newline, and ``\Z`` is not known
to the regular expressions of JSON Schema.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

INTEGRATION_ID_MAX = 256
ORIGIN_ID_MAX = 512
CHANGE_ID_MAX = 256
"""Characters. The ids travel in keys, headers and the journal, where everything is bounded (R7)."""

UPSERTED = "course.upserted"
DEACTIVATED = "course.deactivated"

_INT64_MAX = 2**63 - 1
_NO_CONTROLS = r"^[^\u0000-\u001f\u007f-\u009f]*$(?!\n)"

IntegrationId = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=INTEGRATION_ID_MAX,
        pattern=r"^[!-~]*$(?!\n)",
        description="The Kombo integration to write to. It travels in an HTTP header.",
        examples=["workday:HWUTwvyx2wLoSUHphiWVrp28"],
        extra={"expected": f"1 to {INTEGRATION_ID_MAX} printable ASCII characters without a space"},
    ),
]
OriginId = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=ORIGIN_ID_MAX,
        pattern=_NO_CONTROLS,
        description="The publisher's own id of the course.",
        examples=["cybersecurity-101"],
        extra={"expected": f"1 to {ORIGIN_ID_MAX} characters, none of them a control character"},
    ),
]
ChangeId = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=CHANGE_ID_MAX,
        pattern=_NO_CONTROLS,
        description="The publisher's own id of this change; comes back in the result. Equal ids are not deduplicated.",
        extra={"expected": f"1 to {CHANGE_ID_MAX} characters, none of them a control character"},
    ),
]
EventType = Annotated[
    Literal["course.upserted"],
    Meta(description="What happened to the course.", extra={"expected": '"course.upserted"'}),
]
EventTime = Annotated[
    str,
    Meta(
        description="When it happened, ISO 8601. It informs and never orders: order is that of the records.",
        examples=["2026-11-23T10:00:00Z"],
        extra={"expected": "a text such as 2026-11-23T10:00:00Z"},
    ),
]
CourseType = Annotated[
    Literal["EXTERNAL"],
    Meta(
        description="The content stays with the publisher; the learning system links to `course_url`.",
        extra={"expected": '"EXTERNAL"'},
    ),
]
Title = Annotated[
    str,
    Meta(min_length=1, description="The course's title.", extra={"expected": "a text that is not empty"}),
]
CourseUrl = Annotated[
    str,
    Meta(
        min_length=1,
        description="Link to the course itself.",
        extra={"expected": "a URL (a text that is not empty)"},
    ),
]
Description = Annotated[str, Meta(description="What the course is about.", extra={"expected": "a text"})]
ThumbnailUrl = Annotated[str, Meta(description="Link to a picture.", extra={"expected": "a URL (a text)"})]
Duration = Annotated[
    int,
    Meta(
        gt=0,
        le=_INT64_MAX,
        description="Minutes.",
        extra={"expected": "a whole number of minutes greater than 0 (64 bits at most)"},
    ),
]
Language = Annotated[str, Meta(pattern=r"^[a-z]{2,3}(-[A-Z]{2})?$(?!\n)", examples=["en", "de-CH"])]
Languages = Annotated[
    list[Language],
    Meta(
        description="IETF language tags, the main one first.",
        extra={"expected": 'a list of language tags such as "en" or "de-CH"'},
    ),
]


class Course(msgspec.Struct, frozen=True, gc=False):
    """A course as the API takes it."""

    type: CourseType
    title: Title
    course_url: CourseUrl
    description: Description | UnsetType | None = UNSET
    thumbnail_url: ThumbnailUrl | UnsetType | None = UNSET
    duration: Duration | UnsetType | None = UNSET
    languages: Languages | UnsetType | None = UNSET


class CourseChange(msgspec.Struct, frozen=True, gc=False):
    """One change of one course, as plain JSON. Unknown fields are allowed and ignored.

    All changes of one course must be in one partition: `integration_id` is the best key.
    """

    id: ChangeId
    type: EventType
    integration_id: IntegrationId
    origin_id: OriginId
    course: Course
    time: EventTime | UnsetType | None = UNSET


class CourseChangeData(msgspec.Struct, frozen=True, gc=False):
    """The data of a CloudEvent: the change without what the envelope says."""

    integration_id: IntegrationId
    origin_id: OriginId
    course: Course


class EventAttributes(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The attributes of a CloudEvent that matter here; in binary mode they are headers with ``ce_`` before."""

    specversion: Annotated[Literal["1.0"], Meta(extra={"expected": '"1.0"'})]
    id: ChangeId
    type: EventType
    source: Annotated[str, Meta(extra={"expected": "a text"})] | UnsetType = UNSET
    time: EventTime | UnsetType | None = UNSET


class CourseChangeEvent(EventAttributes, frozen=True, gc=False, kw_only=True):
    """One change of one course as a CloudEvent in structured mode, content type
    `application/cloudevents+json`.

    In binary mode the attributes are the headers `ce_specversion`, `ce_id` and `ce_type`, and the
    record's value is `data` alone. `source` is required by CloudEvents, but nothing here depends on it.
    """

    data: CourseChangeData


class SubmissionItem(msgspec.Struct, frozen=True, gc=False):
    """One entry of ``items`` in a bulk submission."""

    origin_id: str
    course: Course
