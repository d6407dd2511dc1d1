"""The POSTs of one shard that may still reach the API."""

from __future__ import annotations


class Posts:
    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def started(self, batch_id: str) -> None:
        self._until[batch_id] = float("inf")

    def answered(self, batch_id: str) -> None:
        """The POST has ended."""
        self._until.pop(batch_id, None)

    def unanswered(self, batch_id: str, until: float) -> None:
        """It was given up, and may reach the API until this time (monotonic)."""
        self._until[batch_id] = until

    def in_flight(self, now: float) -> list[str]:
        """The batches whose POST may still reach the API."""
        self._until = {batch_id: until for batch_id, until in self._until.items() if until > now}
        return list(self._until)
