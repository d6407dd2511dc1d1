"""Watches the daemon's edges and holds what happens there against the rules, at the moment it happens.

It sees what the log and the API see: every transaction that was written, who owns which partition, every
POST when it leaves and every answer that is heard. It asks the daemon nothing. What it finds is a
violation even where chance, or another rule, kept the contract this time::

    log side    R2 a verdict whole, in one transaction · no gap behind a position · R9 a batch is written once
    bounds      C6 the windows, the backlog, and the size of a record · a dead letter with each
                rejection (`bounds`)
    manners     R4, R5 who may open a shard, and who may begin to read (`manners`)
    API side    C2 one open submission per course · R3 nothing before its record · R6 who may POST,
                and when · Retry-After is kept
    urgency     R21 what is bulk is sealed and sent after what is not, and is not starved (`urgency`)
    known       R15, R16 what is said of courses, when it is said (`known`)
    repeats     R20 older content is not sent over newer content (`repeats`)
    pace        how many POSTs of an integration at a time, how many calls a second (`pace`)
    polls       when a task is polled, and how many polls a process makes (`polls`)
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

import msgspec

from daemon.config import Settings
from daemon.core.answers import (
    Accepted,
    Done,
    NoAnswer,
    PollAnswer,
    Refused,
    SubmitAnswer,
    TaskCompleted,
    TaskFailed,
    TaskPending,
)
from daemon.kombo import probe
from daemon.log.port import Transaction
from tests.sandbox.simulator.state import Simulator
from tests.sandbox.simulator.tasks import SimulatedTask
from tests.sim.bounds import Bounds
from tests.sim.journal_view import JournalView, batch_record, courses_of
from tests.sim.known import Known
from tests.sim.obedience import Obedience
from tests.sim.pace import Pace
from tests.sim.policies import LAG_MAX, InForce
from tests.sim.polls import PollsJudge
from tests.sim.repeats import Headers, RepeatsJudge
from tests.sim.seen import Course, Sealed, SeenEvent, Who, decode_event
from tests.sim.takeovers import EPSILON, Takeovers
from tests.sim.urgency import Urgency

ABSURD = 86_400.0
"""A longer `Retry-After` is ignored, and of a shorter one `park.probe_max` is kept."""


class Moment(StrEnum):
    SEALED = "sealed"
    """A batch was written, and may be POSTed as soon as its owner knows."""
    POSTED = "posted"
    ANSWERED = "answered"
    """A POST has brought a task, or has deactivated a course, which no record holds yet."""
    ENDED = "ended"
    """A poll has told the end of a task, and no result is written yet."""
    HELD = "held"
    """A change that was sent before waits for its next attempt."""
    WATCHED = "watched"
    """A task has timed out and is watched."""


@dataclass
class _Accepted:
    """Of a task, when it was first heard of."""

    who: Who
    """Which process has heard of it."""
    partition: int
    at: float
    first_after: float
    is_polled: bool = False
    is_repeated: bool = False
    """The API has named it again."""
    overdue_since: dict[Who, float] = field(default_factory=dict)
    """When each process was first told that it is too old."""


class Told(NamedTuple):
    """A result, when it was committed."""

    partition: int
    offset: int
    batch_id: str | None
    at: float


@dataclass
class Witness:
    settings: Settings
    clock: Callable[[], float]
    api_now: Callable[[], int]
    simulator: Simulator
    inputs: Callable[[int, int, int], Sequence[int]]
    """Partition, first offset, last offset (exclusive) → where a `read_committed` reader finds records."""
    value_of: Callable[[int, int], bytes | None]
    """Partition, offset → the value of the input record there; None if it is gone."""
    headers_of: Callable[[int, int], Headers]
    violations: list[tuple[str, str]] = field(default_factory=list)
    """Kind and sentence."""
    told: list[Told] = field(default_factory=list)
    batches: dict[str, Sealed] = field(default_factory=dict)
    heard_end: dict[str, int] = field(default_factory=dict)
    """Tasks of which some process was told that they had ended, and the API time when it was first told."""
    overdue: set[str] = field(default_factory=set)
    """Tasks that answered `PENDING` when they were older than `task.timeout`, by what the answer says and in truth
    (R11)."""
    is_prompt: bool = False
    """No clock jumps and the log answers, so it can be said when a task must be polled and time out."""
    halts: list[str] = field(default_factory=list)
    """Each time that a process halted, in a sentence."""
    on_moment: Callable[[Moment, Who], None] | None = None
    """Told when something happens after which a fault would hurt most."""
    note: Callable[[str], None] | None = None
    """Told in words what happens, where somebody wants to read it."""
    digest: hashlib.blake2b = field(default_factory=lambda: hashlib.blake2b(digest_size=16))
    """Of everything that crossed the edges: two runs of a seed must end with the same."""
    _journals: defaultdict[int, JournalView] = field(default_factory=lambda: defaultdict(JournalView))
    in_force: InForce = field(init=False)
    bounds: Bounds = field(init=False)
    takeovers: Takeovers = field(init=False)
    known: Known = field(init=False)
    obedience: Obedience = field(init=False)
    urgency: Urgency = field(init=False)
    repeats: RepeatsJudge = field(init=False)
    poll_times: PollsJudge = field(init=False)
    _by_body: defaultdict[tuple[str, bytes], list[Sealed]] = field(default_factory=lambda: defaultdict(list))
    _paces: dict[Who, Pace] = field(default_factory=dict)
    _accepted: dict[str, _Accepted] = field(default_factory=dict)
    """By task."""
    _timed_out: set[str] = field(default_factory=set)
    """Tasks with which a change ended `TIMED_OUT`."""
    _held_off: dict[tuple[Who, str], float] = field(default_factory=dict)
    """Until when a process may not POST for an integration, since the API has asked for it."""

    def __post_init__(self) -> None:
        self.in_force = InForce(self.settings, self.clock)
        self.bounds = Bounds(self.settings, self.in_force, self.accuse)
        self.takeovers = Takeovers(self.settings, self.clock, self.accuse)
        self.obedience = Obedience(
            self.clock,
            lambda batch_id: self.batches[batch_id].record.offsets if batch_id in self.batches else (),
            self.accuse,
        )
        self.known = Known(self.in_force, self.simulator, self.clock, self.value_of, self.accuse)
        self.urgency = Urgency(self.settings, self.clock, self.value_of, self.accuse)
        self.repeats = RepeatsJudge(self.value_of, self.headers_of, self.accuse)
        self.poll_times = PollsJudge(self.settings, self.clock, self.accuse)

    def accuse(self, kind: str, sentence: str) -> None:
        self.violations.append((kind, f"{self.clock():.3f} s: {sentence}"))
        if self.note is not None:
            self.note(f"!!! {kind}: {sentence}")

    def _moment(self, moment: Moment, who: Who) -> None:
        if self.on_moment is not None:
            self.on_moment(moment, who)

    def _tell(self, text: str) -> None:
        if self.note is not None:
            self.note(text)

    # --- the log ----------------------------------------------------------------------------------

    def fenced(self, who: Who, partition: int) -> None:
        """This process has become the owner of the partition: every earlier one is fenced."""
        self.bounds.fenced(who, partition)
        self.takeovers.fenced(who, partition, self._journals[partition])
        self.urgency.fenced(partition)
        self.repeats.fenced(partition, self._journals[partition].next_offset)
        self.digest.update(f"{self.clock()} {who} owns {partition}".encode())

    def committed(self, partition: int, transaction: Transaction, offsets: Sequence[int]) -> None:
        """Everything of this transaction is visible from now on. `offsets`: of its journal records."""
        journal = self._journals[partition]
        events = [decode_event(message.value or b"") for message in transaction.results]
        results = {e.data.change.offset for e in events if e.type == "course.sync.resolved"}
        before, waited = journal.next_offset, dict(journal.waits)
        was_open, was_busy = list(journal.batches), self._busy(journal)
        opened, closed = self._journalled(partition, journal, transaction, offsets)
        self.takeovers.committed(partition, journal)
        self.takeovers.tasks_made(partition, journal.tasks)
        waits = {wait.offset for wait in journal.waits.values()}
        accounted = results | waits
        for batch in journal.batches.values():
            accounted.update(batch.offsets)
        self._judge_verdicts(partition, closed, accounted, events)
        self._judge_position(partition, before, journal.next_offset, accounted)
        if before is not None and journal.next_offset is not None:
            self.repeats.committed(partition, self.inputs(partition, before, journal.next_offset), events)
        who = self.takeovers.owner(partition).who
        self.bounds.judge_window(who, partition, journal, opened, closed)
        self.bounds.judge_room(partition, waited, journal, opened, closed, events)
        self.bounds.judge_dead_letters(transaction.dead_letters, events)
        self.known.committed(who, partition, transaction, events, journal)
        free = waited.keys() - was_busy - self._busy(journal)
        still = {course: waited[course] for course in free if journal.waits.get(course) == waited[course]}
        self.urgency.committed(
            partition,
            still,
            [self.batches[batch_id] for batch_id in was_open],
            opened,
            closed,
            journal,
            events,
        )
        now = self.clock()
        self.told += [
            Told(partition, e.data.change.offset, e.data.batch_id, now)
            for e in events
            if e.type == "course.sync.resolved"
        ]
        timed_out = {e.data.task_id or "" for e in events if e.data.status == "TIMED_OUT"}
        self._timed_out |= timed_out
        for task_id in timed_out:
            self.poll_times.ended(task_id)
        if any(event.data.status == "TIMED_OUT" for event in events):
            self._moment(Moment.WATCHED, who)
        if any(offset in waits for sealed in closed for offset in sealed.record.offsets):
            self._moment(Moment.HELD, who)
        if opened:
            self._moment(Moment.SEALED, who)
        self._digest_of(partition, transaction)
        self._tell_commit(partition, transaction, events, opened, closed)

    def commit_begins(self, who: Who, partition: int, transaction: Transaction) -> None:
        self.obedience.commit_begins(who, partition, transaction)
        self.bounds.commit_begins(who, partition)

    def commit_returns(self, who: Who, partition: int) -> None:
        """This process knows now that its commit was written."""
        owns = self.takeovers.owner(partition).who == who
        self.takeovers.commit_returns(who, partition)
        self.urgency.commit_returns(partition)
        self.bounds.commit_returns(who, partition, self._journals[partition].waits, owns=owns)

    def ended_in_order(self, who: Who, held: frozenset[int]) -> None:
        """This process was told to end, and has. `held`: the partitions that no rebalance has taken from it before."""
        self.takeovers.ended_in_order(who, {number: self._journals[number] for number in held})

    def delivered(self, who: Who, partition: int) -> None:
        """The log has handed out records of the input."""
        self.bounds.delivered(who, partition)

    def _journalled(
        self, partition: int, journal: JournalView, transaction: Transaction, offsets: Sequence[int]
    ) -> tuple[list[Sealed], list[Sealed]]:
        """Fold the transaction in; returns the batches that it opens and closes."""
        opened, closed = [], []
        for (key, value), offset in zip(transaction.journal, offsets, strict=True):
            kind, *rest = msgspec.json.decode(key)
            if kind == "batch" and value is not None:
                if rest[0] in self.batches:
                    self.accuse("rewritten_batches", f"batch {rest[0]} was written a second time (R9)")
                record = batch_record(rest[0], value)
                if record.operation == "upsert" and record.courses != courses_of(record.body):
                    self.accuse(
                        "rewritten_batches", f"batch {rest[0]} names other courses than its body holds"
                    )
                ownership = self.takeovers.owner(partition).number
                sealed = Sealed(record, partition, self.api_now(), ownership)
                self.batches[rest[0]] = sealed
                self._by_body[record.integration_id, record.body].append(sealed)
                opened.append(sealed)
            elif kind == "batch" and rest[0] in journal.batches:
                self.batches[rest[0]].is_open = False
                closed.append(self.batches[rest[0]])
            journal.apply(key, value, offset)
        return opened, closed

    def _busy(self, journal: JournalView) -> set[Course]:
        """The courses with an open submission, or with a task that is watched."""
        ids = [*journal.batches, *(parts[0] for parts in journal.late)]
        records = [self.batches[batch_id].record for batch_id in ids]
        return {(record.integration_id, course) for record in records for course in record.courses}

    def _judge_verdicts(
        self, partition: int, closed: list[Sealed], accounted: set[int], events: list[SeenEvent]
    ) -> None:
        """R2: what a batch held is ended or held anew where it is closed, and ended nowhere else."""
        for sealed in closed:
            for offset in sealed.record.offsets:
                if offset not in accounted:
                    self.accuse(
                        "torn_steps",
                        f"batch {sealed.record.batch_id} was closed, and the transaction neither ends nor "
                        f"holds its change {partition}/{offset} (R2)",
                    )
        for event in events:
            batch_id = event.data.batch_id
            if batch_id is not None and (found := self.batches.get(batch_id)) is not None and found.is_open:
                self.accuse(
                    "torn_steps",
                    f"change {partition}/{event.data.change.offset} ended {event.data.status} by batch "
                    f"{batch_id}, which the same transaction leaves open (R2)",
                )

    def _judge_position(
        self, partition: int, before: int | None, after: int | None, accounted: set[int]
    ) -> None:
        """A position stands for every change before it."""
        if before is None or after is None:
            return
        if after < before:
            self.accuse("torn_steps", f"position of {partition} went back from {before} to {after}")
        for offset in self.inputs(partition, before, after):
            if offset not in accounted:
                self.accuse(
                    "torn_steps",
                    f"the position of {partition} moved past change {offset}, which has no result, no batch "
                    "and does not wait",
                )

    def _digest_of(self, partition: int, transaction: Transaction) -> None:
        self.digest.update(f"{self.clock()} {partition} {transaction.position}".encode())
        for key, value in transaction.journal:
            self.digest.update(key + (value or b"-"))
        for key, value in transaction.courses:
            self.digest.update(key + (value or b"-"))
        for message in (*transaction.results, *transaction.dead_letters):
            self.digest.update((message.key or b"-") + (message.value or b"-"))

    def _tell_commit(
        self,
        partition: int,
        transaction: Transaction,
        events: list[SeenEvent],
        opened: list[Sealed],
        closed: list[Sealed],
    ) -> None:
        if self.note is None:
            return
        waits = [msgspec.json.decode(k)[2] for k, v in transaction.journal if k.startswith(b'["wait"') and v]
        parts = [
            f"position {self._journals[partition].next_offset}",
            *(f"+batch {s.record.batch_id} ({', '.join(s.record.courses)})" for s in opened),
            *(f"-batch {s.record.batch_id}" for s in closed),
            *(f"waits {origin_id}" for origin_id in waits),
            *(f"{e.data.change.offset} {e.data.status}" for e in events),
        ]
        self._tell(f"commit p{partition}: {', '.join(parts)}")

    def sealed_again(self, sealed: Sealed) -> float:
        """API time when the next batch with the same bytes was written, or infinity."""
        same = self._by_body[sealed.record.integration_id, sealed.record.body]
        later = (other.api_ms for other in same[same.index(sealed) + 1 :])
        return min(later, default=math.inf)

    # --- the API ----------------------------------------------------------------------------------

    def _pace(self, who: Who) -> Pace:
        if who not in self._paces:
            self._paces[who] = Pace(who, self.settings, self.in_force, self.accuse)
        return self._paces[who]

    def posted(self, who: Who, integration_id: str, body: bytes) -> int:
        """A POST leaves now. Returns its number, for when it comes back."""
        self._judge_post(who, integration_id, body)
        return self._pace(who).posted(self.clock(), integration_id)

    def polls(self, who: Who, integration_id: str, task_id: str) -> None:
        """A GET leaves now."""
        is_probe = integration_id == probe.INTEGRATION_ID
        self._pace(who).called(self.clock(), None if is_probe else integration_id)
        accepted = self._accepted.get(task_id)
        if accepted is not None:
            ownership = self.takeovers.owner(accepted.partition).number
            self.poll_times.polled(who, task_id, ownership)
        if accepted is None or accepted.is_polled or not self.is_prompt:
            return
        accepted.is_polled = True
        if accepted.who == who:
            waited = self.clock() - accepted.at
            later = self.in_force.values(who, integration_id, "poll.first_after")
            due = 0.9 * min(accepted.first_after, *later)
            if waited < due - EPSILON:
                self.accuse(
                    "hurry",
                    f"{who[0]} polls the task {task_id} after {waited:.3f} s, and not after {due:g} s",
                )

    def _judge_post(self, who: Who, integration_id: str, body: bytes) -> None:
        now = self.clock()
        self.obedience.posted(who, integration_id)
        self.digest.update(f"{now} {who} {integration_id}".encode() + body)
        known = self._by_body.get((integration_id, body), [])
        sealed = next((s for s in reversed(known) if s.is_open), None)
        if sealed is None:
            if known:
                over = known[-1].record.batch_id
                self.accuse("early_posts", f"{who[0]} POSTs batch {over}, which is over")
            else:
                self.accuse(
                    "undurable_posts", f"{who[0]} POSTs what no record holds (R3, R13): {body[:100]!r}"
                )
            return
        self._tell(f"{who[0]} POSTs batch {sealed.record.batch_id}")
        self._moment(Moment.POSTED, who)
        self.urgency.posted(sealed)
        sealed.posts[who] = self.takeovers.posted(who, sealed, self._journals[sealed.partition])
        if now < sealed.answered_by.get(who, 0.0) - EPSILON:
            self.accuse(
                "early_posts",
                f"{who[0]} POSTs batch {sealed.record.batch_id} again while its last POST, unanswered, may be on its "
                "way (R6)",
            )
        self._judge_open(sealed)
        asked = self._held_off.get((who, integration_id), 0.0)
        if now < asked - EPSILON:
            self.accuse(
                "early_posts",
                f"{who[0]} POSTs for {integration_id}, which the API had asked to wait until {asked:.3f} s",
            )

    def _judge_open(self, sealed: Sealed) -> None:
        """C2: everything else that the API was sent for these courses is seen terminal or past its
        watch. Of a body that the API ran twice, or answered with another task's id later on, the younger task speaks for both.
        """
        integration_id = sealed.record.integration_id
        digest = hashlib.sha256(sealed.record.body).digest()
        courses = set(sealed.record.courses)
        for other in self._journals[sealed.partition].batches.values():
            shared = courses.intersection(other.courses)
            is_other = other.batch_id != sealed.record.batch_id and other.integration_id == integration_id
            if shared and is_other:
                self.accuse(
                    "misordered",
                    f"batch {sealed.record.batch_id} is POSTed while batch {other.batch_id} with "
                    f"{' '.join(sorted(shared))} is open (C2)",
                )
        tasks = [t for t in self.simulator.tasks.values() if t.integration_id == integration_id]
        settled = [task for task in tasks if self._is_settled(task)]
        for task in tasks:
            if task.body_sha256 == digest or courses.isdisjoint(item.origin_id for item in task.items):
                continue
            if not any(
                task.body_sha256 in (s.body_sha256, *s.stranger_bodies) and s.created_at >= task.created_at
                for s in settled
            ):
                self.accuse(
                    "misordered",
                    f"batch {sealed.record.batch_id} is POSTed while the task {task.task_id} with other content "
                    f"of {' '.join(sorted(courses))} is open, for all that anybody was told (C2)",
                )

    def watched_ms(self, integration_id: str) -> float:
        """The age at which a task that has not ended is not watched any more, at the earliest."""
        settings = ("task.timeout", "task.watch_after_timeout")
        return float(min(sum(pair) for pair in self.in_force.ever(integration_id, *settings))) * 1000

    def _is_settled(self, task: SimulatedTask) -> bool:
        age = self.api_now() - task.created_at
        return task.task_id in self.heard_end or age >= self.watched_ms(task.integration_id)

    def post_answered(
        self, who: Who, number: int, integration_id: str, body: bytes, started: float, answer: SubmitAnswer
    ) -> None:
        """This process has heard the answer to its POST, or has given up waiting."""
        now = self.clock()
        self._pace(who).heard(now, integration_id, number, answer)
        self.digest.update(f"{now} {who} {answer!r}".encode())
        self._tell(f"{who[0]} hears: {_describe(answer)}")
        if isinstance(answer, Accepted):
            if (earlier := self._accepted.get(answer.task_id)) is not None:
                earlier.is_repeated = True
            else:
                first = min(self.in_force.values(who, integration_id, "poll.first_after"))
                partition = self._by_body[integration_id, body][-1].partition
                self._accepted[answer.task_id] = _Accepted(who, partition, now, first)
                self.poll_times.accepted(who, answer.task_id, self.takeovers.owner(partition).number)
        if isinstance(answer, Accepted | Done):
            self._moment(Moment.ANSWERED, who)
        understood = isinstance(answer, Accepted | Done) or (
            isinstance(answer, Refused) and 400 <= answer.status < 500 and answer.error.code is not None
        )
        if not understood:
            for sealed in self._by_body.get((integration_id, body), []):
                sealed.is_doubtful = sealed.is_doubtful or who in sealed.posts
        if not isinstance(answer, NoAnswer):
            for sealed in self._by_body.get((integration_id, body), []):
                if (post := sealed.posts.get(who)) is not None:
                    post.over = self.clock()
        if isinstance(answer, NoAnswer):
            for sealed in self._by_body.get((integration_id, body), []):
                sealed.answered_by[who] = started + self.settings.http.deadline
        elif isinstance(answer, Refused) and answer.retry_after:
            asked = (
                0.0 if answer.retry_after > ABSURD else min(answer.retry_after, self.settings.park.probe_max)
            )
            until = max(now + asked, self._held_off.get((who, integration_id), 0.0))
            self._held_off[who, integration_id] = until

    def poll_answered(self, who: Who, integration_id: str, task_id: str, answer: PollAnswer) -> None:
        """This process has heard what a poll of the task brought."""
        if isinstance(answer, TaskFailed):
            self._pace(who).unwell(integration_id)
        self.digest.update(f"{self.clock()} {who} {task_id} {answer!r}".encode())
        match answer:
            case TaskCompleted() | TaskFailed():
                self.heard_end.setdefault(task_id, self.api_now())
                self.poll_times.ended(task_id)
                self._moment(Moment.ENDED, who)
                self._tell(f"{who[0]} hears: task {task_id} {type(answer).__name__}")
            case TaskPending(created_at=created_at, api_time=api_time):
                timeouts = self.in_force.values(who, integration_id, "task.timeout")
                age = self.api_now() - self.simulator.tasks[task_id].created_at
                if api_time is not None:
                    told_age = min(api_time - created_at, age)
                    if told_age > min(timeouts) * 1000:
                        self.overdue.add(task_id)
                    if told_age > max(timeouts) * 1000:
                        self.poll_times.heard_overdue(who, task_id)
                    self._judge_stay(who, task_id, told_age / 1000 - max(timeouts), max(timeouts))

    def _judge_stay(self, who: Who, task_id: str, over: float, timeout: float) -> None:
        """A process that hears for some time that a task is pending and too old times it out (R11). `over`: by how many seconds,
        by the API's clock. A task that the API named twice may count as an earlier one, for which other rules hold.
        """
        accepted = self._accepted.get(task_id)
        if accepted is None or accepted.is_repeated or task_id in self._timed_out or not self.is_prompt:
            return
        over = min(over, self.clock() - accepted.at - timeout)
        if over <= 0:
            return
        since = accepted.overdue_since.setdefault(who, self.clock())
        if self.clock() - since > LAG_MAX:
            self.accuse(
                "overstayed", f"{who[0]} hears for long that the task {task_id} is too old by {over:.1f} s"
            )

    def halted(self, who: Who, reason: str) -> None:
        self.halts.append(f"{who[0]} halted at {self.clock():.3f} s: {reason}")


def _describe(answer: SubmitAnswer) -> str:
    match answer:
        case Accepted():
            return f"task {answer.task_id}"
        case Done():
            return f"done, course {answer.course_id}"
        case Refused():
            return f"HTTP {answer.status} {answer.error.code or ''}"
        case NoAnswer():
            return f"nothing ({answer.reason.value})"
