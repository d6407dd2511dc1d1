"""Judges who is sealed and sent first (R21): what is bulk comes after what is not, never with it, and is never starved.

It knows the priority of a change from its input record. A course keeps the stronger one: a bulk change that supersedes a
waiting edit counts as an edit from then on. After a failure it cannot be seen whether the newer change took the place of the
failed one or came later, so then both are right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import msgspec

from daemon.config import Settings
from tests.sim.journal_view import JournalView, WaitRecord
from tests.sim.seen import Course, Sealed, SeenEvent

IN_A_ROW_MAX = 7
"""Batches that are not bulk, before one that is."""
PASSED_MAX = 2
"""Bulk batches that are sent while another one waits: in their turn, before it and before those in front of it."""
MOMENT = 0.05
"""Seconds. Requests that were chosen before a batch was written leave within it."""

_Lane = tuple[int, str]
"""Partition and integration."""


class Urgency:
    """`accuse` is called with the kind of the violation and a sentence."""

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], float],
        value_of: Callable[[int, int], bytes | None],
        accuse: Callable[[str, str], None],
    ) -> None:
        """`value_of` returns the value of an input record by partition and offset; None if it is gone."""
        self._settings = settings
        self._clock = clock
        self._value_of = value_of
        self._accuse = accuse
        self._stronger: dict[tuple[int, int], bool | None] = {}
        """Bulk changes that count as edits (True), or may (None), by partition and offset."""
        self._edits: Counter[_Lane] = Counter()
        """Batches since the last bulk one, in the memory of one owner."""
        self._starved: Counter[_Lane] = Counter()
        """Batches that preceded bulk changes that could have been sealed."""
        self._unreturned: dict[int, list[Sealed]] = {}
        self._unsent: dict[str, tuple[Sealed, float]] = {}
        """Batches that are not bulk and were never sent, and from when on nothing delays them."""
        self._passed: Counter[str] = Counter()
        self.judges_sending = False
        """Nothing delays single batches in this history."""

    def fenced(self, partition: int) -> None:
        """A new owner remembers no turns."""
        for counts in (self._edits, self._starved):
            for lane in [lane for lane in counts if lane[0] == partition]:
                del counts[lane]
        self._unreturned.pop(partition, None)
        self._unsent = {id_: each for id_, each in self._unsent.items() if each[0].partition != partition}

    # --- sealing ----------------------------------------------------------------------------------

    def committed(
        self,
        partition: int,
        still: Mapping[Course, WaitRecord],
        was_open: Sequence[Sealed],
        opened: Sequence[Sealed],
        closed: Sequence[Sealed],
        journal: JournalView,
        events: Sequence[SeenEvent],
    ) -> None:
        """`still`: what waited before and after this transaction, with a course that was free before and after; `was_open`,
        `opened`, `closed`: the batches before it, and those that it opens and closes.
        """
        self._inherit(partition, opened, journal, events)
        seen_before = {offset for sealed in closed for offset in sealed.record.offsets}
        ready: dict[_Lane, list[bool]] = {}
        for (integration_id, _), wait in still.items():
            urgent = self._is_urgent(partition, wait.offset)
            if urgent is not None and not wait.backs_off and not self._lacks_id(partition, wait.offset):
                ready.setdefault((partition, integration_id), []).append(urgent)
        chosen = [each for each in opened if seen_before.isdisjoint(each.record.offsets)]
        for sealed in opened:
            self._judge_mixed(sealed)
        bulk_open = Counter(
            each.record.integration_id for each in was_open if self._kind(each) is not True and each.is_open
        )
        self._judge_places(partition, chosen, closed, journal)
        for sealed in chosen:
            lane = (partition, sealed.record.integration_id)
            waits, is_urgent = ready.get(lane, []), self._kind(sealed)
            if is_urgent is False and True in waits and self._edits[lane] < IN_A_ROW_MAX:
                self._accuse(
                    "overtaken",
                    f"bulk batch {sealed.record.batch_id} was sealed while an edit was ready (R21)",
                )
            self._edits[lane] = 0 if is_urgent is False else self._edits[lane] + 1
            if is_urgent is not True or False not in waits or not self._has_place(bulk_open[lane[1]]):
                self._starved[lane] = 0
            else:
                self._starved[lane] += 1
                if self._starved[lane] > IN_A_ROW_MAX:
                    self._accuse(
                        "starved",
                        f"batch {sealed.record.batch_id} is number {self._starved[lane]} that was sealed while a bulk change "
                        "was ready (R21)",
                    )
        self._unreturned.setdefault(partition, []).extend(each for each in opened if self._kind(each) is True)

    @property
    def _bulk_places(self) -> int:
        """A quarter of the window, and at least one place, is not for bulk; except that bulk has one."""
        places = self._settings.window.batches_max
        return max(1, places - max(1, places // 4))

    def _has_place(self, open_bulk: int) -> bool:
        """Whether a bulk batch had a place, with so many open. Where the places of the shard are few, nobody can tell."""
        return open_bulk < self._bulk_places and self._settings.window.batches_max_per_partition >= 10_000

    def _judge_places(
        self, partition: int, chosen: Sequence[Sealed], closed: Sequence[Sealed], journal: JournalView
    ) -> None:
        """Splitting a batch may take more places, and so is not judged."""
        changed = {each.record.integration_id for each in closed}
        bulk = {each.record.integration_id for each in chosen if self._kind(each) is False} - changed
        for integration_id in bulk:
            kinds = [
                {self._is_urgent(partition, offset) for offset in batch.offsets}
                for batch in journal.batches.values()
                if batch.integration_id == integration_id
            ]
            if kinds.count({False}) > self._bulk_places:
                self._accuse(
                    "overtaken",
                    f"{kinds.count({False})} bulk batches of {integration_id} are open, which leaves edits no place (R21)",
                )

    def _judge_mixed(self, sealed: Sealed) -> None:
        kinds = {self._is_urgent(sealed.partition, offset) for offset in sealed.record.offsets}
        if {True, False} <= kinds:
            self._accuse("overtaken", f"batch {sealed.record.batch_id} has edits and bulk changes (R21)")

    def _kind(self, sealed: Sealed) -> bool | None:
        """Whether it is a batch of edits; None: it may be."""
        kinds = {self._is_urgent(sealed.partition, offset) for offset in sealed.record.offsets}
        return True if True in kinds else None if None in kinds else False

    def _is_urgent(self, partition: int, offset: int) -> bool | None:
        value = self._value_of(partition, offset)
        if value is None:
            return None
        is_bulk = msgspec.json.decode(value).get("priority") == "bulk"
        return not is_bulk or self._stronger.get((partition, offset), False)

    def _lacks_id(self, partition: int, offset: int) -> bool:
        """It may wait for the id of its course (R18)."""
        change = msgspec.json.decode(self._value_of(partition, offset) or b"{}")
        return bool(change.get("type") == "course.deactivated" and change.get("course_id") is None)

    def _inherit(
        self,
        partition: int,
        opened: Sequence[Sealed],
        journal: JournalView,
        events: Sequence[SeenEvent],
    ) -> None:
        """Who takes the place of a change that waited, takes its priority if that is the stronger one."""
        ended = [event.data for event in events if event.type == "course.sync.resolved"]
        present: dict[Course, set[int]] = {}
        for course, wait in journal.waits.items():
            present.setdefault(course, set()).add(wait.offset)
        for sealed in opened:
            record = sealed.record
            for origin_id, offset in zip(record.courses, record.offsets, strict=False):
                present.setdefault((record.integration_id, origin_id), set()).add(offset)
        for data in ended:
            present.setdefault((data.integration_id or "", data.origin_id or ""), set()).add(
                data.change.offset
            )
        for data in sorted(ended, key=lambda data: data.change.offset):
            offset = data.change.offset
            if data.status == "SUPERSEDED" and data.superseded_by is not None:
                urgent = self._is_urgent(partition, offset)
                if urgent is not False:
                    self._stronger[partition, data.superseded_by.offset] = urgent
            elif data.status == "FAILED":
                for newer in present[data.integration_id or "", data.origin_id or ""]:
                    if newer > offset:
                        self._stronger.setdefault((partition, newer), None)

    # --- sending ----------------------------------------------------------------------------------

    def commit_returns(self, partition: int) -> None:
        """The owner of the partition knows now that its commit was written."""
        now = self._clock()
        for sealed in self._unreturned.pop(partition, ()):
            self._unsent[sealed.record.batch_id] = (sealed, now + self._floor_wait_max)

    @property
    def _floor_wait_max(self) -> float:
        """Seconds for which a batch may wait until the API's clock has passed its floor (R14), where no clock is wrong. What
        the daemon knows of that clock is behind by the part of a second that `Date` does not tell, and by the time for which
        the answer was on its way.
        """
        return 1 + self._settings.http.deadline

    def posted(self, sealed: Sealed) -> None:
        """This batch is sent now, perhaps again."""
        self._unsent.pop(sealed.record.batch_id, None)
        if not self.judges_sending or sealed.posts or self._kind(sealed) is not False:
            return
        now = self._clock()
        for batch_id, (other, since) in list(self._unsent.items()):
            if not other.is_open:
                del self._unsent[batch_id]
            elif (
                other.record.integration_id == sealed.record.integration_id
                and other.ownership == sealed.ownership
                and now - since > MOMENT
            ):
                self._passed[batch_id] += 1
                if self._passed[batch_id] > PASSED_MAX:
                    self._accuse(
                        "overtaken",
                        f"bulk batch {sealed.record.batch_id} is sent before batch {batch_id}, and was not the first (R21)",
                    )
