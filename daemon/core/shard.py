"""One input partition as a state machine: changes and answers go in, steps come out.

How it works::

    read(records)            → intake: nothing is decided yet, the position does not move
                               (`backlog_is_full` and `intake` show the caller when to pause)
    tick(now), linger over,  → the intake is admitted in offset order: a newer change replaces the waiting
      or a lane is full        change of its course; lanes are sealed into batches; the rest waits
    courses_loaded()         → until then, and for at most `INDEX_PATIENCE`, bulk changes are not sealed, and an intake of
                               nothing else is not admitted
    take_step()              → everything since the last step, to be committed as one transaction (R2)
    committed(step, offsets) → now its facts may be acted on (R3)
    submit_answered(…)       → a task, or a verdict on the refusal
    poll_answered(…)         → a verdict on the task: results and successors in one step

Admission (`core.admission`) and sealing (`core.sealing`) happen together, so offsets never have gaps: a position means
"every change before it is in a result, a batch or a wait record of this or an earlier step".
"""

from __future__ import annotations

import random
from collections.abc import Container, Iterable, Iterator, Sequence

from msgspec import UNSET

from daemon.config import Policies, Settings
from daemon.core import give_up, journal, restoring, settle, settle_late
from daemon.core.admission import Admission
from daemon.core.answers import PollAnswer, SubmitAnswer
from daemon.core.awaited_index import AwaitedIndex
from daemon.core.batch import LateTask, OpenTask, Submission
from daemon.core.control import Control
from daemon.core.journal_fold import Fold
from daemon.core.judge import PollRuling, SubmitRuling
from daemon.core.known_courses import KnownCourses
from daemon.core.memory import Memory
from daemon.core.model import Change, Now, Rejection
from daemon.core.rejection_limit import RejectionLimit
from daemon.core.sealing import Sealing
from daemon.core.step import Draft, Step
from daemon.core.unadmitted import Unadmitted
from daemon.core.verdict import TaskVerdict
from daemon.core.waiting import WaitReason, Waits


