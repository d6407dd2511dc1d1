"""Notices what operators do about a partition that cannot continue: `coursesyncd skip`, `reject` and `topics grow` write to its
journal.
"""

from __future__ import annotations

from daemon.log.errors import LogError
from daemon.runtime.partition_state import PartitionLifecycle
from daemon.runtime.ports import Ports
from daemon.runtime.waker import Waker

LOOK_INTERVAL = 5.0
"""Seconds between two looks."""


class OperatorWatch:
    def __init__(self, number: int, ports: Ports, life: PartitionLifecycle, waker: Waker) -> None:
        self.look_at = 0.0
        """When the next look is due (monotonic), while the shard runs but cannot read its input."""
        self._number = number
        self._ports = ports
        self._life = life
        self._waker = waker
        self._journal_end: int | None = None
        """Before the partition was last opened. If it moves, another process has written."""

    async def begin(self) -> None:
        """The partition is about to be opened. Call it before `open_shard`, which fixes the end of the restore, so that no
        record is missed in between.

        Raises:
            LogError: the log does not answer.
        """
        self._journal_end = await self._ports.log.journal_end(self._number)
        self.look_at = 0.0

    def is_due(self, now: float) -> bool:
        """Whether a running shard has to look now. If so, the next look is due `LOOK_INTERVAL` later."""
        if now < self.look_at:
            return False
        self.look_at = now + LOOK_INTERVAL
        return True

    async def until_unblocked(self, *, by_journal: bool) -> None:
        """Wait until an operator has acted on a partition that is blocked. The wait ends when the process is restarted; with
        `by_journal`, also when a record is written to the journal; and when the partition was revoked and assigned again,
        because the block may have come from the outdated view of a replaced owner.
        """
        life = self._life
        while not (life.returned or life.stopping or (by_journal and await self._journal_moved())):
            await self._waker.wait(self._ports.clock.now().mono + LOOK_INTERVAL if by_journal else None)

    async def _journal_moved(self) -> bool:
        try:
            return (
                not self._life.revoked
                and await self._ports.log.journal_end(self._number) != self._journal_end
            )
        except LogError:
            return False  # the next look asks again
