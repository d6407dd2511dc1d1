"""The operation that a change requests from the API: one value, passed from the input record to the call.

How the bodies of a kind of change are built, split and re-encoded is a member of its operation, and `kombo.client` looks up
its call by it. `codec.decode` knows one type of event, that of `UPSERT`. Sealing, poll times and the reading of answers are
those of a bulk submission with a task. CONTRIBUTING.md, "How to add an operation", lists every place.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from daemon.core.course import CourseState

REPLAYS_MAX = 8
"""How many equal or equivalent bodies in a row the API may answer with an earlier task. Then the changes end. Content
that is sent again and again, because it asks to be sent or is not known (R16), needs one body more each time, until the API
forgets the oldest.
"""


@dataclass(frozen=True, slots=True)
class Operation:
    """How the bodies of one operation are built, split and re-encoded. All functions are pure."""

    name: str
    """Stored in the journal, so it never changes."""
    makes: CourseState
    """The state of the course once the operation has succeeded."""
    join: Callable[[Sequence[bytes]], bytes]
    """Builds the body of a request from its items."""
    split: Callable[[bytes], list[bytes]]
    """Splits a body into its items, each as it was joined."""
    reencode_item: Callable[[bytes, random.Random], bytes]
    """Returns an equivalent item: different bytes with the same meaning."""
    reencode: Callable[[Sequence[bytes], int, int, random.Random], list[tuple[int, bytes]] | None]
    """Returns the items of an equivalent body. Arguments: `(items, replays, bytes_max, rng)`. The API answered
    `replays` bodies, including the last one, with an earlier task. For each place of the new body the result has the
    index into `items` and the new bytes. None if no equivalent body is left to try (R14).
    """
