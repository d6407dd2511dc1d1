"""The waiting changes of a shard: at most one per course, in lanes of one integration each (`core.lane`).

A course is *busy* while a submission of it is open. Until the submission ends, the newest change of the course waits
here, and a newer one replaces it. A waiting change is in exactly one of three conditions:

    busy      its course has an open submission
    back-off  it was submitted, failed for a transient reason, and its back-off is not over
    ready     it may be sealed; in the queue of its lane, first come, first served

In a lane whose integration is parked, all changes wait for the customer, whatever else holds them. In one that is paused, all
wait for the operator.

The ages of waiting changes are tracked by reason, so that the oldest is known without a search. A change counts if it
is journalled as waiting, or in back-off. Most changes are sealed in the step that admits them and never count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import NamedTuple

from daemon.core.ages import Ages
from daemon.core.backlog import Backlog
from daemon.core.journal import Wait
from daemon.core.lane import Held, Lane, ReadyQueue
from daemon.core.schedule import Schedule
from daemon.core.verdict import TaskVerdict, of_task


class WaitReason(StrEnum):
    """Why a change waits; a metric label."""

    COURSE_BUSY = "course_busy"  # an earlier submission of the same course is open
    WINDOW = "window"  # it waits for a place among the open submissions, or for the linger
    BACKOFF = "backoff"  # it waits for its next attempt
    REFUSED = "refused"  # its submission was refused or not answered, and is sent again later
    PARKED = "parked"  # its integration waits for its customer, whatever else holds the change
    PAUSED = "paused"  # an operator has paused its integration, whatever else holds the change


class Waits(NamedTuple):
    """The changes that wait for one reason."""

    changes: int
    oldest: int | None
    """When the oldest of them was consumed (ms, rounded down to the second); None if there is none."""


class Waiting:
    """All lanes of a shard, their back-offs, and the reasons of waiting."""

    def __init__(self, backlog: Backlog, is_paused: Callable[[str], bool]) -> None:
        """`is_paused` says of an integration whether an operator has paused it."""
        self._is_paused = is_paused
        self.lanes: dict[str, Lane] = {}
        self.backoff: Schedule[tuple[str, str]] = Schedule()
        self.ages = {reason: Ages() for reason in WaitReason}
        self.backlog = backlog

    def lane(self, integration_id: str) -> Lane:
        lane = self.lanes.get(integration_id)
        if lane is None:
            lane = self.lanes[integration_id] = Lane(integration_id)
            lane.paused = self._is_paused(integration_id)
        return lane

    def hold(self, lane: Lane, held: Held, due: float | None) -> Held | None:
        """Hold a change until its course is free and `due` has come (monotonic seconds; None means immediately).
        Returns the change that it replaces.
        """
        origin_id = held.item.origin_id
        old = lane.put(origin_id, held)
        if old is None:
            self.backlog.joined(len(lane.held), len(held.body))
        else:
            self.backlog.replaced(old.body, held.body)
            self.backoff.discard((lane.integration_id, origin_id))
        if due is not None:
            assert not held.ready
            self.backoff.push(due, (lane.integration_id, origin_id))
            self._count(lane, held)
        elif not held.ready and origin_id not in lane.busy:
            lane.queue(origin_id)
        return old

    def free(self, integration_id: str, origin_id: str) -> None:
        """The course is no longer occupied: its waiting change may be sealed."""
        lane = self.lanes.get(integration_id)
        if lane is None or origin_id in lane.busy:
            return
        held = lane.held.get(origin_id)
        if held is not None and not held.ready and (integration_id, origin_id) not in self.backoff:
            lane.queue(origin_id)
            if held.ages is not None:
                self._count(lane, held)

    def journalled(self, lane: Lane, held: Held) -> None:
        """From here on the journal records that this change waits."""
        held.durable = True
        if held.ages is None:
            self._count(lane, held)

    def park(self, lane: Lane, *, parked: bool) -> None:
        """Record whether the integration waits for its customer. If that changes, it costs one step for each of its
        waiting changes.
        """
        if lane.parked != parked:
            lane.parked = parked
            self._recount(lane)

    def obey(self) -> None:
        """What is paused may have changed. It costs one step for each waiting change of an integration of which it has."""
        for lane in self.lanes.values():
            paused = self._is_paused(lane.integration_id)
            if lane.paused != paused:
                lane.paused = paused
                self._recount(lane)

    def _recount(self, lane: Lane) -> None:
        for held in lane.held.values():
            if held.ages is not None:
                self._count(lane, held)

    def _count(self, lane: Lane, held: Held) -> None:
        """Count its age under its current reason of waiting."""
        if (of_lane := reason_of_lane(lane)) is not None:
            reason = of_lane
        elif held.ready:
            reason = WaitReason.WINDOW
        elif held.item.origin_id in lane.busy:
            reason = WaitReason.COURSE_BUSY
        else:
            reason = WaitReason.BACKOFF
        held.count_in(self.ages[reason])

    def release(self, now: float) -> bool:
        """Make the changes ready whose back-off is over. Returns whether there was any."""
        found = False
        while (popped := self.backoff.pop_due(now)) is not None:
            integration_id, origin_id = popped[1]
            lane = self.lanes[integration_id]
            held = lane.held[origin_id]
            held.not_before = None
            if origin_id not in lane.busy:
                lane.queue(origin_id)
                found = True
            self._count(lane, held)
        return found

    def take(self, lane: Lane, queue: ReadyQueue, items_max: int, bytes_max: int) -> list[Held]:
        """Remove and return the next batch of this queue of the lane (`ReadyQueue.next_batch`)."""
        before = len(lane.held)
        taken = lane.take(queue, items_max, bytes_max)
        self.backlog.left(before, len(lane.held), sum([len(held.body) for held in taken]))
        return taken

    def remove(self, lane: Lane, origin_id: str) -> Held:
        """Remove and return the waiting change of this course."""
        before = len(lane.held)
        held = lane.remove(origin_id)
        if held.not_before is not None:
            self.backoff.discard((lane.integration_id, origin_id))
        self.backlog.left(before, len(lane.held), len(held.body))
        return held

    def move_to_end(self, lane: Lane) -> None:
        """It has had its turn: the other lanes take precedence from now on."""
        self.lanes[lane.integration_id] = self.lanes.pop(lane.integration_id)

    def drop_if_idle(self, integration_id: str) -> None:
        """Remove a lane that is empty, so that the number of lanes does not grow with every integration ever seen."""
        lane = self.lanes.get(integration_id)
        if lane is not None and lane.idle:
            del self.lanes[integration_id]

    def ready_lanes(self) -> Iterator[Lane]:
        """Those with changes that may be sealed."""
        return (lane for lane in self.lanes.values() if lane.ready_count and not lane.paused)

    def by_reason(self) -> dict[WaitReason, Waits]:
        """Between steps, every waiting change has exactly one reason."""
        return {reason: Waits(len(ages), ages.oldest) for reason, ages in self.ages.items()}


def reason_of_lane(lane: Lane) -> WaitReason | None:
    """Why all changes of the lane wait; None if each has its own reason."""
    if lane.paused:
        return WaitReason.PAUSED
    return WaitReason.PARKED if lane.parked else None


def waits_for_customer(wait: Wait) -> bool:
    """Whether a change waits for its customer, according to its record in the journal."""
    error = None if wait.last is None else wait.last.error
    return error is not None and of_task(error.code) is TaskVerdict.PARK


NOTHING_WAITS = Waits(0, None)


def combined(*waits: Waits) -> Waits:
    oldest = [each.oldest for each in waits if each.oldest is not None]
    return Waits(sum([each.changes for each in waits]), min(oldest, default=None))
