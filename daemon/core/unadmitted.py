"""Records that were read and about which nothing is decided yet."""

from __future__ import annotations

from collections.abc import Sequence

from daemon.config import Policies
from daemon.core.model import Change, Rejection, headers_size


class Unadmitted:
    def __init__(self, policy: Policies) -> None:
        self._policy = policy
        self._entries: list[Change | Rejection] = []
        self._sizes: dict[str, list[int]] = {}
        """Changes and bytes of their bodies, by integration."""
        self.bytes = 0
        """Size of the records."""
        self.edits = 0
        """The number of changes that are not bulk."""

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entries: Sequence[Change | Rejection]) -> bool:
        """Add records in offset order. Returns whether the changes of an integration of them fill a batch."""
        is_full, size = False, 0
        for entry in entries:
            size += len(entry.value or b"") + len(entry.key or b"")
            if entry.headers:
                size += headers_size(entry.headers)
            if isinstance(entry, Change):
                self.edits += not entry.bulk
                sizes = self._sizes.setdefault(entry.integration_id, [0, 0])
                sizes[0] += 1
                sizes[1] += len(entry.body)
                limits = self._policy(entry.integration_id).batch
                is_full = is_full or sizes[0] >= limits.items_max or sizes[1] >= limits.bytes_max
        self._entries.extend(entries)
        self.bytes += size
        return is_full

    def take(self) -> list[Change | Rejection]:
        """All of them, in offset order. None is left."""
        taken = self._entries
        self._entries, self._sizes, self.bytes, self.edits = [], {}, 0, 0
        return taken
