"""What a shard writes together: one step is one transaction (R2).

A `Draft` collects what happens until the log is free for the next commit; `Draft.close` turns it into a `Step`. The
runtime acts on the facts of a step, and telemetry projects them, once the step is committed (R3: nothing is sent
before its record is committed).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import msgspec
from msgspec import UNSET

from daemon.core import journal
from daemon.core.course import CourseRecord
from daemon.core.model import Correction, Rejection, Result, Trace
from daemon.core.trace import Traces
from daemon.core.waiting import Waiting

STEP_BYTES_MAX = 16 * 1024 * 1024
"""Approximate size of a transaction at which nothing more is sealed into it, and its shard starts no more calls.
Further changes wait for the next step. A larger transaction might never be written within the time limit of a commit,
not even after a restore. The answers of calls in flight and the records that were read are added on top; `core.flow`
bounds the calls, and `runtime.intake` the records.
"""
RECORD_OVERHEAD_BYTES = 1024
"""Approximate maximum size of a record without its payload, which is counted separately."""


class Trigger(StrEnum):
    """What sealed a batch; a metric label."""

    LINGER = "linger"
    ITEMS = "items"
    BYTES = "bytes"


class TaskOutcome(StrEnum):
    """How a task ended; a metric label."""

    COMPLETED = "completed"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    STALE = "stale"


@dataclass(frozen=True, slots=True)
class BatchSealed:
    batch_id: str
    integration_id: str
    items: int
    body_bytes: int
    trigger: Trigger
    bulk: bool = False
    """As in `journal.SealedBatch`."""
    delay: float = 0.0
    """Seconds from sealing until it may be submitted, because its floor is ahead of the API's clock (R14)."""


@dataclass(frozen=True, slots=True)
class TaskAccepted:
    batch_id: str
    integration_id: str
    task_id: str
    is_shared: bool
    """Another open batch of the shard has a task with the same id, which is a fault of the API."""


@dataclass(frozen=True, slots=True)
class TaskEnded:
    outcome: TaskOutcome
    begun_at: int
    """When it was created (API time), or the best known approximation; ms."""
    completed_at: int | None
    """API time, ms; None if the API has reported no end."""
    accepted_at: int
    """When its id was received, ms."""
    seen_at: int
    """When the poll that ended it was answered, ms."""
    polls: int
    items: int
    batch_id: str


@dataclass(frozen=True, slots=True)
class TaskLost:
    """The API no longer knows the task: the same bytes must be POSTed again."""

    batch_id: str
    integration_id: str
    bulk: bool
    """As in `BatchSealed`."""


@dataclass(frozen=True, slots=True)
class LateWatched:
    batch_id: str


@dataclass(frozen=True, slots=True)
class BatchCleared:
    """No POST of an earlier owner can reach the API any more (R6): the restored batch may be sent."""

    batch_id: str
    integration_id: str


@dataclass(frozen=True, slots=True)
class TracedBatch:
    """A batch has its verdict, and publishers record the traces of changes in it."""

    batch_id: str
    integration_id: str
    operation: str
    items: int
    sealed_at: int
    accepted_at: int | None
    """None if the API has accepted no task."""
    task_id: str | None
    polls: int
    """Those of this process."""
    sampled: tuple[tuple[int, Trace], ...]
    """Changes whose traces are recorded, by offset: at most `LINKS_MAX`."""
    sampled_count: int
    """All of them."""


Fact = BatchSealed | TaskAccepted | TaskEnded | TaskLost | LateWatched | BatchCleared | TracedBatch


@dataclass(frozen=True, slots=True)
class Step:
    journal: list[tuple[bytes, bytes | None]]
    results: list[Result]
    corrections: list[Correction]
    rejections: list[Rejection]
    courses: list[CourseRecord]
    """At most one for each course (R15)."""
    facts: list[Fact]
    next_offset: int
    topic_id: str
    """Of the input topic."""
    consumed: int
    """The number of input records that this step's position moves past."""
    changes: Mapping[str, int]
    """How many of these records are valid changes, by event type."""
    batches: list[tuple[int, str]]
    """Index into `journal` of the record of each new batch, and the id of the batch, so that its offset can be
    recorded.
    """


