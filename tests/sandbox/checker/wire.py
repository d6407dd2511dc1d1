"""The public wire formats, decoded from the public description of the topics, without code of the daemon.

This is an independent decision on which input records are acceptable. It is written from the README and the vendor's OpenAPI
description, with the standard library's JSON, so that an error in the daemon's decoding appears as a difference.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from tests.sandbox.checker.history import (
    COURSE_FIELDS,
    DEACTIVATED,
    Digest,
    LogRecord,
    Source,
    content_digest,
)

UPSERTED = "course.upserted"
DEACTIVATION = "course.deactivated"
RESOLVED = "course.sync.resolved"
CORRECTED = "course.sync.corrected"

STALE_REPLAY = "COURSESYNC.STALE_REPLAY"
"""Error code: the API keeps answering with an old task."""


UNCONFIRMED = "COURSESYNC.DEACTIVATION_UNCONFIRMED"
"""Error code: an earlier call may have been carried out, and the API refuses to repeat it."""

GIVEN_UP = "COURSESYNC.GIVEN_UP"
"""An operator has given the change up (R19)."""
COURSE_UNKNOWN = "COURSESYNC.COURSE_UNKNOWN"
"""Error code: a deactivation has no id of its course, and none is known."""

BACKLOG_FULL = "COURSESYNC.BACKLOG_FULL"
"""Error code: the only reason for which an acceptable record may be REJECTED."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_PRINTABLE_ASCII = re.compile(r"[!-~]+")
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Z]{2})?")
_INT64_MAX = 2**63 - 1


class NotAcceptableError(Exception):
    """By the public description, this record is not an acceptable change. The message says why."""


class NotAResultError(Exception):
    """A record in the results topic that does not match the public description."""


class ChangeContent(NamedTuple):
    """The contents of an acceptable input record."""

    change_id: str
    integration_id: str
    origin_id: str
    digest: Digest
    course_id: str | None = None
    """The id that a deactivation gives the course."""
    repeats: int | None = None
    """Offset of the earlier change, in the same partition, that it repeats."""


class ResultEvent(NamedTuple):
    """The contents of a record of the results topic."""

    event_type: str
    event_id: str
    key: Any
    status: str
    source: Source
    integration_id: str | None
    origin_id: str | None
    change_id: str | None
    superseded_by: Source | None
    task_id: str | None
    attempts: int
    error_code: str | None
    change_type: str | None


# --- the input ------------------------------------------------------------------------------------


def read_change(record: LogRecord, item_bytes_max: int) -> ChangeContent:
    """The change in an input record: plain JSON, or a CloudEvent in structured or binary mode.

    `item_bytes_max` is the maximum size in bytes of one item of a request.

    Raises:
        NotAcceptableError: the record is not an acceptable change.
    """
    if record.value is None:
        raise NotAcceptableError("a tombstone")
    body = _json_object(record.value)
    envelope, data = _envelope_and_data(record, body)
    change_id = _text("id", envelope.get("id"), 256)
    _one_of("type", envelope.get("type"), (UPSERTED, DEACTIVATION))
    _optional_text("time", envelope.get("time"))
    if not isinstance(data, dict):
        raise NotAcceptableError("data is not an object")
    is_upsert = envelope.get("type") == UPSERTED
    for read in (body, data, data.get("course") if is_upsert else None):
        if isinstance(read, _Object) and read.repeats:
            raise NotAcceptableError("a key that occurs twice")
    integration_id = _text("integration_id", data.get("integration_id"), 256)
    if not _PRINTABLE_ASCII.fullmatch(integration_id):
        raise NotAcceptableError("integration_id has a character that is not allowed in an HTTP header")
    origin_id = _text("origin_id", data.get("origin_id"), 512)
    if data.get("priority") is not None:
        _one_of("priority", data["priority"], ("normal", "bulk"))
    if envelope.get("type") == DEACTIVATION:
        course_id = data.get("course_id")
        if course_id is not None and _text("course_id", course_id, 512) in (".", ".."):
            raise NotAcceptableError("course_id is no id")
        return ChangeContent(change_id, integration_id, origin_id, DEACTIVATED, course_id, _repeats(record))
    course = data.get("course")
    if not isinstance(course, dict):
        raise NotAcceptableError("course is not an object")
    _check_course(course)
    size = _item_size(origin_id, course)
    if size > item_bytes_max:
        raise NotAcceptableError(f"larger than a request may be: {size} bytes")
    return ChangeContent(
        change_id, integration_id, origin_id, content_digest(course), repeats=_repeats(record)
    )


def _repeats(record: LogRecord) -> int | None:
    """The offset of the change that this record repeats, by its headers (`schemas/repeat-headers.schema.json`)."""
    named = [value or b"" for name, value in record.headers if name == "coursesync-repeats"]
    checked = [value or b"" for name, value in record.headers if name == "coursesync-checked"]
    if not named and not checked:
        return None
    if len(named) != 1 or len(checked) != 1 or not checked[0].isdigit():
        raise NotAcceptableError("its headers do not say which change it repeats")
    place, _, offset = named[0].rpartition(b"/")
    if place != f"{record.topic}/{record.partition}".encode() or not offset.isdigit():
        raise NotAcceptableError("it repeats no change of its partition")
    if not int(offset) < int(checked[0]) <= record.offset:
        raise NotAcceptableError("it repeats a change that is not older")
    return int(offset)


