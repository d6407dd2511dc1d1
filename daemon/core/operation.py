"""The operation that a change requests from the API: one value, passed from the input record to the call.

Everything that depends on the kind of a change is a member of its operation, or is looked up by it. There is no other
`if` on the kind. To add an operation:

    core      add a module with its `Operation`, and an entry in `core.operations`
    codec     add its event type, and the encoding of its item (`codec.decode`)
    kombo     add its call (`kombo.client`)
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

REPLAYS_MAX = 8
"""Maximum number of consecutive bodies of one batch that the API answers with an earlier task, before its changes
end. A catalogue that is published unchanged every night needs one more each night until the API forgets the earlier
ones.
"""


@dataclass(frozen=True, slots=True)
class Operation:
    """How the bodies of one operation are built, split and re-encoded. All functions are pure."""

    name: str
    """Stored in the journal, so it never changes."""
    join: Callable[[Sequence[bytes]], bytes]
    """Builds the body of a request from its items."""
    split: Callable[[bytes], list[bytes]]
    """Splits a body into its items, each as it was joined."""
    next_encoding: Callable[[bytes], bytes]
    """Returns an equivalent item: different bytes with the same meaning. Returns the same bytes if there is no other
    encoding.
    """
    reencode: Callable[[Sequence[bytes], int, int, random.Random], list[tuple[int, bytes]] | None]
    """Returns the items of an equivalent body. Arguments: `(items, replays, bytes_max, rng)`. The API answered
    `replays` bodies, including the last one, with an earlier task. For each place of the new body the result has the
    index into `items` and the new bytes. None if no equivalent body is left to try (R14).
    """
