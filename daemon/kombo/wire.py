"""Parses HTTP answers of the API. The result is a pure function of status, header fields and content.

How it works: any status other than 2xx is a refusal, with its `error.code` if it has one. A 2xx must have the
documented form, in one of the two variants that the vendor's guide and OpenAPI description use (`docs/kombo-api.md`).
Otherwise it is not understood. So the 200 of a captive portal, a truncated body, or a status that this version does
not know can delay a change, but never end one::

    2xx, documented form  → Accepted · Done · TaskPending · TaskCompleted · TaskFailed
    2xx, anything else    → NoAnswer(protocol_error)
    3xx, 4xx, 5xx         → Refused, `error.code` None if there is no error object
    1xx, 6xx and above    → NoAnswer(protocol_error)

An answer with implausible times is not understood either (R14); see `kombo.times`.

In a completed task, one entry that is not understood affects only that item: it becomes a failure without a code,
which is resubmitted, and the other 99 items keep their outcomes. The core detects items that are missing, repeated or
unknown: all entries that name an item are passed on, in order.

Nothing here raises, whatever the bytes are. All returned text is bounded (R7) and has no secrets. Only what is needed is
decoded: the event loop waits meanwhile, and the objects of a decoded text take up to 25 times its size.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import msgspec

from daemon.core.answers import (
    Accepted,
    Done,
    ItemOutcome,
    NoAnswer,
    NoAnswerReason,
    PollAnswer,
    Refused,
    SubmitAnswer,
    TaskCompleted,
    TaskFailed,
    TaskPending,
)
from daemon.core.model import API_ID_CHARS_MAX, ERROR_CODE_CHARS_MAX, LOG_URL_CHARS_MAX, Error
from daemon.kombo.redaction import NO_SECRETS, Redactor
from daemon.kombo.times import api_time_of, http_date, implausible, retry_after, timestamp

SUBMIT_ANSWER_BYTES_MAX = 64 * 1024
"""Maximum size of the answer to a submission, or of a refusal: a task id and some warnings, or one error."""
COURSE_ANSWER_BYTES_MAX = 1024 * 1024
"""Maximum size of an answer that describes a course, with its revisions and what the connected tool says about it."""
ITEM_ANSWER_BYTES_MAX = 16 * 1024
"""How much one item may add to the answer to a poll: an error with a message that quotes the page of another system."""
ANSWER_BYTES_MAX = 8 * 1024 * 1024
"""Maximum size of any answer, however many items the task has. Up to `http.in_flight_max` answers arrive at a time."""
MESSAGE_CHARS_MAX = 1000
"""A message may quote a whole answer of the connected system. Its beginning is enough for a person."""
WARNINGS_MAX = 20
DETAIL_CHARS_MAX = 300
_WHOLE_NUMBER = re.compile(r"[0-9]{1,9}")


class _Submitted(msgspec.Struct):
    task_id: str


class _SubmitBody(msgspec.Struct):
    status: Literal["success"]
    data: _Submitted
    warnings: Any = None


class _DoneData(msgspec.Struct):
    """The parts of a course that are read."""

    id: Any = None
    course_id: Any = None
    origin_id: Any = None


class _DoneBody(msgspec.Struct):
    status: Literal["success"]
    data: _DoneData
    warnings: Any = None


_NULL = msgspec.Raw(b"null")


class _Task(msgspec.Struct):
    """All three forms of a task. `_task_answer` decodes the fields that each form requires."""

    task_id: str
    status: Literal["PENDING", "COMPLETED", "FAILED"]
    created_at: str
    completed_at: msgspec.Raw = _NULL
    data: msgspec.Raw = _NULL
    error: msgspec.Raw = _NULL


class _Entry(msgspec.Struct):
    """One entry of a completed task's ``data``."""

    origin_id: Any = None
    status: Any = None
    data: Any = None
    error: Any = None


class _PollBody(msgspec.Struct):
    status: Literal["success"]
    data: _Task


_Body = TypeVar("_Body", _SubmitBody, _DoneBody, _PollBody)

_JSON = msgspec.json.Decoder()
_ENTRIES = msgspec.json.Decoder(list[msgspec.Raw])
_ENTRY = msgspec.json.Decoder(_Entry)

# Invalid UTF-8 and deep nesting do not raise MsgspecError.
_DECODE_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def poll_answer_bytes_max(items: int) -> int:
    """Maximum size of the answer to a poll of a task with so many items."""
    return min(SUBMIT_ANSWER_BYTES_MAX + items * ITEM_ANSWER_BYTES_MAX, ANSWER_BYTES_MAX)


