"""The waiting changes of a shard: at most one per course, in lanes of one integration each.

Ready changes that are bulk have a queue of their own in each lane, and come after the others (R21).

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

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import NamedTuple

import msgspec

from daemon.core.ages import Ages
from daemon.core.backlog import Backlog
from daemon.core.journal import Attempt, Wait
from daemon.core.model import Item
from daemon.core.operation import Operation
from daemon.core.priority import Turns
from daemon.core.schedule import Schedule
from daemon.core.verdict import TaskVerdict, of_task

QUEUE_SLACK = 1000
"""Courses in the queue of a lane that are not ready any more, beyond as many as are ready."""

ITEM_OVERHEAD = 128
"""Bytes that an item adds to a batch record besides its body and ids: numbers and punctuation."""


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


def waits_for_customer(wait: Wait) -> bool:
    """Whether a change waits for its customer, according to its record in the journal."""
    error = None if wait.last is None else wait.last.error
    return error is not None and of_task(error.code) is TaskVerdict.PARK


class Held(msgspec.Struct, gc=False):
    """A waiting change."""

    operation: Operation
    item: Item
    body: bytes
    not_before: int | None = None
    """End of the back-off, wall clock, ms; set while in back-off, and journalled."""
    last: Attempt | None = None
    resend: bool = False
    """As in `Change`."""
    bulk: bool = False
    """It is bulk, and took the place of no change that was not (R21)."""
    trace_size: int = 0
    """Bytes that its trace context takes in a batch record (R7)."""
    durable: bool = False
    """Whether the journal holds it, as of the last commit or the commit in flight."""
    ready: bool = False
    ages: Ages | None = None
    """The ages that include it."""

    def count_in(self, ages: Ages | None) -> None:
        """Move its age to `ages`."""
        if self.ages is not None:
            self.ages.left(self.item.consumed_at)
        if ages is not None:
            ages.joined(self.item.consumed_at)
        self.ages = ages

    def size(self) -> int:
        """Bytes that it takes in a batch record (R7: its source and its trace context count as well)."""
        ids = len(self.item.origin_id) + len(self.item.change_id)
        return len(self.body) + ids + self.trace_size + ITEM_OVERHEAD


class ReadyQueue:
    """The changes of one lane that may be sealed and are bulk, or those that are not: first come, first served."""

    def __init__(self, held: Mapping[str, Held], *, bulk: bool) -> None:
        """`held`: all waiting changes of the lane, by course."""
        self.bulk = bulk
        self.count = 0
        self.bytes = 0
        """What they take in a batch record."""
        self._held = held
        self._courses: deque[str] = deque()
        """May contain courses that are not in this queue any more."""

    def get(self, origin_id: str) -> Held | None:
        """The change of this course, if it is in this queue."""
        held = self._held.get(origin_id)
        return held if held is not None and held.ready and held.bulk is self.bulk else None

    def append(self, held: Held) -> None:
        held.ready = True
        self.count += 1
        self.bytes += held.size()
        self._courses.append(held.item.origin_id)

    def replace(self, old: Held, new: Held) -> None:
        """The new change of the course takes over the place of the old one."""
        new.ready = True
        self.bytes += new.size() - old.size()

    def leave(self, held: Held) -> None:
        """The change is not among the waiting changes of the lane any more."""
        self.count -= 1
        self.bytes -= held.size()
        if len(self._courses) > 2 * self.count + QUEUE_SLACK:
            self._courses = deque(name for name in dict.fromkeys(self._courses) if self.get(name))

    def next_batch(self, items_max: int, bytes_max: int) -> list[Held]:
        """The next batch: at least one change, if there is any. The caller removes them from the lane. All of them have the
        same operation. Changes with another operation keep their place; up to `items_max` of them are skipped, so that a few
        do not make many small batches.
        """
        taken: list[Held] = []
        skipped: list[str] = []
        total = 0
        while self._courses and len(taken) < items_max and len(skipped) <= items_max:
            held = self.get(self._courses[0])
            if held is None:
                self._courses.popleft()
                continue
            size = held.size()
            if taken and held.operation is not taken[0].operation:
                skipped.append(self._courses.popleft())
                continue
            if taken and total + size > bytes_max:
                break
            if held.operation.items_max is not None:
                items_max = min(items_max, held.operation.items_max)
            self._courses.popleft()
            held.ready = False  # the course may be in the queue twice
            total += size
            taken.append(held)
        self._courses.extendleft(reversed(skipped))
        self.count -= len(taken)
        self.bytes -= total
        return taken


class Lane:
    """One integration in one shard."""

    def __init__(self, integration_id: str) -> None:
        self.integration_id = integration_id
        self.busy: dict[str, str] = {}
        """Course → what occupies it: a batch id or the id of a watched task."""
        self.held: dict[str, Held] = {}
        self.open_batches = 0
        self.open_bulk = 0
        """How many of them are bulk."""
        self.parked = False
        """The integration waits for its customer, according to the last answer about that."""
        self.paused = False
        """An operator has paused it (R19)."""
        self.normal = ReadyQueue(self.held, bulk=False)
        self.bulk = ReadyQueue(self.held, bulk=True)
        self.turns = Turns()
        """Of the two queues."""
        self.unexamined: list[str] = []
        """Courses whose change has become ready and has not been compared with what is known of the course (R16)."""

    @property
    def idle(self) -> bool:
        return not (self.held or self.busy or self.open_batches)

    @property
    def ready_count(self) -> int:
        return self.normal.count + self.bulk.count

    def _queue_of(self, held: Held) -> ReadyQueue:
        return self.bulk if held.bulk else self.normal

    def queue(self, origin_id: str) -> None:
        """The waiting change of this course may be sealed from now on."""
        held = self.held[origin_id]
        assert not held.ready
        assert origin_id not in self.busy
        self._queue_of(held).append(held)
        self.unexamined.append(origin_id)

    def put(self, origin_id: str, held: Held) -> Held | None:
        """Hold this change, which takes over the place of the replaced change in its queue. If it belongs into the other
        queue, the caller queues it. Returns the replaced change.
        """
        old = self.held.get(origin_id)
        self.held[origin_id] = held
        if old is not None:
            old.count_in(None)
            # The course keeps the stronger priority: whoever waits for the older change now waits for this one (R21).
            held.bulk = held.bulk and old.bulk
            if old.ready and old.bulk is held.bulk:
                self._queue_of(held).replace(old, held)
                self.unexamined.append(origin_id)
            elif old.ready:
                self._queue_of(old).leave(old)
        return old

    def ready(self, origin_id: str) -> Held | None:
        """The waiting change of this course, if it may be sealed."""
        held = self.held.get(origin_id)
        return None if held is None or not held.ready else held

    def remove(self, origin_id: str) -> Held:
        """Remove and return the waiting change of this course."""
        held = self.held.pop(origin_id)
        held.count_in(None)
        if held.ready:
            self._queue_of(held).leave(held)
        return held

    def take(self, queue: ReadyQueue, items_max: int, bytes_max: int) -> list[Held]:
        """Remove and return the next batch of this queue."""
        taken = queue.next_batch(items_max, bytes_max)
        for held in taken:
            del self.held[held.item.origin_id]
            if held.ages is not None:
                held.count_in(None)
        return taken


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


NOTHING_WAITS = Waits(0, None)


def combined(*waits: Waits) -> Waits:
    oldest = [each.oldest for each in waits if each.oldest is not None]
    return Waits(sum([each.changes for each in waits]), min(oldest, default=None))
