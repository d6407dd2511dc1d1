"""The operation that a change requests from the API: one value, passed from the input record to the call.

Whatever differs between kinds of changes is a member of its operation: how a body is built, split and re-encoded, which
call sends it, how many changes one call takes, and whether the API answers with a task or with the outcome itself. The
core handles operations alike. CONTRIBUTING.md, "…an operation", lists what else has to know a new one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from daemon.core.course import CourseState

REPLAYS_MAX = 8
"""How many equal or equivalent bodies in a row the API may answer with an earlier task. Then the changes end. Content
that is sent again and again, because it asks to be sent or is not known (R16), needs one body more each time, until the API
forgets the oldest.
"""


class Call(NamedTuple):
    """A POST."""

    path: tuple[str, ...]
    """The segments below the base URL, not encoded."""
    content: bytes


@dataclass(frozen=True, slots=True)
class Operation:
    """How the bodies of one operation are built, split, re-encoded and sent. All functions are pure.

    The *body* of a batch is what the journal holds of its request: a JSON object from which `call` derives every byte
    that is sent.
    """

    name: str
    """Stored in the journal, so it never changes."""
    event_type: str
    """The type of the input record."""
    items_max: int | None
    """How many changes one call takes; None: as many as a batch may have."""
    makes_task: bool
    """Whether the API answers a successful call with a task, whose end is the outcome. Otherwise the answer to the call is
    the outcome, and nothing happens after it.
    """
    makes: CourseState
    """The state of the course once the operation has succeeded."""
    join: Callable[[Sequence[bytes]], bytes]
    """Builds the body of a request from its items."""
    split: Callable[[bytes], list[bytes]]
    """Splits a body into its items, each as it was joined."""
    call: Callable[[bytes], Call]
    """The request of a body."""
    reencode_item: Callable[[bytes, random.Random], bytes]
    """Returns an equivalent item: different bytes with the same meaning. The same item if it has no equivalent, or needs
    none because the API remembers no call of this operation."""
    reencode: Callable[[Sequence[bytes], int, int, random.Random], list[tuple[int, bytes]] | None]
    """Returns the items of an equivalent body. Arguments: `(items, replays, bytes_max, rng)`. The API answered
    `replays` bodies, including the last one, with an earlier task. For each place of the new body the result has the
    index into `items` and the new bytes. None if no equivalent body is left to try (R14).
    """
    address: Callable[[bytes, str | None], bytes | None] | None = None
    """For a call that needs the API's id of the course: returns the item with an id. Arguments: `(item, course_id)`, the id
    that is known, if any. None if the item has no id of its own and none is known. An operation without it names a course
    by its origin id.
    """
