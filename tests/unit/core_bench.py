"""One shard with a journal and a result topic of its own, driven by hand.

`Bench` is what stands around a shard in production, less everything that takes time or fails: it commits
its steps, keeps what they wrote, reads payloads back from where the shard believes them to be, and makes a
new shard from the journal as a restart does. Each thing that happens is one call, so that a test reads as
the interleaving that it is about.
"""

import dataclasses
import random
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET

from daemon.config import Policies, PolicyTable, Settings
from daemon.core import deactivate, journal
from daemon.core.answers import (
    Accepted,
    ItemOutcome,
    NoAnswer,
    NoAnswerReason,
    PollAnswer,
    Refused,
    SubmitAnswer,
    TaskCompleted,
    TaskFailed,
    TaskPending,
)
from daemon.core.batch import Batch, LateTask
from daemon.core.control import Decision, nothing_decided
from daemon.core.course import CourseRecord, course_key
from daemon.core.deactivate import DEACTIVATE
from daemon.core.journal_fold import Fold
from daemon.core.judge import Judge, PollRuling
from daemon.core.lane import Held
from daemon.core.model import Change, Correction, Error, Now, Rejection, RejectReason, Result
from daemon.core.rejection_limit import Entry
from daemon.core.shard import Shard
from daemon.core.stale_tasks import first_position
from daemon.core.step import BatchSealed, Fact, Step
from daemon.core.upsert import UPSERT
from daemon.core.verdict import PollVerdict, SubmitVerdict, TaskVerdict
from daemon.core.waiting import WaitReason

TOPIC_ID = "topic-id"
START = Now(wall=1_795_428_000_000, mono=5_000.0)
JournalRecord = tuple[int, bytes, bytes | None]
"""Offset, key and value."""
UNANSWERED = NoAnswer(NoAnswerReason.TIMEOUT, "no answer in time")


def settings_with(**groups: Mapping[str, Any]) -> Settings:
    """The defaults with some changed: ``settings_with(batch={"items_max": 2})``."""
    settings = Settings()
    changed = {
        name: dataclasses.replace(getattr(settings, name), **values) for name, values in groups.items()
    }
    return dataclasses.replace(settings, **changed)


def refused(status: int, code: str | None = None, **more: Any) -> Refused:
    return Refused(status, Error(code, f"{code} says the API"), **more)


def succeeded(origin_id: str) -> ItemOutcome:
    return ItemOutcome(origin_id, succeeded=True, course_id=f"kombo-{origin_id}", error=None)


def failed(origin_id: str, code: str = "LMS.COURSE_ARCHIVED") -> ItemOutcome:
    return ItemOutcome(origin_id, succeeded=False, course_id=None, error=Error(code, "said of the item"))


