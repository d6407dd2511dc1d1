"""Judges what becomes of changes that repeat an older one (R20), from the input, the transactions and the fencings alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import msgspec

from tests.sim.seen import Course, SeenData, SeenEvent

OUTDATED = "COURSESYNC.REPEAT_OUTDATED"

Headers = tuple[tuple[str, bytes | None], ...]


class RepeatsJudge:
    """What was accepted so far, in the order of the input, and what each owner of a partition can know of it."""

    def __init__(
        self,
        value_of: Callable[[int, int], bytes | None],
        headers_of: Callable[[int, int], Headers],
        accuse: Callable[[str, str], None],
    ) -> None:
        """`value_of` and `headers_of`: of the input record at this partition and offset."""
        self.reach = 0
        """So many accepted changes the daemon has to remember."""
        self._value_of = value_of
        self._headers_of = headers_of
        self._accuse = accuse
        self._accepted: defaultdict[tuple[int, Course], list[int]] = defaultdict(list)
        """Offsets, by partition and course."""
        self._all: defaultdict[int, list[int]] = defaultdict(list)
        """Offsets of the accepted changes of a partition."""
        self._owned_from: defaultdict[int, int] = defaultdict(int)
        """Where the owner of a partition has begun to read."""

    def fenced(self, partition: int, next_offset: int | None) -> None:
        """There is a new owner, which reads from this offset on."""
        self._owned_from[partition] = next_offset or 0

    def committed(self, partition: int, admitted: Sequence[int], events: Sequence[SeenEvent]) -> None:
        """The records at these offsets were admitted by a transaction with these events."""
        ended = {e.data.change.offset: e.data for e in events if e.type == "course.sync.resolved"}
        for offset in sorted(admitted):
            self._admitted(partition, offset, ended.get(offset))

    def _admitted(self, partition: int, offset: int, ended: SeenData | None) -> None:
        if ended is not None and ended.status == "REJECTED":
            return
        event = msgspec.json.decode(self._value_of(partition, offset) or b"{}")
        course = (event.get("integration_id", ""), event.get("origin_id", ""))
        named = dict(self._headers_of(partition, offset))
        repeated = named.get("coursesync-repeats")
        if repeated is not None:
            older, checked = int(repeated.split(b"/")[-1]), int(named["coursesync-checked"] or b"")
            if not self._judge(partition, offset, course, older, checked, ended):
                return
        self._accepted[partition, course].append(offset)
        self._all[partition].append(offset)

    def _judge(
        self, partition: int, offset: int, course: Course, older: int, checked: int, ended: SeenData | None
    ) -> bool:
        """Returns whether the repeat was accepted."""
        what = f"{partition}/{offset}, which repeats {older} and was looked up to {checked},"
        newer = [at for at in self._accepted[partition, course] if at > older]
        between = sum(at >= checked for at in self._all[partition])
        began = self._owned_from[partition]
        code = None if ended is None or ended.error is None else ended.error.code
        if code == OUTDATED:
            if began <= checked and between <= self.reach:
                self._accuse(
                    "untrue_repeats",
                    f"{what} ends {OUTDATED}, but its owner reads from {began} on, and {between} were accepted since (R20)",
                )
            return False
        replaced_by = None if ended is None or ended.superseded_by is None else ended.superseded_by.offset
        if ended is not None and ended.status == "SUPERSEDED" and (replaced_by or 0) < offset:
            if replaced_by not in newer:
                self._accuse(
                    "untrue_repeats", f"{what} ends SUPERSEDED by {replaced_by}, not by {newer} (R20)"
                )
            return False
        if newer:
            self._accuse("old_over_new", f"{what} was accepted, although {newer} were accepted before (R20)")
        elif began > checked or between > 2 * self.reach:
            self._accuse(
                "old_over_new",
                f"{what} was accepted, although its owner reads from {began} on, and {between} were accepted since (R20)",
            )
        return True
