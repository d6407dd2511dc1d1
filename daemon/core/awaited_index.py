"""How long bulk changes wait for the index of the known courses (R17).

The index is loaded in the background after a restart. A bulk change that may turn out to be `UNCHANGED` waits for it, so
that a restart does not send a catalogue that is being published again.
"""

from __future__ import annotations

from collections.abc import Iterable

from daemon.config import Policies
from daemon.core.known_courses import KnownCourses
from daemon.core.model import Change, Now, Rejection

INDEX_PATIENCE = 10.0
"""Seconds. A million courses are loaded in about this time. Whatever delays the index more must not delay the changes."""


class AwaitedIndex:
    """The wait of one shard. It begins with the first change that has to wait."""

    def __init__(self, known: KnownCourses, policy: Policies) -> None:
        self._known = known
        self._policy = policy
        self.until: float | None = None
        """When the wait ends at the latest (monotonic seconds); None: no change had to wait yet."""

    def read(self, entries: Iterable[Change | Rejection], now: Now) -> None:
        """These records were read."""
        if self.until is None and not self._known.is_loaded and any(map(self._needs_it, entries)):
            self.until = now.mono + INDEX_PATIENCE

    def is_awaited(self, now: Now) -> bool:
        """Whether bulk changes wait."""
        return self.until is not None and not self._known.is_loaded and now.mono < self.until

    def _needs_it(self, entry: Change | Rejection) -> bool:
        """Whether it depends on the index if this bulk change has to be sent."""
        if not isinstance(entry, Change) or not entry.bulk or entry.resend:
            return False
        return self._policy(entry.integration_id).unchanged.trust_for > 0