class Draft:
    """What has been decided since the last step. Only its methods cause something to be written."""

    def __init__(self) -> None:
        self._results: list[Result] = []
        self._corrections: list[Correction] = []
        self._rejections: list[Rejection] = []
        self._courses: dict[tuple[str, str], CourseRecord] = {}
        self._facts: list[Fact] = []
        self._consumed = 0
        self._changes: Counter[str] = Counter()
        self._is_wanted = False
        self._values: dict[bytes, bytes | None] = {}
        self._batches: dict[bytes, str] = {}
        self._waits: dict[tuple[str, str], bool] = {}
        self._payloads = 0

    @property
    def is_wanted(self) -> bool:
        """Something has to be committed, even if it is only the position."""
        return self._is_wanted

    @property
    def is_full(self) -> bool:
        """The transaction has reached `STEP_BYTES_MAX`. Waits of new changes do not count, because most of them are
        sealed within the step and then not written. A draft that has not requested a commit is never full. If it were,
        the shard would start no calls, and their answers could not request the commit that empties the draft.
        """
        records = len(self._results) + len(self._corrections) + len(self._values) + len(self._courses)
        return self._is_wanted and self._payloads + RECORD_OVERHEAD_BYTES * records >= STEP_BYTES_MAX

    @property
    def ended(self) -> int:
        """The number of changes that have a result in it."""
        return len(self._results)

    def want(self) -> None:
        """Request a step, even if it is only for the position."""
        self._is_wanted = True

    def position_moved(self, consumed: int, changes: Mapping[str, int]) -> None:
        """The position moves past `consumed` records of the input. `changes`: the valid ones, by event type."""
        self._consumed += consumed
        self._changes.update(changes)
        self._is_wanted = True

    def end(self, result: Result) -> None:
        self._results.append(result)
        self._is_wanted = True

    def reject(self, rejection: Rejection, result: Result) -> None:
        self._rejections.append(rejection)
        self.end(result)

    def correct(self, correction: Correction) -> None:
        self._corrections.append(correction)
        self._is_wanted = True

    def record_course(self, record: CourseRecord) -> None:
        """What is known of a course has changed. The last record of a course in a step counts."""
        self._courses[record.integration_id, record.origin_id] = record
        self._is_wanted = True

    def report(self, fact: Fact) -> None:
        """Report a fact to the runtime once this is committed. It causes no step by itself, because the event is
        journalled.
        """
        self._facts.append(fact)

    def put(self, key: bytes, value: journal.Value) -> None:
        self.put_lazily(key, value)
        self._is_wanted = True

    def put_lazily(self, key: bytes, value: journal.Value) -> None:
        """Write this with the next step, whatever causes that step."""
        encoded = self._values[key] = journal.encode_value(value)
        self._payloads += len(encoded)

    def erase(self, key: bytes) -> None:
        self._values[key] = None
        self._is_wanted = True

    def retry_held(self, body: int) -> None:
        """A change with a body of `body` bytes waits for another attempt."""
        self._payloads += body

    def seal(self, batch_id: str, record: journal.SealedBatch, sealed: BatchSealed) -> None:
        key = journal.batch_key(batch_id)
        self.put(key, record)
        self._batches[key] = batch_id
        self.report(sealed)

    def wait_changed(self, integration_id: str, origin_id: str, *, durable: bool) -> None:
        """The waiting change of this course was replaced or removed. `durable`: the journal holds a record under its
        key. The state at the end of the step is what gets written.
        """
        course = (integration_id, origin_id)
        self._waits[course] = durable or self._waits.get(course, False)
        self._is_wanted = True

    def close(self, waiting: Waiting, position: journal.Position, traces: Traces) -> Step:
        """Build the step. From here on its waiting changes count as durable: if its commit fails, the whole memory is
        discarded (R4).
        """
        self._write_waits(waiting, traces)
        entries: list[tuple[bytes, bytes | None]] = [*self._values.items()]
        places = [
            (index, self._batches[key]) for index, (key, _) in enumerate(entries) if key in self._batches
        ]
        entries.append((journal.POSITION_KEY, journal.encode_value(position)))
        return Step(
            journal=entries,
            results=self._results,
            corrections=self._corrections,
            rejections=self._rejections,
            courses=[*self._courses.values()],
            facts=self._facts,
            next_offset=position.next_offset,
            topic_id=position.topic_id,
            consumed=self._consumed,
            changes=self._changes,
            batches=places,
        )

    def _write_waits(self, waiting: Waiting, traces: Traces) -> None:
        for (integration_id, origin_id), durable in self._waits.items():
            lane = waiting.lanes.get(integration_id)
            held = None if lane is None else lane.held.get(origin_id)
            key = journal.wait_key(integration_id, origin_id)
            if lane is None or held is None:
                if durable:
                    self._values[key] = None
            elif not held.durable:
                record = journal.Wait(
                    held.item,
                    msgspec.Raw(held.body),
                    held.not_before,
                    held.last,
                    journal.operation_name(held.operation),
                    held.resend or UNSET,
                    held.bulk or UNSET,
                    traces.get(held.item.offset) or UNSET,
                )
                self._values[key] = journal.encode_value(record)
                waiting.journalled(lane, held)
