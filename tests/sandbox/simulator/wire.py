"""The wire format of the API: decodes request bodies, encodes replies.

A body is checked only against the vendor's OpenAPI (PostLmsCoursesBulkRequestBody): unknown fields are allowed, an empty list
of items is allowed, optional fields may be null.
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import formatdate
from enum import Enum
from typing import Annotated, Any, Literal

import msgspec

# `$` in the OpenAPI is that of JavaScript, which, unlike Python's, does not match before a final newline.
Language = Annotated[str, msgspec.Meta(pattern=r"\A[a-z]{2,3}(-[A-Z]{2})?\Z")]


class Course(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The content of a course. Null fields are encoded as absent ones."""

    type: Literal["EXTERNAL"]
    title: str
    course_url: str
    description: str | None = None
    thumbnail_url: str | None = None
    duration: int | float | None = None
    """Minutes. In JSON Schema, 60.0 is an integer, so `parse_items` checks floats."""
    languages: list[Language] | None = None


class Item(msgspec.Struct, frozen=True, gc=False):
    origin_id: str
    course: Course


class _Body(msgspec.Struct, frozen=True, gc=False):
    items: list[Item]


_body_decoder = msgspec.json.Decoder(_Body)


class InvalidBodyError(Exception):
    """The body violates the OpenAPI. The message says where."""


def parse_items(body: bytes) -> list[Item]:
    """The items of a bulk request, in order.

    Raises:
        InvalidBodyError: the body is not JSON, or does not match the documented schema.
    """
    try:
        items = _body_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:  # ValidationError is a DecodeError
        raise InvalidBodyError(str(error)) from error
    except RecursionError as error:
        raise InvalidBodyError("nested too deep") from error
    origin_ids = set()
    for index, item in enumerate(items.items):
        duration = item.course.duration
        if duration is not None and (duration <= 0 or duration % 1):
            raise InvalidBodyError(f"Expected an integer > 0 - at `$.items[{index}].course.duration`")
        origin_ids.add(item.origin_id)
    if len(origin_ids) != len(items.items):
        # Not expressible in the schema, but in its description: "a unique identifier for this item in the batch".
        raise InvalidBodyError("Expected each `origin_id` once - at `$.items`")
    return items.items


def canonical(body: bytes) -> bytes:
    """The same bytes for all bodies that are equal as JSON (object keys in any order).

    Raises:
        InvalidBodyError: the body is nested too deep. It must have passed `parse_items` before.
    """
    try:
        return msgspec.json.encode(msgspec.json.decode(body), order="sorted")
    except RecursionError as error:
        raise InvalidBodyError("nested too deep") from error


class Delivery(Enum):
    """How a reply is delivered to the client."""

    ANSWER = "answer"
    CUT = "cut"  # the connection is closed without any data
    TRUNCATED = "truncated"  # headers and half of the body are sent, then the connection is closed
    HANG = "hang"  # nothing is sent; the connection is closed after `hang_seconds`


class Reply(msgspec.Struct, frozen=True):
    status: int
    body: bytes
    headers: dict[str, str]
    delivery: Delivery = Delivery.ANSWER
    delay_seconds: float = 0.0
    hang_seconds: float = 0.0


class ErrorObject(msgspec.Struct, frozen=True, gc=False):
    """The error object of the OpenAPI. All fields except `message` may be null."""

    code: str | None
    title: str | None
    message: str
    log_url: str | None


TITLES = {
    "PLATFORM.AUTHENTICATION_INVALID": "The API key is not valid.",
    "PLATFORM.INPUT_INVALID": "The input is not valid.",
    "PLATFORM.CONCURRENCY_LIMIT_EXCEEDED": "Too many requests at the same time.",
    "PLATFORM.RATE_LIMIT_EXCEEDED": "Too many requests.",
    "PLATFORM.UNKNOWN_ERROR": "Something went wrong.",
    "PLATFORM.TASK_TIMED_OUT": "The task took too long.",
    "INTEGRATION.AUTHENTICATION_INVALID": "The credentials of the connected tool are not valid.",
    "INTEGRATION.SETUP_SYNC_PENDING": "The first sync of the integration is not finished.",
    "REMOTE.SERVICE_UNAVAILABLE": "The connected tool is not available.",
    "REMOTE.RATE_LIMIT_EXCEEDED": "The connected tool limits the rate of requests.",
    "REMOTE.INPUT_INVALID": "The connected tool refused the input.",
    "LMS.COURSE_UPDATE_NOT_SUPPORTED": "The connected tool cannot update this course.",
}


def error_object(code: str | None, message: str, interaction: int) -> ErrorObject:
    return ErrorObject(
        code=code,
        title=TITLES.get(code) if code else None,
        message=message,
        log_url=f"https://simulator.invalid/logs?interactionId={interaction}",
    )


def error_body(error: ErrorObject) -> bytes:
    return msgspec.json.encode({"status": "error", "error": error})


def success_body(data: dict[str, Any], warnings: list[str] | None = None) -> bytes:
    """The envelope of a successful answer. With `warnings` None the field is omitted, as in the guide."""
    answer: dict[str, Any] = {"status": "success", "data": data}
    if warnings is not None:
        answer["warnings"] = [{"message": message} for message in warnings]
    return msgspec.json.encode(answer)


def balancer_body(status: int) -> bytes:
    """The error page of a load balancer, which is not JSON."""
    return f"<html><head><title>{status}</title></head><body>upstream failure</body></html>\n".encode()


def iso(milliseconds: int) -> str:
    """Milliseconds since the epoch as `2025-03-12T14:30:00.000Z`."""
    seconds, rest = divmod(milliseconds, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:03d}Z"


def http_date(milliseconds: int) -> str:
    return formatdate(milliseconds // 1000, usegmt=True)
