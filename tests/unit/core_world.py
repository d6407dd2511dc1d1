"""A shard among everything that can happen to it: a misbehaving API, clocks that jump, crashes anywhere.

`World` is the environment of one shard at the grain of its own calls: every action below is atomic, and
between any two of them the process may die. It knows the truth, which the shard does not: what the API has
made of each POST, what the LMS holds, what was ever sent. Against that, and nothing of the shard's own
reasoning, `check` holds what must be true at any moment, and `heal` what must come true at last.

Every action takes a `random.Random` and draws all its choices from it, so a history is a list of pairs
(action, seed).
"""

import dataclasses
import json
from collections.abc import Callable, Mapping
from random import Random

import msgspec

from daemon.config import BacklogSettings, Settings
from daemon.core import journal
from daemon.core.answers import (
    Accepted,
    Done,
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
from daemon.core.deactivate import DEACTIVATE
from daemon.core.lane import Held
from daemon.core.memory import Memory
from daemon.core.model import Change, Error, Now, Result
from daemon.core.rejection_limit import Entry
from daemon.core.shard import Shard
from daemon.core.step import BatchCleared, BatchSealed, Fact, Step, TaskAccepted, TaskLost
from daemon.core.waiting import WaitReason
from tests.unit.core_bench import Bench, JournalRecord, refused, settings_with

SETTINGS = settings_with(
    batch={"items_max": 3, "bytes_max": 4096},
    window={"batches_max": 2},
    task={"timeout": 100.0, "watch_after_timeout": 100.0},
    retry={"backoff_min": 1.0, "backoff_max": 4.0, "attempts_max": 3},
    park={"probe_min": 2.0, "probe_max": 8.0},
    wait={"age_max": 300.0},
    fence={"lease": 1.0},
    http={"deadline": 3.0},
)
FULL = dataclasses.replace(
    SETTINGS,
    window=dataclasses.replace(SETTINGS.window, batches_max_per_partition=3),
    backlog=BacklogSettings(courses_max=3, courses_max_per_integration=2, bytes_max=300, on_full="reject"),
)
"""Limits that are reached all the time."""
INTEGRATIONS = ["i", "j"]
COURSES = ["a", "b", "c", "d"]
CONTENTS = ["one", "two", "bad"]
"""Few, so that equal bodies come again; `bad` is what the API's validation refuses."""
BAD = b'"bad"'
OTHER_FIELDS = {"a": {"description": "d", "thumbnail_url": "t", "duration": 1, "languages": ["en"]}}
"""This course can be said in one way only."""

LOST_ANSWER = NoAnswer(NoAnswerReason.TIMEOUT, "cut")
OUR_KEY = "PLATFORM.AUTHENTICATION_INVALID"
REFUSALS: list[Refused | NoAnswer] = [
    refused(429, "PLATFORM.CONCURRENCY_LIMIT_EXCEEDED"),
    refused(503),
    refused(409, "INTEGRATION.SETUP_SYNC_PENDING"),
    refused(401, OUR_KEY),
    refused(403),
    refused(404, "PLATFORM.INTEGRATION_NOT_FOUND"),
]
NO_SUCH_COURSE = Refused(404, Error(None, "There is no such course."), is_documented=True)
UNCONFIRMED = "COURSESYNC.DEACTIVATION_UNCONFIRMED"
INVALID = refused(400, "PLATFORM.INPUT_INVALID")
BLINDNESS: list[Refused | NoAnswer] = [
    LOST_ANSWER,
    refused(500),
    refused(429, "PLATFORM.RATE_LIMIT_EXCEEDED"),
    refused(401, OUR_KEY),
]
TASK_CODES = [
    "REMOTE.SERVICE_UNAVAILABLE",
    "INTEGRATION.PERMISSION_MISSING",
    OUR_KEY,
    "LMS.COURSE_UPDATE_NOT_SUPPORTED",
    "PLATFORM.TASK_TIMED_OUT",
    "REMOTE.INPUT_INVALID",
    None,
]
ITEM_CODES = ["REMOTE.RATE_LIMIT_EXCEEDED", "LMS.COURSE_ARCHIVED"]


@dataclasses.dataclass
class ApiTask:
    id: str
    integration_id: str
    body: bytes
    made_by: str
    """The batch whose POST made it."""
    items: list[tuple[str, int]]
    """(course, offset) of each."""
    created_at: int
    endless: bool = False
    """It stays pending until all is healed."""
    completed_at: int | None = None
    outcomes: tuple[ItemOutcome, ...] | None = None
    error: Error | None = None

    @property
    def pending(self) -> bool:
        return self.completed_at is None


class World:
    def __init__(self, seed: int = 0, settings: Settings = SETTINGS) -> None:
        self.settings = settings
        self.bench = Bench(settings, seed)
        self.api_now = self.bench.now.wall
        self.input: list[Entry] = []
        self.step: Step | None = None
        self.tasks: dict[str, ApiTask] = {}
        self.tasks_made = 0
        self.by_body: dict[tuple[str, str | bytes], ApiTask] = {}
        self.compares_json = seed % 2 == 1
        """Whether the API compares bodies as parsed JSON, or as bytes."""
        self.lms: dict[tuple[str, str], str] = {}
        self.inactive: set[tuple[str, str]] = set()
        """Courses of the LMS that were deactivated. An upsert makes them active again."""
        self.carried_out: set[str] = set()
        """Batches whose course the API has deactivated for them."""
        self.sent: dict[tuple[str | None, str | None], list[int]] = {}
        """Course → offsets of its changes that were ever POSTed, oldest first."""
        self.known_batches: dict[str, bytes] = {}
        self.may_post: set[str] = set()
        self.may_start = True
        """The present shard has committed something: its POSTs have a lease (R6)."""
        self.may_poll: set[str] = set()
        self.set_back = False
        self.set_back_by = 0
        """Milliseconds by which the host's clock is behind."""
        self.compact_to = 0

    @property
    def shard(self) -> Shard:
        return self.bench.shard

    @property
    def memory(self) -> Memory:
        return self.bench.shard._memory

    # --- actions: input and commits ---------------------------------------------------------------

    def publish(self, r: Random) -> None:
        """A few records join the input topic."""
        for _ in range(r.randint(1, 4)):
            if r.random() < 0.1:
                self.input.append(self.bench.rejection())
                continue
            if r.random() < 0.15:
                origin = r.choice(COURSES)
                own = f"own-{origin}" if r.random() < 0.5 else None
                self.input.append(self.bench.deactivation(origin, own, r.choice(INTEGRATIONS)))
                continue
            origin, content = r.choice(COURSES), r.choices(CONTENTS, [4, 4, 1])[0]
            course = {"title": content} | OTHER_FIELDS.get(origin, {})
            body = json.dumps({"origin_id": origin, "course": course}, separators=(",", ":")).encode()
            change = self.bench.change(origin, r.choice(INTEGRATIONS), body)
            resend, bulk = r.random() < 0.1, r.random() < 0.4
            self.input.append(
                msgspec.structs.replace(change, content=content.encode().ljust(16), resend=resend, bulk=bulk)
            )

    def read(self, r: Random) -> None:
        start = self.shard.next_read
        entries = self.input[start : start + r.randint(1, 6)]
        if not entries:
            return
        self.shard.read(entries, start + len(entries), self.bench.now)

    def tick(self, _r: Random | None) -> None:
        before = set(self.shard._memory.batches)
        self.shard.tick(self.bench.now)
        self.note_sealed()
        for batch_id in set(self.shard._memory.batches) - before:
            lane = self.memory.waiting.lanes[self.shard._memory.batches[batch_id].integration_id]
            assert lane.open_batches <= SETTINGS.window.batches_max, "the window is respected"
        if set(self.shard._memory.batches) - before:
            places = self.settings.window.batches_max_per_partition
            assert len(self.shard._memory.batches) + len(self.shard._memory.late) <= places, (
                "so are the shard's places"
            )

    def take_step(self, _r: Random | None) -> None:
        if self.step is None:
            self.step = self.shard.take_step()
            if self.step is not None:
                self.check_unchanged(self.step.results)

    def check_unchanged(self, results: list[Result]) -> None:
        """C9: the LMS holds the content now."""
        for result in results:
            if result.status == "UNCHANGED":
                change = self.input[result.offset]
                assert isinstance(change, Change)
                self.check_held(change)

    def check_held(self, change: Change) -> None:
        """The LMS is as this change says."""
        course = (change.integration_id, change.origin_id)
        if change.operation is DEACTIVATE:
            assert course in self.inactive
        else:
            assert course not in self.inactive
            assert self.lms[course] == content_of(change.body, change.origin_id)

    def commit(self, _r: Random | None) -> None:
        if self.step is not None:
            step, self.step = self.step, None
            self.bench.land(step)
            self.may_start = True
            self.act_on(step.facts)

    def act_on(self, facts: list[Fact]) -> None:
        """R3: what a step has decided may be done now that it is committed."""
        for fact in facts:
            match fact:
                case (
                    BatchSealed(batch_id=batch_id)
                    | TaskLost(batch_id=batch_id)
                    | BatchCleared(batch_id=batch_id)
                ):
                    self.may_post.add(batch_id)
                case TaskAccepted(batch_id=batch_id):
                    self.may_poll.add(batch_id)

    def ask_for_position(self, _r: Random | None) -> None:
        self.shard.want_position()

    # --- actions: trouble -------------------------------------------------------------------------

    def crash(self, r: Random) -> None:
        """Kill -9. Whether a commit that was under way was written nobody knows (R4)."""
        if self.step is not None and r.random() < 0.5:
            self.bench.land(self.step)
        self.step = None
        self.compact(r)
        self.restore()

    def restart(self, r: Random) -> None:
        """The owner ends in order, and another one begins. The answer to each POST is in: no call is in flight."""
        self.commit(r)
        self.shard.hand_over(())
        self.take_step(r)
        self.commit(r)
        self.compact(r)
        self.restore()

    def restore(self) -> None:
        self.bench.shard = self.bench.restored(self.left_by_compaction())
        self.may_post = {submission.batch_id for submission in self.shard.submissions()}
        self.may_start = False
        self.may_poll = {
            batch.id for batch in self.shard._memory.batches.values() if batch.task_id is not None
        }
        longest = self.bench.now.wall + 8_000
        self.set_back = any(
            (held.not_before or 0) > longest
            for lane in self.memory.waiting.lanes.values()
            for held in lane.held.values()
        )

    def compact(self, r: Random) -> None:
        self.compact_to = max(self.compact_to, r.randint(0, len(self.bench.records)))

    def left_by_compaction(self) -> list[JournalRecord]:
        """The journal as a reader finds it; offsets stay, and so does what is read back by offset."""
        last = {key: offset for offset, key, _ in self.bench.records[: self.compact_to]}
        return [
            (offset, key, value)
            for offset, key, value in self.bench.records
            if offset >= self.compact_to or (last[key] == offset and value is not None)
        ]

    def pass_time(self, r: Random) -> None:
        seconds = r.choice([0.3, 1.0, 1.0, 3.0, 8.0])
        self.bench.pass_time(seconds)
        self.api_now += round(seconds * 1000)

    def pass_much_time(self, r: Random) -> None:
        """Long enough for a time-out, the end of a watch, or of a patience."""
        seconds = r.choice([60.0, 101.0, 201.0])
        self.bench.pass_time(seconds)
        self.api_now += round(seconds * 1000)

    def set_clock_back(self, r: Random) -> None:
        now = self.bench.now
        back = r.choice([1_000, 60_000, 3_600_000])
        self.bench.now = Now(now.wall - back, now.mono)
        self.set_back_by += back
        self.set_back = True

    # --- actions: the API -------------------------------------------------------------------------

    def submit(self, r: Random) -> None:
        ready = sorted(self.may_post & self.shard._memory.batches.keys())
        if ready and self.may_start:
            self.post(self.shard._memory.batches[r.choice(ready)], r)

    def post(self, batch: Batch, r: Random | None = None) -> None:
        """One POST. Without `r` the API is well."""
        assert batch.task_id is None
        assert batch.offset is not None, "R3: durable before it is sent"
        self.nothing_else_is_said(batch)
        self.api_now += 1
        self.sent_now(batch)
        answer: SubmitAnswer
        lost: list[SubmitAnswer] = [LOST_ANSWER, refused(502)]
        assert batch.body is not None
        if not batch.operation.makes_task:
            answer = self.deactivate(batch, r)
        elif BAD in batch.body:
            answer = INVALID
            if r is not None and r.random() < 0.3:
                answer = r.choice([LOST_ANSWER, *REFUSALS])
        elif r is None or r.random() < 0.6:
            answer = Accepted(self.task_for(batch, r).id)
        elif r.random() < 0.5:
            self.task_for(batch, r)
            answer = r.choice(lost)
        else:
            answer = r.choice([LOST_ANSWER, *REFUSALS])
        judge = self.bench.judge
        ruling = judge.submit(
            batch.integration_id,
            batch.operation,
            answer,
            judge.key_number,
            fate_unknown=batch.fate_unknown,
        )
        self.shard.submit_answered(batch.id, answer, ruling, self.bench.now.mono, self.bench.now)
        if batch.id not in self.shard._memory.batches or batch.task_id is not None:
            self.may_post.discard(batch.id)
        if batch.id not in self.shard._memory.batches:
            made = [task.id for task in self.tasks.values() if task.made_by == batch.id]
            assert not made, "R13: what may have become a task is not given up"
        self.note_sealed()

    def deactivate(self, batch: Batch, r: Random | None) -> SubmitAnswer:
        """A call that the API carries out, if it gets that far and knows the course."""
        (item,) = batch.items
        course = (batch.integration_id, item.origin_id)
        assert batch.body is not None
        entry = self.input[item.offset]
        assert isinstance(entry, Change)
        own = json.loads(entry.body).get("course_id")
        assert json.loads(batch.body) == {"course_id": own or f"k-{item.origin_id}"}, "R18"
        if r is not None and r.random() < 0.3:
            return r.choice([LOST_ANSWER, *REFUSALS])
        if course not in self.lms:
            return NO_SUCH_COURSE
        self.inactive.add(course)
        self.carried_out.add(batch.id)
        if r is not None and r.random() < 0.3:
            lost: list[SubmitAnswer] = [LOST_ANSWER, refused(502)]
            return r.choice(lost)
        if r is not None and r.random() < 0.3:
            del self.lms[course]  # an API that does not find again what is inactive
        return Done(f"k-{item.origin_id}")

    def nothing_else_is_said(self, batch: Batch) -> None:
        """R6: what the last position record says of POSTs stays true."""
        value = next(value for _, key, value in reversed(self.bench.records) if key == journal.POSITION_KEY)
        position = journal.decode(journal.POSITION_KEY, value)[1]
        assert isinstance(position, journal.Position)
        assert position.released is msgspec.UNSET
        assert batch.offset is not None
        for fencing in position.fencings or ():
            assert not fencing.first <= batch.offset <= fencing.last

    def sent_now(self, batch: Batch) -> None:
        frozen = self.known_batches[batch.id]
        assert batch.body == frozen, "C4: the same bytes each time"
        for item in batch.items:
            course = (batch.integration_id, item.origin_id)
            sent = self.sent.setdefault(course, [])
            assert not sent or item.offset >= sent[-1], "C2: order is offset order"
            if not sent or sent[-1] != item.offset:
                sent.append(item.offset)
            for task in self.tasks.values():
                if task.pending and task.integration_id == batch.integration_id and task.made_by != batch.id:
                    under_way = item.origin_id in {origin_id for origin_id, _ in task.items}
                    assert not under_way or self.past_watch(task), "C2: one open submission"

    def past_watch(self, task: ApiTask) -> bool:
        return self.api_now - task.created_at > 200_000

    def task_for(self, batch: Batch, r: Random | None) -> ApiTask:
        """Idempotency: an equal body finds the task that was made for it, as long as the API remembers."""
        assert batch.body is not None
        same = json.dumps(json.loads(batch.body), sort_keys=True) if self.compares_json else batch.body
        key = (batch.integration_id, same)
        if key not in self.by_body:
            self.tasks_made += 1
            task = ApiTask(
                f"t{self.tasks_made}",
                batch.integration_id,
                batch.body,
                batch.id,
                [(item.origin_id, item.offset) for item in batch.items],
                self.api_now,
                endless=r is not None and r.random() < 0.15,
            )
            self.tasks[task.id] = self.by_body[key] = task
        return self.by_body[key]

    def run_task(self, r: Random) -> None:
        """A task ends, well or not."""
        pending = [
            task
            for task in self.tasks.values()
            if task.pending and not task.endless and not self.past_watch(task)
        ]
        if pending:
            self.end_task(r.choice(pending), r)

    def end_task(self, task: ApiTask, r: Random | None = None) -> None:
        self.api_now += 2
        task.completed_at = self.api_now
        if r is not None and r.random() < 0.3:
            task.error = Error(r.choice(TASK_CODES), "the task failed")
            return
        outcomes = []
        for origin_id, _ in task.items:
            luck = 0.0 if r is None else r.random()
            good = ItemOutcome(origin_id, succeeded=True, course_id=f"k-{origin_id}", error=None)
            bad = ItemOutcome(
                origin_id,
                succeeded=False,
                course_id=None,
                error=Error("LMS.COURSE_ARCHIVED" if r is None else r.choice(ITEM_CODES), "no"),
            )
            if luck < 0.7:
                self.lms[task.integration_id, origin_id] = content_of(task.body, origin_id)
                self.inactive.discard((task.integration_id, origin_id))
            outcomes += [good] if luck < 0.65 else [good, bad] if luck < 0.7 else [bad] if luck < 0.9 else []
            if luck > 0.97:
                outcomes.append(ItemOutcome("foreign", succeeded=True, course_id="k", error=None))
        task.outcomes = tuple(outcomes)

    def forget_bodies(self, _r: Random | None) -> None:
        """Idempotency of finished tasks does not last forever."""
        self.by_body = {key: task for key, task in self.by_body.items() if task.pending}

    def lose_task(self, r: Random) -> None:
        """The API loses a task before it has run, and what it knew of its body."""
        pending = [task for task in self.tasks.values() if task.pending]
        if pending:
            task = r.choice(pending)
            del self.tasks[task.id]
            self.by_body = {key: each for key, each in self.by_body.items() if each is not task}

    def answer_of(self, task_id: str, r: Random | None = None) -> PollAnswer:
        """What a poll of this task brings."""
        self.api_now += 1
        if r is not None and r.random() < 0.2:
            return r.choice([*BLINDNESS, refused(404, api_time=self.api_now)])
        task = self.tasks.get(task_id)
        if task is None:
            return refused(404, api_time=self.api_now)
        if task.pending:
            return TaskPending(task.created_at, None if r and r.random() < 0.1 else self.api_now)
        if task.error is not None:
            return TaskFailed(task.created_at, task.completed_at, task.error)
        assert task.outcomes is not None
        return TaskCompleted(task.created_at, task.completed_at, task.outcomes)

    def poll(self, r: Random) -> None:
        ready = sorted(self.may_poll & self.shard._memory.batches.keys())
        if ready:
            self.ask(self.shard._memory.batches[r.choice(ready)], r)

    def ask(self, batch: Batch, r: Random | None = None) -> None:
        assert batch.task_id is not None
        answer = self.answer_of(batch.task_id, r)
        self.bench.polled(batch, answer)
        if batch.id not in self.shard._memory.batches or batch.task_id is None:
            self.may_poll.discard(batch.id)
        self.note_sealed()

    def poll_late(self, r: Random) -> None:
        if self.shard._memory.late:
            late = self.shard._memory.late[r.choice(sorted(self.shard._memory.late))]
            self.late_answered(late, self.answer_of(late.task_id, r))

    def note_sealed(self) -> None:
        for batch in self.shard._memory.batches.values():
            if batch.body is not None and (batch.offset is None or batch.id not in self.known_batches):
                self.known_batches[batch.id] = batch.body

    # --- what must be true at any moment ----------------------------------------------------------

    def check(self) -> None:
        self.check_places()
        self.check_lanes()
        self.check_results()

    def check_places(self) -> None:
        """Every change below the position is in exactly one place."""
        memory = self.memory
        results = set(self.bench.results)
        for pending in (self.step.results if self.step else [], memory.draft._results):
            if pending:
                offsets = [result.offset for result in pending]
                assert len(set(offsets)) == len(offsets)
                assert results.isdisjoint(offsets), "one result per change"
                results.update(offsets)
        places = sorted(results)
        places += [item.offset for batch in memory.batches.values() for item in batch.items]
        places += [held.item.offset for lane in memory.waiting.lanes.values() for held in lane.held.values()]
        assert sorted(places) == list(range(memory.position.next_offset))

    def check_lanes(self) -> None:
        busy = {}
        for batch in self.memory.batches.values():
            for item in batch.items:
                assert (batch.integration_id, item.origin_id) not in busy, "one open submission per course"
                busy[batch.integration_id, item.origin_id] = batch.id
        for late in self.memory.late.values():
            for item in late.items:
                assert (late.record.integration_id, item.origin_id) not in busy
                busy[late.record.integration_id, item.origin_id] = late.batch_id
        waiting = self.memory.waiting
        lanes = waiting.lanes
        assert busy == {
            (name, course): by for name, lane in lanes.items() for course, by in lane.busy.items()
        }
        held = [each for lane in lanes.values() for each in lane.held.values()]
        assert waiting.backlog.courses == len(held)
        unsent = [batch.body for batch in self.memory.batches.values() if batch.body is not None]
        assert waiting.backlog.bodies == sum(len(body) for body in (*unsent, *(each.body for each in held)))
        for name, lane in lanes.items():
            ready = [course for course, held in lane.held.items() if held.ready]
            assert lane.open_batches == sum(
                each.integration_id == name for each in self.memory.batches.values()
            )
            assert lane.open_bulk == sum(
                each.integration_id == name and each.bulk for each in self.memory.batches.values()
            )
            for queue in (lane.normal, lane.bulk):
                queued = [lane.held[course] for course in ready if lane.held[course].bulk is queue.bulk]
                assert (queue.count, queue.bytes) == (len(queued), sum(each.size() for each in queued))
            assert not lane.idle, "lanes that hold nothing are forgotten"
            for course in lane.held:
                reasons = [course in lane.busy, (name, course) in waiting.backoff, course in ready]
                assert sum(reasons) == 1, "a change waits for exactly one reason"
                if not self.memory.draft.is_wanted and self.step is None:
                    assert lane.held[course].durable
        self.check_ages()
        assert self.shard.count_held() == (
            self.shard.next_read - len(self.bench.results) - len(self.step.results if self.step else ())
        ), "what was read is here, or has ended"

    def check_ages(self) -> None:
        """Whatever joined, left and was replaced: counted are those that wait, each for its own reason."""
        waiting = self.memory.waiting
        expected: dict[WaitReason, list[int]] = {reason: [] for reason in WaitReason}
        for name, lane in waiting.lanes.items():
            for course, held in lane.held.items():
                backs_off = (name, course) in waiting.backoff
                assert (held.ages is not None) is (held.durable or backs_off or held.last is not None)
                if held.ages is None:
                    continue
                reason = WaitReason.COURSE_BUSY if course in lane.busy else WaitReason.WINDOW
                reason = WaitReason.BACKOFF if backs_off else reason
                expected[WaitReason.PARKED if lane.parked else reason].append(held.item.consumed_at)
        assert waiting.by_reason() == {
            reason: (len(consumed), min(consumed) // 1000 * 1000 if consumed else None)
            for reason, consumed in expected.items()
        }

    def check_results(self) -> None:
        """Of committed results: each says what has happened."""
        corrected = [each.result.offset for each in self.bench.corrections]
        assert len(set(corrected)) == len(corrected)
        assert all(self.bench.results[offset].status == "TIMED_OUT" for offset in corrected)

    def check_result(self, result: Result) -> None:
        entry = self.input[result.offset]
        code = None if result.error is None else result.error.code
        course = (result.integration_id, result.origin_id)
        is_deactivation = isinstance(entry, Change) and entry.operation is DEACTIVATE
        if is_deactivation and result.status == "SUCCEEDED":
            assert result.batch_id in self.carried_out, "C3: by this very call"
            assert result.task_id is None
        elif is_deactivation and code == "COURSESYNC.COURSE_UNKNOWN":
            assert isinstance(entry, Change)
            assert b"own" not in entry.body
            assert result.offset not in self.sent.get(course, [])
        elif is_deactivation and result.status == "FAILED":
            assert code == UNCONFIRMED or result.batch_id not in self.carried_out, "R13"
        elif result.status == "SUCCEEDED":
            assert result.task_id is not None
            task = self.tasks[result.task_id]
            assert task.outcomes is not None
            assert task.made_by == result.batch_id, "C3: by this very submission"
            assert (result.origin_id, result.offset) in task.items
            said = [outcome.succeeded for outcome in task.outcomes if outcome.origin_id == result.origin_id]
            assert all(said)
            assert said
        elif result.status == "UNCHANGED":
            assert result.offset not in self.sent.get(course, []), "R16: nothing was sent for it"
            assert result.attempts == 0
        elif result.status == "SUPERSEDED":
            assert result.superseded_by is not None
            newer = self.input[result.superseded_by]
            assert self.bench.results[newer.offset].status != "REJECTED", "R10: only what was taken in"
            assert result.offset not in self.sent.get(course, []), "R10: never sent"
            assert newer.offset > result.offset
            assert (newer.integration_id, newer.origin_id) == course
        elif result.status == "TIMED_OUT" and code == "COURSESYNC.TASK_TIMED_OUT":
            assert result.task_id is not None
            assert self.api_now - self.tasks_ever_created_at(result.task_id) > 100_000, "R11"
        elif result.status == "REJECTED":
            for_room = code == "COURSESYNC.BACKLOG_FULL"
            assert code is not None
            assert isinstance(entry, Change) is for_room
            assert not (for_room and self.settings.backlog.on_full == "pause")
            assert result.offset not in self.sent.get(course, []), "what was rejected is not sent"
        elif result.status == "FAILED":
            assert result.batch_id in self.known_batches
            assert result.error is not None
            if code == OUR_KEY:
                assert any(
                    (each.integration_id, each.origin_id) == course
                    for each in self.input[result.offset + 1 :]
                ), "C7: our own fault ends no change, unless a newer one takes over (R10)"

    def tasks_ever_created_at(self, task_id: str) -> int:
        task = self.tasks.get(task_id)
        return -(2**60) if task is None else task.created_at

    # --- a restart, compared ----------------------------------------------------------------------

    def compare_restart(self, r: Random) -> None:
        """What a restart would make of the journal is what the live shard is."""
        if self.step is not None:
            self.commit(r)
        self.tick(r)
        self.shard.want_position()
        self.take_step(r)
        self.commit(r)
        bench, live = self.bench, self.bench.shard
        assert without_times(bench.journal_of(live)) == without_times(bench.journal_now())
        self.compact(r)
        restored = bench.restored(self.left_by_compaction())
        assert bench.journal_of(restored) == bench.journal_now()
        assert self.lanes_of(restored) == self.lanes_of(live)
        assert {id_: each.offset for id_, each in restored._memory.batches.items()} == {
            id_: each.offset for id_, each in live._memory.batches.items()
        }
        assert all(each.fate_unknown for each in restored._memory.batches.values() if each.task_id is None)
        for one, other in zip(
            sorted(restored._memory.batches.values(), key=batch_id_of),
            sorted(live._memory.batches.values(), key=batch_id_of),
            strict=True,
        ):
            for kept in ("body", "digest", "api_floor", "replays", "bulk"):
                assert getattr(one, kept) == getattr(other, kept)

    def lanes_of(self, shard: Shard) -> dict[str, tuple[object, ...]]:
        """What decides about what goes next; which back-offs are over only where no clock was set back."""
        waiting = shard._memory.waiting
        return {
            name: (
                lane.busy,
                (lane.open_batches, lane.open_bulk),
                {
                    course: (
                        held.item,
                        held.body,
                        held.last,
                        (held.durable, held.bulk),
                        None if self.set_back or self.is_close(held) else held.ready,
                    )
                    for course, held in lane.held.items()
                },
            )
            for name, lane in waiting.lanes.items()
        }

    def is_close(self, held: Held) -> bool:
        """The journal knows the end of a back-off to the millisecond, the memory more exactly."""
        return held.not_before is not None and abs(held.not_before - self.bench.now.wall) <= 2

    def late_answered(self, late: LateTask, answer: PollAnswer) -> None:
        ruling = self.bench.judge.late(late, answer, self.bench.judge.key_number, self.bench.now)
        self.shard.late_answered(late.batch_id, answer, ruling, self.bench.now)

    # --- what must come true at last --------------------------------------------------------------

    def heal(self) -> None:
        """Everything answers as it should from now on. Then every change gets its result, and the LMS holds
        the newest change of each course where that succeeded.
        """
        self.forget_bodies(None)
        self.bench.now = self.bench.now._replace(wall=self.bench.now.wall + self.set_back_by)
        for _ in range(400):
            if self.is_over():
                break
            self.heal_a_little()
        assert sorted(self.bench.results) == list(range(len(self.input))), "nothing is lost"
        for result in self.bench.results.values():
            self.check_result(result)
        assert self.shard._memory.batches == {}
        assert self.memory.waiting.lanes == {}
        left = [key for key in self.bench.journal_now() if not key.startswith(b'["floor"')]
        assert left == [journal.POSITION_KEY], "nothing but the floors stays in the journal"
        self.check_convergence()

    def is_over(self) -> bool:
        everything = self.shard.next_read == len(self.input) == len(self.bench.results)
        return (
            everything
            and not self.shard._memory.batches
            and not self.shard._memory.late
            and self.step is None
        )

    def heal_a_little(self) -> None:
        start = self.shard.next_read
        if start < len(self.input):  # else nothing but time may be needed
            self.shard.read(self.input[start:], len(self.input), self.bench.now)
        for task in self.tasks.values():
            if task.pending and not self.past_watch(task):
                self.end_task(task)
        for batch_id in sorted(self.may_post & self.shard._memory.batches.keys()) if self.may_start else ():
            self.post(self.shard._memory.batches[batch_id])
        for batch_id in sorted(self.may_poll & self.shard._memory.batches.keys()):
            self.ask(self.shard._memory.batches[batch_id])
        for late in list(self.shard._memory.late.values()):
            self.late_answered(late, self.answer_of(late.task_id))
        self.bench.pass_time(2.0)
        self.api_now += 2000
        self.tick(None)
        self.take_step(None)
        self.commit(None)
        self.check()

    def check_convergence(self) -> None:
        """C8."""
        newest: dict[tuple[str, str], Change] = {}
        for entry in self.input:
            if isinstance(entry, Change):
                newest[entry.integration_id, entry.origin_id] = entry
        for change in newest.values():
            if self.bench.results[change.offset].status in ("SUCCEEDED", "UNCHANGED"):
                self.check_held(change)


def batch_id_of(batch: Batch) -> str:
    return batch.id


def content_of(body: bytes, origin_id: str) -> str:
    """`body` is a batch's, or one item."""
    items = json.loads(body)
    [course] = [item["course"] for item in items.get("items", [items]) if item["origin_id"] == origin_id]
    said = {name: value for name, value in course.items() if value is not None}
    title: str = said.pop("title")
    assert said == OTHER_FIELDS.get(origin_id, {})
    return title


def without_times(records: Mapping[bytes, bytes]) -> dict[bytes, object]:
    """Less the end of back-offs: memory forgets it when it is over, the journal does not."""
    plain: dict[bytes, object] = {}
    for key, value in records.items():
        _, record = journal.decode(key, value)
        if isinstance(record, journal.Wait):
            plain[key] = (record.item, bytes(record.body), record.last)
        else:
            plain[key] = value
    return plain


Action = Callable[[World, Random], None]
USUAL: list[Action] = [World.publish, World.read, World.tick, World.take_step, World.commit, World.pass_time]
USUAL += [World.submit, World.poll, World.run_task, World.poll_late]
UNUSUAL: list[Action] = [World.crash, World.pass_much_time, World.set_clock_back, World.compare_restart]
UNUSUAL += [World.forget_bodies, World.lose_task, World.ask_for_position, World.restart]
