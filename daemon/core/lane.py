"""A lane: the waiting changes of one integration in one shard, and which of them may be sealed.

A change that may be sealed is *ready*. Ready changes are first come, first served. Those that are bulk have a queue of
their own, and come after the others (R21). `core.waiting` says why the other changes wait.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import msgspec

from daemon.core.ages import Ages
from daemon.core.journal import Attempt
from daemon.core.model import Item
from daemon.core.operation import Operation
from daemon.core.priority import Turns

QUEUE_SLACK = 1000
"""Courses in the queue of a lane that are not ready any more, beyond as many as are ready."""

ITEM_OVERHEAD = 128
"""Bytes that an item adds to a batch record besides its body and ids: numbers and punctuation."""


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
