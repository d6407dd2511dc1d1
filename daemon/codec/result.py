"""The wire format of the output: results and corrections as CloudEvents in structured mode.

Structured mode needs one ``content-type`` header. Binary mode would need seven ``ce_*`` headers, and writing them
would take as long as encoding the rest of the record.

All text from outside is bounded here (R7), because one text that does not fit into a record would make its
transaction fail forever.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from daemon.codec.texts import truncated
from daemon.codec.times import iso_ms
from daemon.codec.trace_context import trace_headers
from daemon.core.model import (
    API_ID_CHARS_MAX,
    ERROR_CODE_CHARS_MAX,
    LOG_URL_CHARS_MAX,
    Correction,
    Error,
    FailureScope,
    Result,
    Status,
)
from daemon.core.operations import OPERATIONS

TITLE_MAX = 300
MESSAGE_MAX = 2000
"""Characters."""

CONTENT_TYPE = b"application/cloudevents+json"

Encoded = tuple[bytes | None, bytes | None, tuple[tuple[str, bytes | None], ...]]
"""Key, value and headers of a record."""

_HEADERS = (("content-type", CONTENT_TYPE),)
_encode = msgspec.json.Encoder().encode

_Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]


class Source(msgspec.Struct, frozen=True, gc=False):
    """An input record."""

    topic: str
    partition: Annotated[int, Meta(ge=0)]
    offset: Annotated[int, Meta(ge=0)]


class SyncError(msgspec.Struct, frozen=True, gc=False):
    """The error: the API's error object, or one of the daemon's own (codes `COURSESYNC.*`)."""

    code: Annotated[str | None, Meta(description="Stable. Base decisions on the code, never on the text.")]
    title: str | None
    message: Annotated[str, Meta(description=f"Text for people, at most {MESSAGE_MAX} characters.")]
    log_url: Annotated[str | None, Meta(description="Link to details at the vendor.")]


class SyncResult(msgspec.Struct, frozen=True, gc=False):
    """The end of one change."""

    status: Annotated[
        Status,
        Meta(
            description="SUCCEEDED: the API reported the course as written. FAILED: the course was not "
            "accepted. TIMED_OUT: the task was still pending at its time-out; a correction may "
            "follow. SUPERSEDED: never sent, because a newer change of the course replaced it, or was accepted before an older "
            "one was sent again. "
            "REJECTED: the record was not an acceptable change; its bytes are in the dead "
            "letters. UNCHANGED: not sent, because the API has confirmed the course with this content before."
        ),
    ]
    integration_id: Annotated[str | None, Meta(description="Null if a rejected record had no valid one.")]
    origin_id: Annotated[str | None, Meta(description="Null if a rejected record had no valid one.")]
    change_id: Annotated[
        str | None, Meta(description="The `id` of the change; null if a rejected record had no valid one.")
    ]
    change: Annotated[Source, Meta(description="The input record of the change: its identity.")]
    course_id: Annotated[
        str | None, Meta(description="Kombo's id of the course, if the change succeeded or was not needed.")
    ]
    error: SyncError | None
    superseded_by: Annotated[
        Source | None,
        Meta(
            description="The input record of the newer change. If the change was an older one, sent again (`coursesyncd "
            "republish`), this record may come before it."
        ),
    ]
    batch_id: str | None
    task_id: Annotated[str | None, Meta(description="The id of the API's task.")]
    attempts: Annotated[int, Meta(ge=0, description="Number of submissions that this change was part of.")]
    consumed_at: _Time
    submitted_at: Annotated[_Time | None, Meta(description="When the API accepted the submission.")]
    completed_at: Annotated[
        _Time | None,
        Meta(
            description="When the task completed, by the API's clock. For a deactivation, when the API answered."
        ),
    ]
    resolved_at: _Time
    change_type: (
        Annotated[
            str,
            Meta(
                description="The `type` of the change; absent if it was rejected.",
                extra_json_schema={"enum": [operation.event_type for operation in OPERATIONS.values()]},
            ),
        ]
        | UnsetType
    ) = UNSET
    failure_scope: (
        Annotated[
            FailureScope,
            Meta(
                description="Present if the API reported that the change FAILED. own: the failure is that of this change. "
                "batch: all changes of its submission failed together, so that any of them may be the cause; sent alone, "
                "it may succeed."
            ),
        ]
        | UnsetType
    ) = UNSET


class SyncResultEvent(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The one record that ends a change, as a CloudEvent in structured mode.

    READ THE RESULTS WITH `isolation.level=read_committed`. Results are written in Kafka transactions. A consumer with
    `read_uncommitted`, which is the default of the Java client and of kafka-python, also sees results of aborted
    transactions, which are not valid, and counts changes twice.
    """

    specversion: Literal["1.0"]
    id: Annotated[
        str,
        Meta(description="`<topic>/<partition>/<offset>` of the change.", examples=["course-changes/3/1042"]),
    ]
    source: Annotated[str, Meta(examples=["/course-sync-daemon/course-sync-journal"])]
    type: Literal["course.sync.resolved"]
    subject: Annotated[
        str | UnsetType, Meta(description="The origin id; absent if a rejected record had no valid one.")
    ] = UNSET
    time: _Time
    datacontenttype: Literal["application/json"]
    data: SyncResult


