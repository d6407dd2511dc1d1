"""Limits of what a shard may hold back, and what happens at a limit.

The limits count *waiting courses*, per shard and per integration in it, and the *bodies* in memory: those of waiting
changes, and of batches that the API has not accepted yet. Sealing therefore frees no space by itself.

`backlog.on_full` decides what happens at a limit:

    pause   the input pauses at any limit, and continues when every count is at least a tenth below its limit
    reject  the input continues; a change whose course is not waiting already, and that does not fit, ends here:
            `REJECTED` with a dead letter

In both modes a newer change replaces the waiting change of its course. Changes that were accepted before (restored,
or waiting for another attempt) are admitted over the limits.
"""

from __future__ import annotations

from math import ceil
from typing import Final

from daemon import config
from daemon.core.model import Change, Error, Rejection, RejectReason

BACKLOG_FULL: Final = "COURSESYNC.BACKLOG_FULL"
RESUME_SHARE = 0.9
"""Share of each limit below which a paused input continues. The margin exists because each pause and each resumption
costs a command to the client.
"""
GROWTH_MAX = 2
"""With `reject`: the multiple of `backlog.bytes_max` to which the bodies may grow by replacements and new attempts,
which are never rejected. At this size the input pauses nevertheless, because memory is finite.
"""


class Backlog:
    """The counts, updated by `waiting` and `memory`. All operations are O(1)."""

    def __init__(self, limits: config.BacklogSettings) -> None:
        self._limits = limits
        self._resume_lane = ceil(RESUME_SHARE * limits.courses_max_per_integration)
        self.rejects = limits.on_full == "reject"
        self.courses = 0
        self.bodies = 0
        """Bytes."""
        self._at_limit = 0
        """Integrations that have reached the maximum number of waiting courses."""
        self._above_resume = 0
        """Integrations that by themselves would keep a paused input paused."""

    # --- updates ----------------------------------------------------------------------------------

    def joined(self, courses: int, body: int) -> None:
        """One more course waits, with a body of `body` bytes. Its integration now has `courses` waiting courses."""
        self.courses += 1
        self.bodies += body
        if courses == self._limits.courses_max_per_integration:
            self._at_limit += 1
        if courses == self._resume_lane:
            self._above_resume += 1

    def left(self, before: int, after: int, bodies: int) -> None:
        """The waiting courses of an integration went from `before` to `after`. The removed ones had `bodies` bytes of
        bodies.
        """
        self.courses -= before - after
        self.bodies -= bodies
        self._at_limit -= after < self._limits.courses_max_per_integration <= before
        self._above_resume -= after < self._resume_lane <= before

    def body_kept(self, body: bytes | None) -> None:
        """The body of a batch is now in memory."""
        self.bodies += len(body or b"")

    def body_dropped(self, body: bytes | None) -> None:
        self.bodies -= len(body or b"")

    def replaced(self, old: bytes, new: bytes) -> None:
        """A waiting change was replaced by another one."""
        self.bodies += len(new) - len(old)

    # --- queries ----------------------------------------------------------------------------------

    def must_pause(self, intake: int, intake_bytes: int, *, paused: bool) -> bool:
        """Whether the input has to pause or, if it is `paused`, has to stay paused. `intake` records of
        `intake_bytes` bytes were read and are not admitted yet; they count as if each of them had to wait.
        """
        limits, share = self._limits, RESUME_SHARE if paused else 1.0
        if self.rejects:
            return self.bodies >= limits.bytes_max * GROWTH_MAX * share
        lanes = self._above_resume if paused else self._at_limit
        return (
            lanes > 0
            or self.courses + intake >= limits.courses_max * share
            or self.bodies + intake_bytes >= limits.bytes_max * share
        )

    def lacks_room(self, courses: int, body: int) -> str | None:
        """Why one more course cannot wait in an integration that has `courses` waiting courses; None if it can."""
        limits = self._limits
        if courses >= limits.courses_max_per_integration:
            return (
                f"{courses:,} courses of this integration are already waiting in this partition "
                "(backlog.courses_max_per_integration)"
            )
        if self.courses >= limits.courses_max:
            return f"{self.courses:,} courses are already waiting in this partition (backlog.courses_max)"
        if self.bodies + body > limits.bytes_max:
            return (
                f"courses of {self.bodies:,} bytes are already waiting in this partition, and this one has {body:,} "
                "bytes (backlog.bytes_max)"
            )
        return None


def rejection_of(change: Change, why: str) -> Rejection:
    """The rejection of a change that does not fit into the backlog."""
    return Rejection(
        offset=change.offset,
        reason=RejectReason.BACKLOG,
        error=Error(BACKLOG_FULL, f"{why}; publish the change again later", "The backlog is full"),
        change_id=change.change_id,
        integration_id=change.integration_id,
        origin_id=change.origin_id,
        consumed_at=change.consumed_at,
        key=change.key,
        value=change.value,
        headers=change.headers,
        trace=change.trace,
    )