class Shard:
    """The state machine. `rng` only draws jitter."""

    def __init__(
        self,
        partition: int,
        settings: Settings,
        policy: Policies,
        position: journal.Position,
        rng: random.Random,
        known: KnownCourses | None = None,
        control: Control | None = None,
    ) -> None:
        """`control` is that of the process; None: nobody has decided anything."""
        self.partition = partition
        self._settings = settings
        self._memory = Memory(partition, settings, policy, position, rng, known, control)
        self._unadmitted = Unadmitted(policy)
        self._sealing = Sealing(self._memory)
        self._admission = Admission(self._memory, self._sealing)
        self._index = AwaitedIndex(self._memory.known.courses, policy)
        self._full = False
        self._next_read = position.next_offset
        self.rejection_limit = RejectionLimit(settings.input, position.rejections)
        """Its `stop` says why no further records are read."""
        self._flush_at: float | None = None
        self._given_up_version = -1

    @classmethod
    def restore(
        cls,
        partition: int,
        settings: Settings,
        policy: Policies,
        fold: Fold,
        rng: random.Random,
        now: Now,
        fenced_ago: float = 0.0,
        known: KnownCourses | None = None,
        control: Control | None = None,
    ) -> Shard:
        """The shard, restored from its journal. All earlier owners were fenced `fenced_ago` seconds ago. `known` is empty;
        whoever reads the courses topic loads it.
        """
        assert fold.position is not None
        shard = cls(partition, settings, policy, fold.position, rng, known, control)
        restoring.load(shard._memory, fold, now, now.mono - fenced_ago)
        shard.obey((), now)
        shard._arm(now.mono)
        return shard

    # --- open submissions, as frozen views --------------------------------------------------------

    def submission(self, batch_id: str) -> Submission | None:
        """The submission of this batch to POST; None if the batch has a task, or is closed."""
        batch = self._memory.batches.get(batch_id)
        return None if batch is None else batch.submission()

    def submissions(self) -> list[Submission]:
        """The submissions to POST, except those that wait for POSTs of earlier owners (R6)."""
        return self._memory.submissions()

    def task(self, batch_id: str) -> OpenTask | None:
        """The task of this batch; None if it has none, or is closed."""
        batch = self._memory.batches.get(batch_id)
        return None if batch is None else batch.task()

    def tasks(self) -> list[OpenTask]:
        found = (batch.task() for batch in self._memory.batches.values())
        return [task for task in found if task is not None]

    def late_task(self, batch_id: str) -> LateTask | None:
        """The task of this batch that timed out and is still watched; None if its watch is over."""
        return self._memory.late.get(batch_id)

    def late_tasks(self) -> list[LateTask]:
        return list(self._memory.late.values())

    def delay(self, batch_id: str, now: Now) -> float:
        """Seconds until this batch may be submitted, considering its floor (R14)."""
        return self._memory.delay(self._memory.batches[batch_id], now)

    @property
    def known(self) -> KnownCourses:
        """The index of the courses that this shard knows (R17)."""
        return self._memory.known.courses

    def courses_loaded(self) -> None:
        """Everything that earlier owners have written about courses is in `known`."""
        self._memory.known.loaded(self._memory.draft)
        if self._unadmitted or any(True for _ in self._memory.waiting.ready_lanes()):
            self._arm(0.0)  # what has waited for it can be sealed

    @property
    def courses_since(self) -> int:
        """As in `journal.Position`."""
        since = self._memory.position.courses_since
        return 0 if since is UNSET else since

    # --- operators --------------------------------------------------------------------------------

    def obey(self, in_flight: Container[str], now: Now) -> None:
        """Operators have decided something (R19). `in_flight`: the batches whose POST may still reach the API."""
        memory = self._memory
        memory.waiting.obey()
        if self._given_up_version != memory.control.give_up_version:
            self._given_up_version = memory.control.give_up_version
            give_up.find_given_up(memory)
            give_up.end_batches(memory, in_flight, now)
        if memory.given_up or any(True for _ in memory.waiting.ready_lanes()):
            self._arm(now.mono)

    # --- counts -----------------------------------------------------------------------------------

    @property
    def open_batches(self) -> int:
        """The number of open batches, with or without a task."""
        return len(self._memory.batches)

    def timeout_ratio(self, now_ms: int) -> float:
        """The age of an open task, divided by the time-out of its integration: the largest of all tasks; 0 without any. The
        ages are those of `created`.
        """
        oldest: dict[str, int] = {}
        for batch in self._memory.batches.values():
            if batch.accepted_at is not None:
                created_at = batch.created_at or batch.accepted_at
                oldest[batch.integration_id] = min(created_at, oldest.get(batch.integration_id, created_at))
        policy = self._memory.policy
        ratios = [(now_ms - at) / 1000 / policy(id_).task.timeout for id_, at in oldest.items()]
        return max([0.0, *ratios])

    def created(self) -> Iterator[int]:
        """When each open task was created (ms, API time), or accepted if no poll has been answered yet."""
        for batch in self._memory.batches.values():
            if batch.accepted_at is not None:
                yield batch.created_at or batch.accepted_at

    @property
    def pending_items(self) -> int:
        """The number of changes in open tasks."""
        return sum(
            [len(batch.items) for batch in self._memory.batches.values() if batch.accepted_at is not None]
        )

    @property
    def next_read(self) -> int:
        """The offset after the last record that was read."""
        return self._next_read

    @property
    def intake(self) -> int:
        """The number of records that were read and are not admitted yet."""
        return len(self._unadmitted)

    @property
    def intake_bytes(self) -> int:
        """Size of those records in bytes."""
        return self._unadmitted.bytes

    @property
    def waiting(self) -> int:
        """The number of waiting changes."""
        return self._memory.backlog.courses

    def backlog_is_full(self, *, paused: bool) -> bool:
        """Whether the input has to pause because of the waiting changes or, if it is `paused`, has to stay paused."""
        return self._memory.backlog.must_pause(len(self._unadmitted), self._unadmitted.bytes, paused=paused)

    @property
    def congested(self) -> bool:
        """So much is decided and not committed that no call may start whose answer would add more."""
        return self._memory.draft.is_full

    def waits(self) -> dict[WaitReason, Waits]:
        """The waiting changes, by reason, with their age, and those in refused submissions."""
        return self._memory.waits()

    def count_held(self) -> int:
        """The number of changes that were read and are in no step yet, counted at every place where a change can be."""
        return len(self._unadmitted) + self._memory.count_held()

    # --- input ------------------------------------------------------------------------------------

    def read(self, entries: Sequence[Change | Rejection], next_offset: int, now: Now) -> None:
        """Add records of the input, in offset order. `next_offset` is the offset after the last of them. If
        `rejection_limit` stops at one of them, this one and all later ones are not added.
        """
        assert next_offset >= self._next_read
        entries = self.rejection_limit.readable(entries)
        is_full = self._unadmitted.add(entries)
        stop = self.rejection_limit.stop
        self._next_read = next_offset if stop is None else stop.offset
        self._index.read(entries, now)
        self._full = self._full or (is_full and not self._waits_as_a_whole(now))
        self._arm(now.mono + (self._settings.batch.linger if stop is None else 0.0))

    def _waits_as_a_whole(self, now: Now) -> bool:
        """Whether the whole intake waits for the index. An intake is admitted as a whole, in offset order."""
        return self._unadmitted.edits == 0 and self._index.is_awaited(now)

    def policies_changed(self, now: Now) -> None:
        """Changes that wait for a full batch or a place in a window may be sealed by other limits now."""
        self._arm(now.mono + self._settings.batch.linger)

    def due(self) -> float | None:
        """When `tick` is due next, in monotonic seconds (the past: immediately); None if nothing is due by time."""
        if self._full:
            return 0.0
        memory = self._memory
        times = (self._flush_at, memory.waiting.backoff.due(), memory.takeover.due())
        return min((time for time in times if time is not None), default=None)

    def tick(self, now: Now) -> None:
        """Do what is due by time, or because a lane is full."""
        self._memory.clear(now)
        if self._memory.waiting.release(now.mono):
            self._arm(now.mono + self._settings.batch.linger)
        lingered = self._flush_at is not None and now.mono >= self._flush_at
        if lingered or self._full:
            self._full = False
            self._sealing.bulk_waits = self._index.is_awaited(now)
            if not self._waits_as_a_whole(now):
                entries, rejections = self._unadmitted.take(), self.rejection_limit.record
                self._admission.admit(entries, self._next_read, rejections, now)
            give_up.end_waiting(self._memory, now)
            self._seal(now, lingered=lingered)
            if self._sealing.bulk_waits and self._index.until is not None:
                self._arm(self._index.until)

    def _arm(self, at: float) -> None:
        if self._flush_at is None or at < self._flush_at:
            self._flush_at = at

    def _seal(self, now: Now, *, lingered: bool) -> None:
        """Changes in lanes that are not sealed are journalled as waiting and sealed when the linger is over. Changes that
        do not fit into this step go into the next one.
        """
        left = self._sealing.seal(now, lingered=lingered) or bool(self._memory.given_up)
        if left and self._memory.draft.is_full:
            self._arm(now.mono)
            return
        if lingered:
            self._flush_at = None
        if left:
            self._arm(now.mono + self._settings.batch.linger)

    # --- steps ------------------------------------------------------------------------------------

    def want_position(self) -> None:
        """Request a step even if nothing happened: a commit proves that this replica still owns the shard (R6)."""
        self._memory.draft.want()

    def take_step(self) -> Step | None:
        """The step to commit now, as one transaction; None if there is nothing to commit. Take the next step only
        after this one is committed (R2).
        """
        memory = self._memory
        if not memory.draft.is_wanted:
            return None
        draft, memory.draft = memory.draft, Draft()
        return draft.close(memory.waiting, memory.current_position(), memory.traces)

    def committed(self, step: Step, offsets: Sequence[int], appended_at: int | None, now: Now) -> None:
        """The step is committed. `offsets` are the offsets of its journal records, and `appended_at` is when they were
        written by the broker's clock (ms), if it is known.
        """
        for index, batch_id in step.batches:
            self._memory.batches[batch_id].offset = offsets[index]
        self._memory.committed(appended_at, now)

    def hand_over(self, in_flight: Iterable[str]) -> None:
        """No POST starts until `keep` is called, and `in_flight` are the batches whose POST may still reach the API (R6).
        If this changes the position, a step is requested that writes it.
        """
        self._memory.hand_over(in_flight)

    def keep(self) -> None:
        """POSTs may start, each after a commit that begins after this call."""
        self._memory.takeover.keep()

    # --- answers ----------------------------------------------------------------------------------

    def submit_answered(
        self, batch_id: str, answer: SubmitAnswer, ruling: SubmitRuling, again: float, now: Now
    ) -> None:
        """The answer to the POST of this batch. `submission` shows whether to POST again, not before `again` (monotonic)."""
        batch = self._memory.batches[batch_id]
        settle.submit_answered(self._memory, batch, answer, ruling, now)
        if batch_id in self._memory.batches and batch.task_id is None:
            give_up.end_refused(self._memory, batch, now)
        self._memory.submission_judged(batch, answer, ruling.verdict, again, now)
        self._after_answer(batch.integration_id, now)

    def poll_answered(
        self,
        batch_id: str,
        answer: PollAnswer,
        ruling: PollRuling,
        body: bytes | None,
        polls: int,
        now: Now,
    ) -> None:
        """Process the answer to poll number `polls` of this batch's task. `body` is its payload if
        `ruling.needs_body`. Afterwards `task` shows whether it must still be polled.
        """
        batch = self._memory.batches[batch_id]
        settle.poll_answered(self._memory, batch, answer, ruling, body, polls, now)
        if batch_id in self._memory.batches and batch.task_id is not None:
            give_up.end_task(self._memory, batch, now)
        if ruling.task is TaskVerdict.PARK:
            self._memory.park(batch.integration_id)
        self._after_answer(batch.integration_id, now)

    def late_answered(self, batch_id: str, answer: PollAnswer, ruling: PollRuling, now: Now) -> None:
        """Process the answer to the poll of a timed-out task. `late_task` shows whether it is still watched."""
        late = self._memory.late[batch_id]
        settle_late.late_answered(self._memory, late, answer, ruling, now)
        self._after_answer(late.record.integration_id, now)

    def _after_answer(self, integration_id: str, now: Now) -> None:
        """An answer may have freed courses and a place in the window: changes that waited for them may be sealed."""
        self._memory.free_courses()
        if self._memory.given_up:
            self._arm(now.mono)
        if self._sealing.window_was_full:
            self._arm(now.mono + self._settings.batch.linger)
        lane = self._memory.waiting.lanes.get(integration_id)
        if lane is None or lane.paused:
            return
        for queue in self._sealing.sealable(lane):
            if self._sealing.is_full(lane, queue):
                self._full = True
            else:
                self._arm(now.mono + self._settings.batch.linger)
