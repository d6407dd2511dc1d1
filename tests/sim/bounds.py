"""C6, the log's side: windows, the backlog at its limits, and the size of a record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from daemon.config import Settings
from daemon.log.port import Message
from tests.sim.journal_view import JournalView, WaitRecord
from tests.sim.policies import InForce
from tests.sim.seen import Course, Sealed, SeenEvent, Who

BACKLOG_FULL = "COURSESYNC.BACKLOG_FULL"
SOURCE = "coursesync-source"
MUCH = 1_000_000
"""Bytes that no history has waiting. How many wait in the middle of a step can not be seen from its records."""
BATCH_OVERHEAD_MAX = 300
"""Bytes of a batch record beside its items: names of its fields, times, the body's frame."""


class Bounds:
    """`accuse` is called with the kind of the violation and a sentence."""

    def __init__(self, settings: Settings, in_force: InForce, accuse: Callable[[str, str], None]) -> None:
        self._settings = settings
        self._in_force = in_force
        self._accuse = accuse
        self._full: set[tuple[Who, int]] = set()
        """Partitions whose backlog is full, as the process that owns them has been told by its last commit."""

    def fenced(self, who: Who, partition: int) -> None:
        """This process has become the owner of the partition, and knows nothing of it yet."""
        self._full.discard((who, partition))

    def commit_begins(self, who: Who, partition: int) -> None:
        self._full.discard((who, partition))

    def commit_returns(
        self, who: Who, partition: int, waits: Mapping[Course, WaitRecord], *, owns: bool
    ) -> None:
        """This process knows now that its commit was written."""
        limits = self._settings.backlog
        full = (
            len(waits) >= limits.courses_max
            or max(_by_integration(waits).values(), default=0) >= limits.courses_max_per_integration
            or sum(wait.size for wait in waits.values()) >= limits.bytes_max
        )
        if full and limits.on_full == "pause" and owns:
            self._full.add((who, partition))

    def delivered(self, who: Who, partition: int) -> None:
        """The log has handed out records of the input. C6: at a full backlog the input pauses."""
        if (who, partition) in self._full:
            self._accuse("unbounded", f"{who[0]} reads on in partition {partition}, whose backlog is full")

    def judge_window(
        self, who: Who, partition: int, journal: JournalView, opened: list[Sealed], closed: list[Sealed]
    ) -> None:
        """C6. Splitting a batch may exceed the window, and so is not judged. What is sealed again in another body may be as large
        as it ever was allowed to be.
        """
        split = {sealed.record.integration_id for sealed in closed}
        for integration_id in {s.record.integration_id for s in opened} - split:
            most = max(self._in_force.values(who, integration_id, "window.batches_max"))
            count = sum(batch.integration_id == integration_id for batch in journal.batches.values())
            if count > most:
                self._accuse(
                    "unbounded",
                    f"{count} batches of {integration_id} are open in partition {partition}: the window is {most}",
                )
        places = self._settings.window.batches_max_per_partition
        taken = len(journal.batches) + len(journal.late)
        if opened and not closed and taken > places:
            self._accuse("unbounded", f"{taken} of {places} places are taken in partition {partition}")
        for sealed in opened:
            record = sealed.record
            items_max, bytes_max = (
                max(self._allowed(who, record.integration_id, setting, again=record.integration_id in split))
                for setting in ("batch.items_max", "batch.bytes_max")
            )
            if len(record.offsets) > items_max:
                self._accuse("unbounded", f"batch {record.batch_id} has {len(record.offsets)} items")
            limit = bytes_max + BATCH_OVERHEAD_MAX
            if len(record.offsets) > 1 and record.size > limit:
                self._accuse(
                    "unbounded", f"the record of batch {record.batch_id} has {record.size} bytes (R7)"
                )

    def _allowed(self, who: Who, integration_id: str, setting: str, *, again: bool) -> list[int]:
        if again:
            return [value for (value,) in self._in_force.ever(integration_id, setting)]
        return self._in_force.values(who, integration_id, setting)

    def judge_room(
        self,
        partition: int,
        waited: dict[Course, WaitRecord],
        journal: JournalView,
        opened: list[Sealed],
        closed: list[Sealed],
        events: list[SeenEvent],
    ) -> None:
        """C6, at a full backlog: who is rejected, and who is taken in. In which order things happened
        within a step nobody can see from here; what waited at any moment of it is all that it leaves, in wait
        records, in batches and in results of changes that were not sent.
        """
        limits, waits = self._settings.backlog, journal.waits
        sealed = {(each.record.integration_id, course) for each in opened for course in each.record.courses}
        unsent = {
            (event.data.integration_id or "", event.data.origin_id or "")
            for event in events
            if event.data.batch_id is None and event.data.status not in ("REJECTED", "SUPERSEDED")
        }
        ever = _by_integration([*waits, *((sealed | unsent) - waits.keys())])
        for event in events:
            data = event.data
            if data.error is None or data.error.code != BACKLOG_FULL:
                continue
            place = f"change {partition}/{data.change.offset}"
            course = (data.integration_id or "", data.origin_id or "")
            wait = waits.get(course)
            if wait and wait.offset < data.change.offset and (course in waited or not wait.seal_count):
                self._accuse("unbounded", f"{place} was rejected, and one of its course waits (C6)")
            room = ever.total() < limits.courses_max
            room = room and ever[course[0]] < limits.courses_max_per_integration
            if room and limits.bytes_max > MUCH:
                self._accuse("unbounded", f"{place} was rejected, and there was room")
        if limits.on_full != "reject":
            return
        # What came back from a batch waits over the limits, and a newer one may have taken its place at once.
        returned = {(each.record.integration_id, course) for each in closed for course in each.record.courses}
        waited_before = waited.keys() | returned
        fresh = {
            course for course, wait in waits.items() if course not in waited_before and not wait.seal_count
        }
        stayed = _by_integration([course for course in waits if course in waited or course in fresh])
        for integration_id, _ in fresh:
            most = limits.courses_max_per_integration
            if stayed[integration_id] > most or stayed.total() > limits.courses_max:
                self._accuse(
                    "unbounded", f"a course of {integration_id} was taken in, and {stayed.total()} wait"
                )

    def judge_dead_letters(self, dead_letters: Sequence[Message], events: list[SeenEvent]) -> None:
        sources = sorted(
            int((dict(each.headers)[SOURCE] or b"").rpartition(b"/")[2]) for each in dead_letters
        )
        rejected = sorted(e.data.change.offset for e in events if e.data.status == "REJECTED")
        if sources != rejected:
            self._accuse("torn_steps", f"dead letters of {sources}, and {rejected} are rejected (R2)")
        for letter in dead_letters:
            size = len(letter.key or b"") + len(letter.value or b"")
            if size > 1024 * 1024:
                self._accuse("unbounded", f"a dead letter has {size} bytes, a topic takes 1 MiB (R7)")


def _by_integration(courses: Iterable[Course]) -> Counter[str]:
    return Counter(integration_id for integration_id, _ in courses)
