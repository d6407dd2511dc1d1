"""The input of one partition: passes its records to the shard, pauses at a limit, and knows why reading cannot continue."""

from __future__ import annotations

from collections.abc import Sequence

from daemon.codec import decode_change
from daemon.codec.repeats import with_repeats
from daemon.core.model import Change, Rejection
from daemon.core.placement import Misplacement, misplaced
from daemon.core.rejection_limit import Stop
from daemon.core.shard import Shard
from daemon.log.port import InputFacts, Record, Records
from daemon.runtime import operator_messages
from daemon.runtime.failures import Failure, LostInput, StoppedInput
from daemon.runtime.ports import Ports
from daemon.telemetry.events import RecordsMisplaced
from daemon.telemetry.labels import DropReason

INTAKE_RECORDS_MAX = 10_000
"""Records that are read and not yet admitted. At this number the partition's input pauses. It bounds a transaction."""
INTAKE_BYTES_MAX = 16 * 1024 * 1024
"""Total size of these records, at which the input pauses too: a larger transaction could exceed the commit timeout."""
INTAKE_RESUME_SHARE = 0.5
"""Share of both limits below which the input resumes."""


PLACED_PER_READ_MAX = 16
"""Records of one read of which the partition is checked: at low rates all of them. Clients that disagree disagree about
most keys."""


class Intake:
    """Every record carries the token of the `begin` that started its delivery. `stop` invalidates the records that are
    still to be delivered.
    """

    def __init__(self, number: int, ports: Ports) -> None:
        self.token = 0
        self.paused = False
        """The input is paused because a limit is reached."""
        self.topic_partitions: int | None = None
        """Partitions of the topic when the shard was opened. None before the first shard."""
        self.last_record_ms: int | None = None
        """The log's timestamp of the last record that was delivered, in ms."""
        self.lost: LostInput | StoppedInput | None = None
        """Why the log cannot deliver further records."""
        self._number = number
        self._ports = ports
        self._next = 0
        self._end: int | None = None
        self._topic_id: str | None = None
        self._reported: set[Misplacement] = set()

    def opened(self, shard: Shard, facts: InputFacts) -> None:
        """A new shard has been opened, with these facts about the input. What is known about the input may refer to another
        topic, so it is discarded."""
        self._next, self._end = shard.next_read, None
        self._topic_id, self.topic_partitions = facts.topic_id, facts.partitions
        self._reported.clear()
        self.lost = None

    def is_of_another_topic(self, facts: InputFacts) -> bool:
        """Whether the topic was created again, or has another number of partitions, since the shard was opened."""
        return (facts.topic_id, facts.partitions) != (self._topic_id, self.topic_partitions)

    def dropped(self, shard: Shard | None, failure: Failure) -> None:
        """The shard was dropped. If it had stopped reading and was fenced, an operator probably runs `coursesyncd reject` or
        `skip`. The partition then stays blocked until the journal has the decision, so that it does not fence the command.
        """
        stop = None if shard is None else shard.rejection_limit.stop
        if stop is not None and self.lost is None and failure.reason is DropReason.FENCED:
            self.lost = StoppedInput(self._too_many_rejected(stop), stop.offset)

    def begin(self, shard: Shard) -> None:
        """Start delivery at the shard's next offset."""
        self.token += 1
        self.paused = False
        self._next = shard.next_read
        self._ports.log.begin(self._number, self._next, self.token)
        self.adjust(shard)  # the restored changes may already fill the backlog

    def stop(self) -> None:
        self.token += 1

    def take(self, shard: Shard, read: Records) -> int:
        """Pass the records to the shard, and note how far the input has been read. Returns how many records the shard has
        not taken, because it has stopped reading.
        """
        if read.records:
            self._decode(shard, read.records)
            self.last_record_ms = read.records[-1].timestamp
        self._next = read.next_offset
        if read.end_offset is not None:
            self.saw_end(read.end_offset)
        self.adjust(shard)
        return sum(record.offset >= shard.next_read for record in read.records)

    def _decode(self, shard: Shard, records: Sequence[Record]) -> None:
        now = self._ports.clock.now()
        bytes_max = self._ports.settings.batch.bytes_max
        topic = self._ports.settings.topics.changes
        entries = [
            with_repeats(
                decode_change(
                    record.offset,
                    record.key,
                    record.value,
                    record.headers,
                    consumed_at=now.wall,
                    item_bytes_max=bytes_max,
                ),
                topic,
                self._number,
            )
            for record in records
        ]
        shard.read(entries, records[-1].offset + 1, now)
        self._check_placement(entries[:PLACED_PER_READ_MAX], records)

    def _check_placement(self, entries: Sequence[Change | Rejection], records: Sequence[Record]) -> None:
        """Report changes that may be in another partition than the other changes of their course (C2, C8)."""
        keys = [
            (record.offset, record.key)
            for entry, record in zip(entries, records, strict=False)
            if isinstance(entry, Change)
        ]
        partitioner = self._ports.settings.input.partitioner
        assert self.topic_partitions is not None
        found = misplaced(keys, self._number, self.topic_partitions, partitioner)
        for reason in Misplacement:
            those = [each for each in found if each.reason is reason]
            if those:
                event = RecordsMisplaced(
                    self._number, len(those), those[0], partitioner, is_news=reason not in self._reported
                )
                self._reported.add(reason)
                self._ports.observer.notify(event)

    def stopped(self, shard: Shard) -> str | None:
        """Why reading cannot continue until an operator acts, although work in progress does. None if it can."""
        if self.lost is not None:
            return self.lost.sentence
        stop = shard.rejection_limit.stop
        return None if stop is None else self._too_many_rejected(stop)

    def _too_many_rejected(self, stop: Stop) -> str:
        return operator_messages.too_many_rejected(self._number, stop, self._ports.settings.topics)

    def adjust(self, shard: Shard) -> None:
        """Pause at a limit, resume well below it."""
        share = INTAKE_RESUME_SHARE if self.paused else 1.0
        full = (
            shard.rejection_limit.stop is not None
            or shard.intake >= INTAKE_RECORDS_MAX * share
            or shard.intake_bytes >= INTAKE_BYTES_MAX * share
            or shard.backlog_is_full(paused=self.paused)
        )
        if full and not self.paused:
            self.paused = True
            self._ports.log.pause(self._number)
        elif self.paused and not full:
            self.paused = False
            self._ports.log.resume(self._number)

    def saw_end(self, offset: int) -> None:
        """The input extends at least to this offset."""
        self._end = max(offset, self._end or 0)

    @property
    def next_offset(self) -> int:
        """Where reading continues."""
        return self._next

    @property
    def lag(self) -> int | None:
        """Number of offsets that are not read yet. None if it is not known."""
        return None if self._end is None else max(0, self._end - self._next)
