"""The operation that deactivates a course: one call for each course, and its answer is the outcome.

The vendor's OpenAPI description, PostLmsCoursesCourseIdDeactivate: ``POST /lms/courses/{course_id}/deactivate`` with an
empty object. The id is that of the API, or ``remote:`` and the id in the connected tool. A publisher may give it with the
change. Otherwise it is the one that the API has reported for the course, and it joins the item when the change is sealed:
from then on the request is fixed, whatever becomes known of the course.

Deactivating a course twice changes nothing, so a call without an understood answer is repeated. There are no equivalent
bodies, because the API makes no task that it could return again.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import msgspec

from daemon.core.course import CourseState
from daemon.core.operation import Call, Operation


class Deactivation(msgspec.Struct, frozen=True, omit_defaults=True):
    """An item, and the body of a request."""

    course_id: str | None = None
    """As in the path of the call; None until it is sealed, if the publisher gave none."""


_decode = msgspec.json.Decoder(Deactivation).decode
_encode = msgspec.json.Encoder().encode


def item(course_id: str | None) -> bytes:
    return _encode(Deactivation(course_id))


def join(items: Sequence[bytes]) -> bytes:
    (body,) = items
    return body


def split(body: bytes) -> list[bytes]:
    return [body]


def address(item: bytes, course_id: str | None) -> bytes | None:
    """The publisher's own id takes precedence over the one that is known."""
    if _decode(item).course_id is not None:
        return item
    return None if course_id is None else _encode(Deactivation(course_id))


def call(body: bytes) -> Call:
    course_id = _decode(body).course_id
    assert course_id is not None, "it has an id since it was sealed"
    return Call(("lms", "courses", course_id, "deactivate"), b"{}")


def reencode_item(item: bytes, _: random.Random) -> bytes:
    return item


def reencode(_: Sequence[bytes], __: int, ___: int, ____: random.Random) -> list[tuple[int, bytes]] | None:
    return None


DEACTIVATE = Operation(
    name="deactivate",
    event_type="course.deactivated",
    items_max=1,
    makes_task=False,
    makes=CourseState.INACTIVE,
    join=join,
    split=split,
    call=call,
    reencode_item=reencode_item,
    reencode=reencode,
    address=address,
)