class SyncCorrectionEvent(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The final outcome of a change that ended as `TIMED_OUT`, published when its task ended later. The published
    result remains unchanged; this record has another type, another id and another key.

    READ IT WITH `isolation.level=read_committed`, like the results.
    """

    specversion: Literal["1.0"]
    id: Annotated[
        str,
        Meta(
            description="The id of the result, followed by `/correction`.",
            examples=["course-changes/3/1042/correction"],
        ),
    ]
    source: Annotated[str, Meta(examples=["/course-sync-daemon/course-sync-journal"])]
    type: Literal["course.sync.corrected"]
    subject: Annotated[str | UnsetType, Meta(description="The origin id.")] = UNSET
    time: _Time
    datacontenttype: Literal["application/json"]
    data: SyncResult


def encode_result(
    result: Result, partition: int, *, changes_topic: str, journal_topic: str, span_id: int | None = None
) -> Encoded:
    """The record for the results topic. Key: ``[integration_id, origin_id]``, null where not known. `span_id`: as in
    `trace_headers`.
    """
    data = _data(result, partition, changes_topic)
    event = SyncResultEvent(
        specversion="1.0",
        id=f"{changes_topic}/{partition}/{result.offset}",
        source=f"/course-sync-daemon/{journal_topic}",
        type="course.sync.resolved",
        subject=UNSET if result.origin_id is None else result.origin_id,
        time=data.resolved_at,
        datacontenttype="application/json",
        data=data,
    )
    return _encode((result.integration_id, result.origin_id)), _encode(event), _headers(result, span_id)


def encode_correction(
    correction: Correction,
    partition: int,
    *,
    changes_topic: str,
    journal_topic: str,
    span_id: int | None = None,
) -> Encoded:
    """The record for the results topic. Key: ``[integration_id, origin_id, "correction"]``. `span_id`: that of its result."""
    result = correction.result
    data = _data(result, partition, changes_topic)
    event = SyncCorrectionEvent(
        specversion="1.0",
        id=f"{changes_topic}/{partition}/{result.offset}/correction",
        source=f"/course-sync-daemon/{journal_topic}",
        type="course.sync.corrected",
        subject=UNSET if result.origin_id is None else result.origin_id,
        time=data.resolved_at,
        datacontenttype="application/json",
        data=data,
    )
    key = _encode((result.integration_id, result.origin_id, "correction"))
    return key, _encode(event), _headers(result, span_id)


def _headers(result: Result, span_id: int | None) -> tuple[tuple[str, bytes | None], ...]:
    return _HEADERS if result.trace is None else (*_HEADERS, *trace_headers(result.trace, span_id))


def _data(result: Result, partition: int, changes_topic: str) -> SyncResult:
    superseded_by = result.superseded_by
    return SyncResult(  # by position: by name it takes four times as long
        result.status,
        result.integration_id,
        result.origin_id,
        result.change_id,
        Source(changes_topic, partition, result.offset),
        _truncated_optional(result.course_id, API_ID_CHARS_MAX),
        None if result.error is None else _error(result.error),
        None if superseded_by is None else Source(changes_topic, partition, superseded_by),
        result.batch_id,
        _truncated_optional(result.task_id, API_ID_CHARS_MAX),
        result.attempts,
        iso_ms(result.consumed_at),
        None if result.submitted_at is None else iso_ms(result.submitted_at),
        None if result.completed_at is None else iso_ms(result.completed_at),
        iso_ms(result.resolved_at),
        UNSET if result.change_type is None else result.change_type,
        UNSET if result.failure_scope is None else result.failure_scope,
    )


def _error(error: Error) -> SyncError:
    log_url = error.log_url
    return SyncError(
        code=_truncated_optional(error.code, ERROR_CODE_CHARS_MAX),
        title=_truncated_optional(error.title, TITLE_MAX),
        message=truncated(error.message, MESSAGE_MAX),
        # A truncated link does not work.
        log_url=None if log_url is None or len(log_url) > LOG_URL_CHARS_MAX else log_url,
    )


def _truncated_optional(text: str | None, length: int) -> str | None:
    return None if text is None else truncated(text, length)
