"""How much a shard may hold back, and what happens when that much waits.

Counted are *waiting courses*, of the shard and of each integration in it, and the *bodies* in memory: those
of waiting changes, and of batches that the API has not accepted yet, so that sealing makes no room by itself.

``backlog.on_full`` decides what a limit means:

    pause   the input pauses at any of the limits, and goes on when all of them are undershot by a tenth
    reject  the input goes on; a change whose course does not wait already, and for which there is no room,
            ends here: `REJECTED` with a dead letter

Whatever the mode, a newer change takes the place of one that waits; and what was committed to earlier
(restored, or coming back for another attempt) is taken in over the limits.
"""

from __future__ import annotations

from math import ceil
from typing import Final

from daemon import config
from daemon.core.model import Change, Error, Rejection, RejectReason

BACKLOG_FULL: Final = "COURSESYNC.BACKLOG_FULL"
RESUME_SHARE = 0.9
"""Of each limit, below which a paused input goes on: a pause and its end cost a command to the client each."""
GROWTH_MAX = 2
"""With `reject`: so many times `backlog.bytes_max` the bodies may grow by replacing and by new attempts, which
are never rejected. There the input pauses all the same: memory has an end.
"""


class Backlog:
    """The figures, kept by those who hold back and let go (`waiting`, `memory`). All in O(1)."""

    def __init__(self, limits: config.BacklogSettings) -> None:
        self._limits = limits
        self._resume_lane = ceil(RESUME_SHARE * limits.courses_max_per_integration)
        self.rejects = limits.on_full == "reject"
        self.courses = 0
        self.bodies = 0
        """Bytes."""
        self._at_limit = 0
        """Integrations that have as many waiting courses as they may, or more."""
        self._above_resume = 0
        """Integrations that alone would keep a paused input from going on."""

    # --- keeping count ----------------------------------------------------------------------------

    def joined(self, courses: int, body: int) -> None:
        """One more course waits, with a body of so many bytes; with it `courses` of its integration do."""
        self.courses += 1
        self.bodies += body
        if courses == self._limits.courses_max_per_integration:
            self._at_limit += 1
        if courses == self._resume_lane:
            self._above_resume += 1

    def left(self, before: int, after: int, bodies: int) -> None:
        """`before` courses of an integration waited, `after` still do; the others' bodies had so many bytes."""
        self.courses -= before - after
        self.bodies -= bodies
        self._at_limit -= after < self._limits.courses_max_per_integration <= before
        self._above_resume -= after < self._resume_lane <= before

    def body_kept(self, body: bytes | None) -> None:
        """The body of a batch is in memory from now on."""
        self.bodies += len(body or b"")

    def body_dropped(self, body: bytes | None) -> None:
        self.bodies -= len(body or b"")

    def replaced(self, old: bytes, new: bytes) -> None:
        """A change waits in place of another one."""
        self.bodies += len(new) - len(old)

    # --- asking -----------------------------------------------------------------------------------

    def must_pause(self, intake: int, intake_bytes: int, *, paused: bool) -> bool:
        """Whether the input has to pause; when it is `paused`, whether it has to stay so. `intake` records of
        so many bytes were read and are not admitted yet: they count as if each of them had to wait.
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
        """Why one more course can not wait, in an integration of which `courses` wait; None when it can."""
        limits = self._limits
        if courses >= limits.courses_max_per_integration:
            return (
                f"{courses:,} courses of this integration wait in this partition already "
                "(backlog.courses_max_per_integration)"
            )
        if self.courses >= limits.courses_max:
            return f"{self.courses:,} courses wait in this partition already (backlog.courses_max)"
        if self.bodies + body > limits.bytes_max:
            return (
                f"courses of {self.bodies:,} bytes wait in this partition already, and this one has {body:,} "
                "(backlog.bytes_max)"
            )
        return None


def rejection_of(change: Change, why: str) -> Rejection:
    """The end of a change for which there is no room."""
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
    )
