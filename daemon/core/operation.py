"""What a change asks of the API: one value that travels with it from the input record to the call.

Everything that depends on the kind of a change is a member of its operation, or is looked up by it. There is no other
`if` on the kind. To add an operation:

    core      a module with its `Operation`, and an entry in `core.operations`
    codec     the event type that means it, and how its item is encoded (`codec.decode`)
    kombo     the call that it is (`kombo.client`)
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

REPLAYS_MAX = 8
"""Bodies of one batch that may turn out to be known to the API, one after the other, before its changes end. A
catalogue that is published unchanged every night needs one more each night until the API forgets.
"""


@dataclass(frozen=True, slots=True)
class Operation:
    """How bodies of one kind are made, taken apart and varied. All functions are pure."""

    name: str
    """In the journal: never to be changed."""
    join: Callable[[Sequence[bytes]], bytes]
    """The body of a request, from its items."""
    split: Callable[[bytes], list[bytes]]
    """The items of a body, each as it was joined."""
    next_encoding: Callable[[bytes], bytes]
    """An equivalent item: other bytes with the same meaning. The same bytes when there is no other encoding."""
    reencode: Callable[[Sequence[bytes], int, int, random.Random], list[tuple[int, bytes]] | None]
    """The items of an equivalent body: `(items, replays, bytes_max, rng)`, where `replays` bodies, the last one included,
    were known to the API. For each place of the new body, which of `items` stands there and its bytes. None when there
    is nothing left to try (R14).
    """