def parse_submit(
    status: int, headers: Mapping[str, str], body: bytes, now: int, redact: Redactor = NO_SECRETS
) -> SubmitAnswer:
    """Parse the answer to ``POST /lms/courses/bulk``.

    `headers` is read with lower-case names. `body` is the content, decoded. `now` is the wall clock in ms. It replaces
    a ``Date`` that is missing or implausible.
    """
    if (early := _not_a_success(status, headers, body, now, redact)) is not None:
        return early
    try:
        answer = _documented(body, _SubmitBody)
    except _DECODE_ERRORS as error:
        return _undocumented(status, str(error), redact)
    task_id = answer.data.task_id
    # A dot segment would be removed from the URL that polls the task.
    if not 0 < len(task_id) <= API_ID_CHARS_MAX or task_id in (".", ".."):
        return _undocumented(status, f"task_id has {len(task_id)} characters and is not a valid id", redact)
    if redact.quotes(task_id):
        return _undocumented(status, "task_id contains a secret of ours", redact)
    return Accepted(
        task_id=task_id,
        warnings=_warnings(answer.warnings, redact),
        concurrency_limit=_whole_number(headers.get("concurrency-limit")),
        concurrency_remaining=_whole_number(headers.get("concurrency-remaining")),
        api_time=api_time_of(headers, now),
    )


def parse_done(
    status: int, headers: Mapping[str, str], body: bytes, now: int, redact: Redactor = NO_SECRETS
) -> SubmitAnswer:
    """Parse the answer to a call that makes no task, such as ``POST /lms/courses/{course_id}/deactivate``; arguments as in
    `parse_submit`. The answer describes the course; only its id is read.
    """
    if (early := _not_a_success(status, headers, body, now, redact)) is not None:
        return early
    try:
        answer = _documented(body, _DoneBody)
    except _DECODE_ERRORS as error:
        return _undocumented(status, str(error), redact)
    return Done(
        course_id=_course_id(msgspec.structs.asdict(answer.data), redact),
        origin_id=answer.data.origin_id if isinstance(answer.data.origin_id, str) else None,
        warnings=_warnings(answer.warnings, redact),
        concurrency_limit=_whole_number(headers.get("concurrency-limit")),
        concurrency_remaining=_whole_number(headers.get("concurrency-remaining")),
        api_time=api_time_of(headers, now),
    )


def parse_poll(
    task_id: str,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    now: int,
    redact: Redactor = NO_SECRETS,
) -> PollAnswer:
    """Parse the answer to ``GET /lms/courses/bulk/{task_id}``; arguments as in `parse_submit`.

    An answer about another task than the requested one is not understood.
    """
    if (early := _not_a_success(status, headers, body, now, redact)) is not None:
        return early
    try:
        task = _documented(body, _PollBody).data
    except _DECODE_ERRORS as error:
        return _undocumented(status, str(error), redact)
    if task.task_id != task_id:
        return _undocumented(status, "it describes another task than the requested one", redact)
    api_time = api_time_of(headers, now)
    clock = now if api_time is None else api_time
    created_at = timestamp(task.created_at)
    if created_at is None:
        return _undocumented(status, "created_at is not an ISO 8601 time", redact)
    completed = _decoded(task.completed_at)
    completed_at = timestamp(completed)  # informational only: an unreadable time counts as absent
    for name, text, moment in (
        ("created_at", task.created_at, created_at),
        ("completed_at", completed, completed_at),
    ):
        if moment is not None and (why := implausible(moment, clock)):
            return _undocumented(status, f"{name} {text} is {why}", redact)
    if task.status == "PENDING":
        return TaskPending(created_at, api_time)
    if task.status == "FAILED":
        reason = _error(_decoded(task.error), "The task failed; the API gave no reason.", redact)
        return TaskFailed(created_at, completed_at, reason, api_time)
    try:
        entries = _ENTRIES.decode(task.data)
    except _DECODE_ERRORS:
        return _undocumented(status, "a COMPLETED task has no list of results", redact)
    outcomes = (_outcome(entry, redact) for entry in entries)
    return TaskCompleted(created_at, completed_at, tuple(o for o in outcomes if o is not None), api_time)


def _documented(body: bytes, form: type[_Body]) -> _Body:
    body.decode()  # msgspec does not validate the text of fields that the form does not have
    return msgspec.json.decode(body, type=form)


def _decoded(raw: msgspec.Raw) -> Any:
    """The value of a field that is not required to be readable; None if it is not."""
    try:
        return _JSON.decode(raw)
    except _DECODE_ERRORS:
        return None


