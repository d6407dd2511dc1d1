"""Changes that repeat an older one, published again by an operator: older content never replaces newer content (R20).

A repeat names the change that it repeats, and how far its publisher has looked for newer changes of the course (`Repeats`). A newer
one may have been accepted behind that. So the shard remembers the courses of the changes that it accepted last. Each repeat has
one of three ends::

    a newer change of the course is known      SUPERSEDED by it
    none is, but the memory begins later       FAILED with `REPEAT_OUTDATED`: nobody can know
    none is, and the memory reaches back       it is accepted, like any other change

An accepted repeat is the newest change of its course. So a second repeat of the same change is SUPERSEDED by the first one.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left

from daemon.core.journal import Attempt
from daemon.core.memory import Memory
from daemon.core.model import Change, Error, Item, Now, Repeats, Status

REPEAT_OUTDATED = "COURSESYNC.REPEAT_OUTDATED"

REACH = 32_768
"""Accepted changes, at least, that are remembered; at most twice as many. Each takes 16 bytes, so a partition takes at most 1 MiB.
`coursesyncd republish` looks for newer changes before each few hundred records, so only other publishers can exceed it: 30,000
changes in the partition within a moment.
"""


class Accepted:
    """The courses of the changes that were accepted last.

    A course is remembered as a hash of 64 bits. A wrong hit, once in about 10¹⁵ repeats, ends a repeat as SUPERSEDED.
    """

    def __init__(self, next_offset: int) -> None:
        """`next_offset`: of the first record that this shard reads."""
        self._complete_from = next_offset
        self._offsets = array("q")
        self._courses = array("q")

    def add(self, integration_id: str, origin_id: str, offset: int) -> None:
        """Remember that this change was accepted. The offsets ascend."""
        self._offsets.append(offset)
        self._courses.append(hash((integration_id, origin_id)))
        if len(self._offsets) == 2 * REACH:
            self._complete_from = self._offsets[REACH - 1] + 1
            del self._offsets[:REACH]
            del self._courses[:REACH]

    def is_complete_from(self, offset: int) -> bool:
        """Whether all changes that were accepted from this offset on are remembered."""
        return self._complete_from <= offset

    def newest(self, integration_id: str, origin_id: str, start: int) -> int | None:
        """The offset of the newest change of this course, from offset `start` on, that is remembered."""
        course, newest = hash((integration_id, origin_id)), None
        index = bisect_left(self._offsets, start)
        try:
            while True:
                index = self._courses.index(course, index)
                newest = self._offsets[index]
                index += 1
        except ValueError:
            return newest


def end_repeat(memory: Memory, accepted: Accepted, change: Change, repeats: Repeats, now: Now) -> bool:
    """End this repeat if a newer change of its course was accepted, or if nobody can know. Returns whether it has ended."""
    newer = _newer(memory, accepted, change, repeats)
    if newer is None and accepted.is_complete_from(repeats.checked):
        return False
    item = Item(change.origin_id, change.offset, change.change_id, change.consumed_at, 0, 0, change.content)
    memory.traces.keep(change.offset, change.trace)
    if newer is not None:
        memory.end(change.operation, change.integration_id, item, Status.SUPERSEDED, now, superseded_by=newer)
    else:
        attempt = Attempt("", _outdated(repeats))
        memory.end(change.operation, change.integration_id, item, Status.FAILED, now, attempt=attempt)
    return True


def _newer(memory: Memory, accepted: Accepted, change: Change, repeats: Repeats) -> int | None:
    """The newest change of the course that is known to be newer than the repeated one: among those accepted since the publisher
    has looked, and among those that wait or are open.
    """
    integration_id, origin_id = change.integration_id, change.origin_id
    known = [accepted.newest(integration_id, origin_id, repeats.checked)]
    lane = memory.waiting.lanes.get(integration_id)
    if lane is not None:
        held, busy = lane.held.get(origin_id), lane.busy.get(origin_id)
        known.append(None if held is None else held.item.offset)
        if busy is not None:
            open_ = memory.batches.get(busy)
            items = memory.late[busy].items if open_ is None else open_.items
            known += [item.offset for item in items if item.origin_id == origin_id]
    return max((offset for offset in known if offset is not None and offset > repeats.offset), default=None)


def _outdated(repeats: Repeats) -> Error:
    return Error(
        REPEAT_OUTDATED,
        f"the change repeats offset {repeats.offset}, and newer changes of its course were looked for before offset "
        f"{repeats.checked}; what was accepted between then and now is not known, because the replica has restarted or the "
        "partition has received too many changes; run `coursesyncd republish` again",
        "Too late to be sent again",
    )
