"""What a shard wants written, together: one step is one transaction (R2).

A `Draft` gathers what happens until the log is free for the next commit; `Draft.close` makes a `Step`
of it. The facts of a step are what the runtime acts on, and telemetry projects, once it is committed
(R3: nothing leaves before its record is).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import msgspec

from daemon.core import journal
from daemon.core.model import Correction, Item, Rejection, Result
from daemon.core.waiting import Waiting

STEP_BYTES_MAX = 16 * 1024 * 1024
"""About the size of a transaction at which nothing more is sealed into it, and its shard starts no more calls:
what comes next waits for the next step. A larger transaction might never be written within the time that a
commit may take, not even after the restore. What calls that are in flight bring, and the records that were read
(`runtime.partition` bounds both), comes on top.
"""
RECORD_BYTES = 1024
"""What a record takes at most, more or less, when its payload is counted apart."""


class Trigger(StrEnum):
    """What sealed a batch; a metric label."""

    LINGER = "linger"
    ITEMS = "items"
    BYTES = "bytes"


class Outcome(StrEnum):
    """How a task ended; a metric label."""

    COMPLETED = "completed"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    STALE = "stale"


class Batch(msgspec.Struct, gc=False):
    """A sealed bulk submission in memory. The body is dropped once the API has accepted it and read
    back from the journal, at `offset`, when a retry needs it.
    """

    id: str
    integration_id: str
    items: tuple[Item, ...]
    body: bytes | None
    digest: bytes
    api_floor: int
    sealed_at: int
    offset: int | None = None
    """Where its record lies in the journal; None until it is committed."""
    replays: int = 0
    """As in `journal.SealedBatch`."""
    fate_unknown: bool = False
    """A POST of it may have made a task that we know nothing of (R13)."""
    task_id: str | None = None
    accepted_at: int | None = None
    accepted_mono: float = 0.0
    """As `accepted_at`, by the monotonic clock of this process; of a restored one, as far as the wall clock tells."""
    created_at: int | None = None
    """API time, once a poll has told it."""
    polls: int = 0
    consumed_at: int = 0
    """When the oldest of its changes was consumed."""


class LateTask(msgspec.Struct, gc=False):
    """A task that was given up with `TIMED_OUT` and may still apply (R12)."""

    task_id: str
    record: journal.Late
    accepted_mono: float
    """As in `Batch`."""
    polls: int = 0


@dataclass(frozen=True, slots=True)
class BatchSealed:
    batch: Batch
    trigger: Trigger
    delay: float = 0.0
    """Seconds from sealing until it may be submitted, since its floor is ahead of the API's clock (R14)."""


@dataclass(frozen=True, slots=True)
class TaskAccepted:
    batch: Batch


@dataclass(frozen=True, slots=True)
class TaskEnded:
    batch: Batch
    outcome: Outcome
    completed_at: int | None


@dataclass(frozen=True, slots=True)
class TaskLost:
    """The API no longer knows the task: the same bytes are to be POSTed again."""

    batch: Batch


@dataclass(frozen=True, slots=True)
class LateWatched:
    late: LateTask


Fact = BatchSealed | TaskAccepted | TaskEnded | TaskLost | LateWatched


@dataclass(frozen=True, slots=True)
class Step:
    journal: list[tuple[bytes, bytes | None]]
    results: list[Result]
    corrections: list[Correction]
    rejections: list[Rejection]
    facts: list[Fact]
    next_offset: int
    consumed: int
    """Input records that this step's position moves past."""
    batches: list[tuple[int, Batch]]
    """Index into `journal` of each new batch record, so that its offset can be noted."""


@dataclass(slots=True)
class Draft:
    results: list[Result] = field(default_factory=list)
    corrections: list[Correction] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)
    consumed: int = 0
    wanted: bool = False
    """Something has to be committed, if only the position."""
    _values: dict[bytes, bytes | None] = field(default_factory=dict)
    _batches: dict[bytes, Batch] = field(default_factory=dict)
    _waits: dict[tuple[str, str], bool] = field(default_factory=dict)
    _payloads: int = 0

    @property
    def is_full(self) -> bool:
        """It will be a transaction of `STEP_BYTES_MAX`, or more. Waits of new changes do not count: most of them
        are sealed within the step, and then not written. A draft that causes no commit is never full: what it carries
        would keep the shard from the calls that bring the next one.
        """
        records = len(self.results) + len(self.corrections) + len(self._values)
        return self.wanted and self._payloads + RECORD_BYTES * records >= STEP_BYTES_MAX

    def put(self, key: bytes, value: journal.Value) -> None:
        encoded = self._values[key] = journal.encode_value(value)
        self._payloads += len(encoded)
        self.wanted = True

    def carry(self, key: bytes, value: journal.Value) -> None:
        """Write this with the next step, whatever causes that."""
        wanted = self.wanted
        self.put(key, value)
        self.wanted = wanted

    def comes_back(self, body: int) -> None:
        """A change with a body of so many bytes waits for another attempt."""
        self._payloads += body

    def erase(self, key: bytes) -> None:
        self._values[key] = None
        self.wanted = True

    def seal(self, batch: Batch, body: bytes, trigger: Trigger, delay: float) -> None:
        key = journal.batch_key(batch.id)
        record = journal.SealedBatch(
            batch.integration_id,
            batch.sealed_at,
            batch.api_floor,
            batch.items,
            msgspec.Raw(body),
            batch.replays,
        )
        self.put(key, record)
        self._batches[key] = batch
        self.facts.append(BatchSealed(batch, trigger, delay))

    def wait_changed(self, integration_id: str, origin_id: str, *, durable: bool) -> None:
        """The waiting change of this course is another one, or none, now. `durable`: the journal holds
        a record under its key. What is written is the state at the end of the step.
        """
        course = (integration_id, origin_id)
        self._waits[course] = durable or self._waits.get(course, False)
        self.wanted = True

    def close(self, waiting: Waiting, position: journal.Position) -> Step:
        """Make the step. What waits in it counts as durable from here: if its commit fails, the whole
        memory goes (R4).
        """
        self._write_waits(waiting)
        entries: list[tuple[bytes, bytes | None]] = [*self._values.items()]
        places = {key: index for index, (key, _) in enumerate(entries) if key in self._batches}
        entries.append((journal.POSITION_KEY, journal.encode_value(position)))
        return Step(
            journal=entries,
            results=self.results,
            corrections=self.corrections,
            rejections=self.rejections,
            facts=self.facts,
            next_offset=position.next_offset,
            consumed=self.consumed,
            batches=[(index, self._batches[key]) for key, index in places.items()],
        )

    def _write_waits(self, waiting: Waiting) -> None:
        for (integration_id, origin_id), durable in self._waits.items():
            lane = waiting.lanes.get(integration_id)
            held = None if lane is None else lane.held.get(origin_id)
            key = journal.wait_key(integration_id, origin_id)
            if lane is None or held is None:
                if durable:
                    self._values[key] = None
            elif not held.durable:
                record = journal.Wait(held.item, msgspec.Raw(held.body), held.not_before, held.last)
                self._values[key] = journal.encode_value(record)
                waiting.journalled(lane, held)