class Bench:
    """`now` moves by `pass_time` alone. `results` holds what committed steps have published, by offset."""

    created_at: int
    """When the API created the newest task (ms). Not set before the first."""

    def __init__(
        self, settings: Settings | None = None, seed: int = 0, tables: Sequence[PolicyTable] = ()
    ) -> None:
        self.settings = settings or Settings()
        self.rng = random.Random(seed)
        self.policies = Policies(self.settings, tables)
        self.judge = Judge(self.policies)
        self.now = START
        self.records: list[JournalRecord] = []
        self.results: dict[int, Result] = {}
        self.corrections: list[Correction] = []
        self.rejections: list[Rejection] = []
        self.courses: dict[tuple[str, str], CourseRecord] = {}
        """The courses topic, as a table."""
        self.facts: list[Fact] = []
        self.published = 0
        self.tasks = 0
        self.broker_ahead_ms: int | None = 7
        """None: the broker does not tell its time."""
        self.control = nothing_decided()
        self.decisions = 0
        position = first_position(0, TOPIC_ID, 6, self.now)
        self.shard = Shard(3, self.settings, self.policies, position, self.rng, control=self.control)
        self.shard.known.finish()
        self.shard.want_position()
        self.commit()

    # --- time and input ---------------------------------------------------------------------------

    def pass_time(self, seconds: float) -> None:
        self.now = Now(self.now.wall + round(seconds * 1000), self.now.mono + seconds)

    def read(self, *entries: Entry) -> None:
        self.shard.read(entries, self.published, self.now)

    def change(self, origin_id: str, integration_id: str = "hr:1", body: bytes | None = None) -> Change:
        """A change as the codec hands it over; it takes the next offset of the input."""
        offset, self.published = self.published, self.published + 1
        course = f'{{"origin_id":"{origin_id}","course":{{"title":"version {offset}"}}}}'.encode()
        return Change(
            UPSERT,
            offset,
            f"chg-{offset}",
            integration_id,
            origin_id,
            body or course,
            consumed_at=self.now.wall,
        )

    def deactivation(
        self, origin_id: str, course_id: str | None = None, integration_id: str = "hr:1"
    ) -> Change:
        """As `change`, with or without an id of the publisher's."""
        offset, self.published = self.published, self.published + 1
        return Change(
            DEACTIVATE,
            offset,
            f"chg-{offset}",
            integration_id,
            origin_id,
            deactivate.item(course_id),
            consumed_at=self.now.wall,
        )

    def rejection(self) -> Rejection:
        offset, self.published = self.published, self.published + 1
        error = Error("COURSESYNC.RECORD_NOT_JSON", "the record is not JSON")
        return Rejection(
            offset, RejectReason.MALFORMED, error, None, None, None, self.now.wall, b"k", b"{", ()
        )

    def publish(self, *origin_ids: str, integration_id: str = "hr:1") -> list[int]:
        """Changes of these courses are read; returns their offsets."""
        changes = [self.change(origin_id, integration_id) for origin_id in origin_ids]
        self.read(*changes)
        return [change.offset for change in changes]

    def step(self) -> Step:
        """Take the pending step, which must exist."""
        step = self.shard.take_step()
        assert step is not None
        return step

    def due(self) -> float:
        """When something is due next. Something must be due."""
        due = self.shard.due()
        assert due is not None
        return due

    def linger(self) -> list[Batch]:
        """Wait until what was read is admitted and sealed, and commit. Returns the batches sealed by it."""
        self.pass_time(self.settings.batch.linger)
        self.shard.tick(self.now)
        return self.commit()

    def only(self) -> Batch:
        """The one open batch."""
        (batch,) = self.shard._memory.batches.values()
        return batch

    def seal(self, *origin_ids: str, integration_id: str = "hr:1") -> Batch:
        """One batch of changes of these courses, sealed and committed."""
        self.publish(*origin_ids, integration_id=integration_id)
        (batch,) = self.linger()
        return batch

    # --- operators --------------------------------------------------------------------------------

    def decide(self, *decisions: Decision, in_flight: Sequence[str] = ()) -> None:
        """Operators have decided this, and the shard obeys."""
        for decision in decisions:
            self.control.apply(self.decisions, decision)
            self.decisions += 1
        self.control.advance(self.now.wall)
        self.shard.obey(in_flight, self.now)
        self.shard.tick(self.now)
        self.commit()

    # --- commits ----------------------------------------------------------------------------------

    def commit(self) -> list[Batch]:
        """Commit what is in the draft; returns the batches that it has sealed."""
        step = self.shard.take_step()
        return [] if step is None else self.land(step)

    def broker_ms(self) -> int | None:
        """When a transaction is written, by the broker's clock."""
        return None if self.broker_ahead_ms is None else self.now.wall + self.broker_ahead_ms

    def land(self, step: Step) -> list[Batch]:
        """The transaction of this step has been committed."""
        offsets = range(len(self.records), len(self.records) + len(step.journal))
        self.records += [
            (offset, key, value) for offset, (key, value) in zip(offsets, step.journal, strict=True)
        ]
        for result in step.results:
            assert result.offset not in self.results, f"a second result for offset {result.offset}"
            self.results[result.offset] = result
        self.corrections += step.corrections
        for course in step.courses:
            self.courses[course.integration_id, course.origin_id] = course
        self.rejections += step.rejections
        self.facts += step.facts
        self.shard.committed(step, offsets, self.broker_ms(), self.now)
        batches = self.shard._memory.batches
        return [batches[fact.batch_id] for fact in step.facts if isinstance(fact, BatchSealed)]

    # --- answers ----------------------------------------------------------------------------------

    def submit_answer(self, batch: Batch, answer: SubmitAnswer, again_in: float = 0.0) -> SubmitVerdict:
        ruling = self.judge.submit(
            batch.integration_id,
            batch.operation,
            answer,
            self.judge.key_number,
            fate_unknown=batch.fate_unknown,
        )
        self.shard.submit_answered(batch.id, answer, ruling, self.now.mono + again_in, self.now)
        self.commit()
        return ruling.verdict

    def accept(self, batch: Batch, task_id: str | None = None) -> None:
        """The API makes a task of the batch, at `created_at`, and the journal knows it then."""
        self.pass_time(0.05)
        self.created_at = self.now.wall
        self.tasks += 1
        assert self.submit_answer(batch, Accepted(task_id or f"task-{self.tasks}")) is SubmitVerdict.ACCEPTED

    def accepted(self, *origin_ids: str, integration_id: str = "hr:1") -> Batch:
        batch = self.seal(*origin_ids, integration_id=integration_id)
        self.accept(batch)
        return batch

    def poll_answer(self, batch: Batch, answer: PollAnswer) -> TaskVerdict | PollVerdict:
        """Returns the verdict on the task that failed, if one did, or else the one on the poll."""
        ruling = self.polled(batch, answer)
        self.commit()
        return ruling.task or ruling.verdict

    def polled(self, batch: Batch, answer: PollAnswer) -> PollRuling:
        """As `poll_answer`, without a commit; returns the ruling."""
        task = batch.task()
        assert task is not None
        ruling = self.judge.poll(task, answer, self.judge.key_number, self.now)
        body = self.body(batch) if ruling.needs_body else None
        self.shard.poll_answered(batch.id, answer, ruling, body, batch.polls + 1, self.now)
        return ruling

    def late(self, batch: Batch) -> LateTask:
        """The watched task of this batch, which must have timed out."""
        late = self.shard.late_task(batch.id)
        assert late is not None
        return late

    def late_answer(self, late: LateTask, answer: PollAnswer) -> PollVerdict:
        ruling = self.judge.late(late, answer, self.judge.key_number, self.now)
        self.shard.late_answered(late.batch_id, answer, ruling, self.now)
        self.commit()
        return ruling.verdict

    def record(self, batch: Batch) -> JournalRecord:
        """The journal record of the batch."""
        assert batch.offset is not None
        return self.records[batch.offset]

    def body(self, batch: Batch) -> bytes:
        """The payload, from where the shard believes it to be (R9)."""
        offset, key, value = self.record(batch)
        assert offset == batch.offset
        return journal.payload(batch.id, batch.digest, key, value)

    def pending(self, age: float = 0.0) -> TaskPending:
        """A poll of the newest task answers PENDING when it is `age` seconds old, by the API's clock and by ours."""
        self.pass_time(max(0.0, age - (self.now.wall - self.created_at) / 1000))
        return TaskPending(self.created_at, api_time=self.created_at + round(age * 1000))

    def completed(self, *outcomes: ItemOutcome, created_at: int | None = None) -> TaskCompleted:
        """The newest task has run, within 20 ms."""
        created_at = created_at or self.created_at
        return TaskCompleted(created_at, created_at + 20, outcomes)

    def task_failed(self, code: str | None, created_at: int | None = None) -> TaskFailed:
        created_at = created_at or self.created_at
        return TaskFailed(created_at, created_at + 20, Error(code, "said of the task"))

    # --- restarts ---------------------------------------------------------------------------------

    def fold(self, records: Sequence[JournalRecord]) -> Fold:
        fold = Fold()
        for record in records:
            fold.apply(*record)
        values = {offset: (key, value) for offset, key, value in records}
        for batch_id, kept in fold.unread():
            key, value = values[kept.offset]
            kept.body = journal.payload(batch_id, kept.digest, key, value)
        return fold

    def restored(self, records: Sequence[JournalRecord] | None = None) -> Shard:
        """Another shard, made from what is committed, or from these records of it."""
        fold = self.fold(self.records if records is None else records)
        shard = Shard.restore(3, self.settings, self.policies, fold, self.rng, self.now, control=self.control)
        self.load_courses(shard)
        return shard

    def load_courses(self, shard: Shard) -> None:
        """The index has been loaded from the courses topic."""
        for course, record in self.courses.items():
            shard.known.load(course_key(*course), record.known())
        shard.courses_loaded()

    def crash(self) -> None:
        """Everything that is not committed is lost; the input is read again from the position."""
        self.shard = self.restored()
        self.published = max(self.published, self.shard.next_read)

    def journal_now(self) -> dict[bytes, bytes]:
        """The last value of each key, and no more: what compaction leaves."""
        last = {key: value for _, key, value in self.records}
        return {key: value for key, value in last.items() if value is not None}

    def journal_of(self, shard: Shard) -> dict[bytes, bytes]:
        """The records that this shard's memory stands for, by re-encoding it."""
        memory = shard._memory
        records: dict[bytes, journal.Value] = {journal.POSITION_KEY: memory.position}
        for integration_id, lane in memory.waiting.lanes.items():
            for origin_id, held in lane.held.items():
                body = msgspec.Raw(held.body)
                key = journal.wait_key(integration_id, origin_id)
                records[key] = journal.Wait(
                    held.item,
                    body,
                    held.not_before,
                    held.last,
                    journal.operation_name(held.operation),
                    resend=held.resend or UNSET,
                    bulk=held.bulk or UNSET,
                    trace=memory.traces.get(held.item.offset) or UNSET,
                )
        for batch in memory.batches.values():
            body = msgspec.Raw(batch.body or self.body(batch))
            records[journal.batch_key(batch.id)] = journal.SealedBatch(
                batch.integration_id,
                batch.sealed_at,
                batch.api_floor,
                batch.items.unpack(),
                body,
                batch.replays,
                batch.operation.name,
                batch.splits,
                batch.bulk,
                memory.traces.of(batch.items),
            )
            if batch.refusal is not None:
                records[journal.refusal_key(batch.id)] = batch.refusal
            if batch.task_id is not None:
                assert batch.accepted_at is not None
                records[journal.task_key(batch.id)] = journal.Task(
                    batch.task_id, batch.accepted_at, batch.fate_unknown or UNSET
                )
        for late in memory.late.values():
            records[late.key] = msgspec.structs.replace(late.record, items=late.items.unpack())
        for integration_id, floor in memory.api_floors.floors.items():
            records[journal.floor_key(integration_id)] = floor
        return {key: journal.encode_value(value) for key, value in records.items()}

    # --- what a test asks -------------------------------------------------------------------------

    def error(self, offset: int) -> Error:
        """The error of the result of this change, which must have one."""
        error = self.results[offset].error
        assert error is not None
        return error

    def statuses(self) -> dict[int, tuple[str, str | None]]:
        """Offset → status and error code of each published result."""
        return {
            offset: (result.status.value, result.error.code if result.error else None)
            for offset, result in sorted(self.results.items())
        }

    def waiting(self) -> dict[WaitReason, int]:
        """How many changes wait for each reason that there is."""
        return {reason: waits.changes for reason, waits in self.shard.waits().items() if waits.changes}

    def held(self, origin_id: str, integration_id: str = "hr:1") -> Held:
        """The waiting change of this course."""
        return self.shard._memory.waiting.lanes[integration_id].held[origin_id]

    def is_held(self, origin_id: str, integration_id: str = "hr:1") -> bool:
        """Whether a change of this course waits."""
        lane = self.shard._memory.waiting.lanes.get(integration_id)
        return lane is not None and origin_id in lane.held
