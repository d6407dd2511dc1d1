"""The right to POST: our last commit began less than `fence.lease` ago (R6).

Kafka's fencing does not stop an HTTP request of a process that was paused. So a POST starts only while a recent commit
proves that no other owner can have fenced this one and begun to send.
"""

from __future__ import annotations

import asyncio


class Lease:
    """The lease of one partition. `seconds` is `fence.lease`. Times are read from the boot-time clock."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: float | None = None
        self._waiting: list[asyncio.Future[None]] = []

    def renew(self, began: float) -> None:
        """A commit that began at this time has succeeded."""
        self._since = began

    def end(self) -> None:
        """The shard has ended."""
        self._since = None

    def holds(self, now: float) -> bool:
        return self._since is not None and now - self._since < self._seconds

    async def changed(self) -> None:
        """Return when the lease may have changed: after a commit, a new shard, or the end of the shard."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        await future

    def wake(self) -> None:
        """Make all waiting callers of `changed` check again."""
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)
