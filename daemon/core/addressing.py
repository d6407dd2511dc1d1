"""Gives sealed changes the API's id of their course, for operations whose call needs it (R18)."""

from __future__ import annotations

from collections.abc import Sequence

from daemon.core.journal import Attempt
from daemon.core.lane import Held
from daemon.core.memory import Memory
from daemon.core.model import Error, Item, Now, Status

COURSE_UNKNOWN = Error(
    "COURSESYNC.COURSE_UNKNOWN",
    "The API's id of this course is not known here, and the call needs it. Publish the change again with course_id: the "
    "course_id of a result of this course, or remote: and the id that the course has in the learning system.",
    "The API's id of the course is not known",
)
LOADING_PAUSE = 1.0
"""Seconds until a change that needs the id of a course looks for it again, while the ids are being loaded."""


def addressed(
    memory: Memory, integration_id: str, taken: Sequence[Held], now: Now
) -> list[tuple[Item, bytes]]:
    """The changes that can be sealed, each with the id that its call needs. All of them have the same operation. A change whose id may still become known
    waits. One whose id is not known ends.
    """
    address = taken[0].operation.address
    if address is None:
        return [(held.item, held.body) for held in taken]
    entries: list[tuple[Item, bytes]] = []
    for held in taken:
        known = memory.known.courses
        body = address(held.body, known.course_id(integration_id, held.item.origin_id))
        if body is not None:
            entries.append((held.item, body))
        elif known.is_loaded:
            attempt = Attempt("", COURSE_UNKNOWN)
            memory.end(held.operation, integration_id, held.item, Status.FAILED, now, attempt=attempt)
        else:
            memory.hold(integration_id, held, now.mono + LOADING_PAUSE)
    return entries