def _outcome(raw: msgspec.Raw, redact: Redactor) -> ItemOutcome | None:
    """One entry of a completed task's ``data``; None if it does not name its item.

    It is a success only with the documented status and without an error.
    """
    try:
        entry = _ENTRY.decode(raw)
    except _DECODE_ERRORS:
        return None
    if not isinstance(entry.origin_id, str):
        return None
    if entry.status == "SUCCEEDED" and entry.error is None:
        course_id = _course_id(entry.data, redact)
        return ItemOutcome(entry.origin_id, succeeded=True, course_id=course_id, error=None)
    if entry.status == "FAILED":
        reason = _error(entry.error, "The item failed; the API gave no reason.", redact)
    else:
        word = repr(redact(entry.status, 50)) if isinstance(entry.status, str) else "none"
        reason = Error(None, f"The API's result for this item cannot be understood (status {word}).")
    return ItemOutcome(entry.origin_id, succeeded=False, course_id=None, error=reason)


def _course_id(data: Any, redact: Redactor) -> str | None:
    """`id` in the vendor's OpenAPI description, `course_id` in the vendor's guide (`docs/kombo-api.md`)."""
    if not isinstance(data, dict):
        return None
    for name in ("id", "course_id"):
        value = data.get(name)
        if isinstance(value, str) and 0 < len(value) <= API_ID_CHARS_MAX and not redact.quotes(value):
            return value
    return None


def _not_a_success(
    status: int, headers: Mapping[str, str], body: bytes, now: int, redact: Redactor
) -> Refused | NoAnswer | None:
    """The answer if it is not a readable 2xx; None if it is."""
    if not 200 <= status <= 599:
        return NoAnswer(NoAnswerReason.PROTOCOL_ERROR, f"HTTP status {status}, which is not a final status")
    if status <= 299:
        return None
    api_time = http_date(headers.get("date"))
    is_documented, error = _error_object(body)
    return Refused(
        status=status,
        error=_error(error, f"HTTP {status} without an error object.", redact),
        retry_after=retry_after(headers.get("retry-after"), now if api_time is None else api_time),
        concurrency_limit=_whole_number(headers.get("concurrency-limit")),
        concurrency_remaining=_whole_number(headers.get("concurrency-remaining")),
        api_time=api_time,
        is_documented=is_documented,
    )


def _error_object(body: bytes) -> tuple[bool, Any]:
    """The error object of a refusal, and whether the refusal has the documented form (`ErrorResponseGeneral`)."""
    try:
        answer = _JSON.decode(body)
    except _DECODE_ERRORS:
        return False, None
    error = answer.get("error") if isinstance(answer, dict) else None
    is_documented = (
        isinstance(error, dict) and isinstance(error.get("message"), str) and answer.get("status") == "error"
    )
    return is_documented, error


def _error(value: Any, otherwise: str, redact: Redactor) -> Error:
    """The error object in the form of the vendor's guide or OpenAPI description, or the readable part of it."""
    if not isinstance(value, dict):
        return Error(None, otherwise)
    return Error(
        code=_text(value.get("code"), ERROR_CODE_CHARS_MAX, redact),
        message=_text(value.get("message"), MESSAGE_CHARS_MAX, redact) or otherwise,
        title=_text(value.get("title"), MESSAGE_CHARS_MAX, redact),
        log_url=_address(value.get("log_url"), redact),
    )


def _warnings(value: Any, redact: Redactor) -> tuple[str, ...]:
    entries = value[:WARNINGS_MAX] if isinstance(value, list) else []
    texts = (_text(e.get("message"), MESSAGE_CHARS_MAX, redact) for e in entries if isinstance(e, dict))
    return tuple(text for text in texts if text is not None)


def _undocumented(status: int, why: str, redact: Redactor) -> NoAnswer:
    return NoAnswer(
        NoAnswerReason.PROTOCOL_ERROR,
        redact(f"HTTP {status}, but the answer is not as documented: {why}", DETAIL_CHARS_MAX),
    )


# --- texts ----------------------------------------------------------------------


def _whole_number(value: str | None) -> int | None:
    return int(value) if value is not None and _WHOLE_NUMBER.fullmatch(value) else None


def _text(value: Any, chars_max: int, redact: Redactor) -> str | None:
    return redact(value, chars_max) if isinstance(value, str) and value else None


def _address(value: Any, redact: Redactor) -> str | None:
    """Returned complete or not at all: a truncated URL does not work."""
    if not isinstance(value, str) or not 0 < len(value) <= LOG_URL_CHARS_MAX or redact.quotes(value):
        return None
    return value
