"""The input of one partition: passes its records to the shard, and pauses at a limit."""

from __future__ import annotations

from collections.abc import Sequence

from daemon.codec import decode_change
from daemon.core.shard import Shard
from daemon.log.port import Record, Records
from daemon.runtime.ports import Ports

INTAKE_RECORDS_MAX = 10_000
"""Records that are read and not yet admitted. At this number the partition's input pauses. It bounds a transaction."""
INTAKE_BYTES_MAX = 16 * 1024 * 1024
"""Total size of these records, at which the input pauses too: a larger transaction could exceed the commit timeout."""
INTAKE_RESUME_SHARE = 0.5
"""Share of both limits below which the input resumes."""


class Intake:
    """Every record carries the token of the `begin` that started its delivery. `stop` invalidates the records that are
    still to be delivered.
    """

    def __init__(self, number: int, ports: Ports) -> None:
        self.token = 0
        self.paused = False
        """The input is paused because a limit is reached."""
        self.last_record_ms: int | None = None
        """The log's timestamp of the last record that was delivered, in ms."""
        self._number = number
        self._ports = ports
        self._next = 0
        self._end: int | None = None

    def opened(self, shard: Shard) -> None:
        """A new shard has been opened. What is known about the input may refer to another topic, so it is discarded."""
        self._next, self._end = shard.next_read, None

    def begin(self, shard: Shard) -> None:
        """Start delivery at the shard's next offset."""
        self.token += 1
        self.paused = False
        self._next = shard.next_read
        self._ports.log.begin(self._number, self._next, self.token)
        self.adjust(shard)  # the restored changes may already fill the backlog

    def stop(self) -> None:
        self.token += 1

    def take(self, shard: Shard, read: Records) -> None:
        """Pass the records to the shard, and note how far the input has been read."""
        if read.records:
            self._decode(shard, read.records)
            self.last_record_ms = read.records[-1].timestamp
        self._next = read.next_offset
        if read.end_offset is not None:
            self.saw_end(read.end_offset)
        self.adjust(shard)

    def _decode(self, shard: Shard, records: Sequence[Record]) -> None:
        now = self._ports.clock.now()
        bytes_max = self._ports.settings.batch.bytes_max
        entries = [
            decode_change(
                record.offset,
                record.key,
                record.value,
                record.headers,
                consumed_at=now.wall,
                item_bytes_max=bytes_max,
            )
            for record in records
        ]
        shard.read(entries, records[-1].offset + 1, now)

    def adjust(self, shard: Shard) -> None:
        """Pause at a limit, resume well below it."""
        share = INTAKE_RESUME_SHARE if self.paused else 1.0
        full = (
            shard.intake >= INTAKE_RECORDS_MAX * share
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