def _envelope_and_data(record: LogRecord, body: dict[str, Any]) -> tuple[Mapping[str, Any], Any]:
    """The envelope and the data. In the plain form, both are the same object."""
    headers = {name.lower(): value or b"" for name, value in record.headers}
    media_type = headers.get("content-type", b"").partition(b";")[0].strip().lower()
    if media_type == b"application/cloudevents-batch+json":
        raise NotAcceptableError("a batch of CloudEvents")
    binary = "ce_specversion" in headers
    structured = media_type == b"application/cloudevents+json" or (not binary and "specversion" in body)
    if not structured and not binary:
        return body, body
    envelope = body if structured else _binary_attributes(headers)
    _one_of("specversion", envelope.get("specversion"), ("1.0",))
    if "source" in envelope and envelope["source"] is None:
        raise NotAcceptableError("source is not a string")
    _optional_text("source", envelope.get("source"))
    return envelope, body.get("data") if structured else body


class _Object(dict[str, Any]):
    """A JSON object that knows whether one of its keys occurs twice."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.repeats = len(self) < len(pairs)


def _json_object(value: bytes) -> dict[str, Any]:
    try:
        body = json.loads(value.decode("utf-8"), parse_constant=_refuse_constant, object_pairs_hook=_Object)
        if b"\\ud" in value.lower():
            json.dumps(body, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise NotAcceptableError("half of a surrogate pair, which is not valid text") from error
    except UnicodeDecodeError as error:
        raise NotAcceptableError("not UTF-8") from error
    except RecursionError as error:
        raise NotAcceptableError("nested too deep") from error
    except ValueError as error:
        raise NotAcceptableError(f"not JSON: {error}") from error
    if not isinstance(body, dict):
        raise NotAcceptableError("not a JSON object")
    return body


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _binary_attributes(headers: Mapping[str, bytes]) -> dict[str, Any]:
    try:
        return {
            name: headers[f"ce_{name}"].decode()
            for name in ("specversion", "id", "type", "time")
            if f"ce_{name}" in headers
        }
    except UnicodeDecodeError as error:
        raise NotAcceptableError("a CloudEvents header that is not UTF-8") from error


def _check_course(course: Mapping[str, Any]) -> None:
    """Check the rules of the vendor's OpenAPI, that title and URL are not empty, and that no text contains NUL."""
    _one_of("course.type", course.get("type"), ("EXTERNAL",))
    for name in ("title", "course_url"):
        if not isinstance(course.get(name), str) or not course[name]:
            raise NotAcceptableError(f"course.{name} is not a non-empty string")
    for name in ("description", "thumbnail_url"):
        _optional_text(f"course.{name}", course.get(name))
    if any("\0" in str(course.get(name)) for name in ("title", "course_url", "description", "thumbnail_url")):
        raise NotAcceptableError("a text of the course contains the character NUL")
    duration = course.get("duration")
    if duration is not None and (
        not isinstance(duration, int) or isinstance(duration, bool) or not 0 < duration <= _INT64_MAX
    ):
        raise NotAcceptableError("course.duration is not a whole number of minutes above 0")
    languages = course.get("languages")
    if languages is not None and not (
        isinstance(languages, list)
        and all(isinstance(language, str) and _LANGUAGE.fullmatch(language) for language in languages)
    ):
        raise NotAcceptableError("course.languages is not a list of language tags")


def _item_size(origin_id: str, course: Mapping[str, Any]) -> int:
    item = {"origin_id": origin_id, "course": {k: course[k] for k in COURSE_FIELDS if k in course}}
    return len(json.dumps(item, ensure_ascii=False, separators=(",", ":")).encode())


def _text(name: str, value: Any, length_max: int) -> str:
    if not isinstance(value, str) or not value:
        raise NotAcceptableError(f"{name} is not a non-empty string")
    if len(value) > length_max:
        raise NotAcceptableError(f"{name} is longer than {length_max} characters")
    if _CONTROL.search(value):
        raise NotAcceptableError(f"{name} has a control character")
    return value


def _optional_text(name: str, value: Any) -> None:
    if value is not None and not isinstance(value, str):
        raise NotAcceptableError(f"{name} is not a string")


def _one_of(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise NotAcceptableError(f"{name} is not {' or '.join(allowed)}")


# --- the results ----------------------------------------------------------------------------------


def read_result(record: LogRecord) -> ResultEvent:
    """Decode a record of the results topic.

    Raises:
        NotAResultError: the record is not a result event as publicly described.
    """
    content_type = next((v or b"" for name, v in record.headers if name.lower() == "content-type"), b"")
    if not content_type.startswith(b"application/cloudevents+json"):
        raise NotAResultError(f"its content-type is {content_type!r}")
    try:
        event = json.loads(record.value or b"")
        data = event["data"]
        key = json.loads(record.key or b"")
        if event["specversion"] != "1.0":
            raise NotAResultError(f"its specversion is {event['specversion']!r}")
        error = data["error"]
        for name in ("consumed_at", "resolved_at"):
            _must_be_text(data[name])
        return ResultEvent(
            event_type=_must_be_text(event["type"]),
            event_id=_must_be_text(event["id"]),
            key=key,
            status=_must_be_text(data["status"]),
            source=_source(data["change"]),
            integration_id=data["integration_id"],
            origin_id=data["origin_id"],
            change_id=data["change_id"],
            superseded_by=None if data["superseded_by"] is None else _source(data["superseded_by"]),
            task_id=data["task_id"],
            attempts=data["attempts"],
            error_code=None if error is None else error["code"],
            change_type=data.get("change_type"),
        )
    except (ValueError, TypeError) as error:
        raise NotAResultError(str(error)) from error
    except KeyError as error:
        raise NotAResultError(f"it has no {error}") from error


def _must_be_text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a string")
    return value


def _source(value: Any) -> Source:
    if not (isinstance(value["partition"], int) and isinstance(value["offset"], int)):
        raise TypeError(f"{value!r} does not name a record")
    return Source(_must_be_text(value["topic"]), value["partition"], value["offset"])
