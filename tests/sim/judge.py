"""The checker of the contract over a simulated history, and what only a simulation can see.

`tests.sandbox.checker` holds input, results, tasks and LMS at the end against the contract; it is the
same that judges a run on a real broker. Added here: what the witness saw on the way, whether everything
came to an end, and claims of results that can only be verified by someone who knows every moment: that a
failure was not our own, a time-out not a clock's, a replay really stale.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from daemon.core.flow import KNOWN_SECONDS
from daemon.runtime.engine import Engine
from tests.sandbox.checker import (
    ApiTask,
    HeldCourse,
    Limits,
    LogRecord,
    SentItem,
    TaskStatus,
    content_digest,
    judge,
)
from tests.sandbox.simulator.faults import PASSING_CODES
from tests.sandbox.simulator.readout import course_rows, task_row
from tests.sandbox.simulator.wire import canonical
from tests.sim.journal_view import BatchRecord, JournalView
from tests.sim.outcome import Outcome
from tests.sim.world import World

DELAY_MAX = 18.0
"""Virtual seconds from a change to its result where nothing is wrong: twice (a submission of the course may
be open already) linger, POST, task, a poll that comes late, and a commit after each. Seldom more than 7; but
content that was published before takes one submission more, about 2 s, for each earlier task of it (R14).
"""

GIVEN_UP_BY_API = "PLATFORM.TASK_TIMED_OUT"
GIVEN_UP = "COURSESYNC.TASK_TIMED_OUT"
STALE_REPLAY = "COURSESYNC.STALE_REPLAY"
OPTIONAL_FIELDS = ("description", "thumbnail_url", "duration", "languages")
URLS = ("course_url", "thumbnail_url")
OUTCOME_MISSING = "COURSESYNC.OUTCOME_MISSING"
CONTENT_REFUSED = "PLATFORM.INPUT_INVALID"
NOT_FOUND = "PLATFORM.INTEGRATION_NOT_FOUND"

MAY_PASS = frozenset((*PASSING_CODES, "PLATFORM.UNKNOWN_ERROR", OUTCOME_MISSING))
OUR_OWN = "PLATFORM.AUTHENTICATION_INVALID"
PARKED = frozenset(("INTEGRATION.AUTHENTICATION_INVALID", "INTEGRATION.SETUP_SYNC_PENDING", None))
"""What waits for its customer, `wait.age_max` at most; None: the 403 without a code."""


REPLAYS = 8
"""Bodies of one batch that the daemon tries, where there are so many."""
_HOST = re.compile(r"https?://([^/]*)")


def ways_to_say(body: bytes) -> int:
    """Bodies that mean the same and differ as JSON: items in another order, languages after the first in another order,
    null for what is not there, host names in upper and lower case.
    """
    items = msgspec.json.decode(body).get("items", [])  # a mutant may seal anything
    ways = math.factorial(len(items))
    for item in items:
        course = item["course"]
        free = sum(course.get(name) is None for name in OPTIONAL_FIELDS)
        hosts = (_HOST.match(course.get(name) or "") for name in URLS)
        free += sum(char.isalpha() for host in hosts if host for char in host[1])
        ways *= 2**free * len(set(itertools.permutations((course.get("languages") or ())[1:])))
    return ways


def records(world: World, topic: str) -> Iterator[LogRecord]:
    for partition in range(world.cluster.partition_count(topic)):
        start = world.cluster.partition(topic, partition).start
        found, _ = world.cluster.read_committed(topic, partition, start, 1_000_000)
        for r in found:
            yield LogRecord(topic, partition, r.offset, r.key, r.value, r.headers)


def unfinished(world: World, changes: int) -> list[str]:
    """Why it has not converged yet; empty when it has."""
    results = sum(
        1 for r in records(world, world.topics.results) if not (r.key or b"").endswith(b'"correction"]')
    )
    found = []
    if results < changes:
        found.append(f"{changes - results} changes have no result")
    cluster, journal = world.cluster, world.topics.journal
    for partition in range(cluster.partition_count(journal)):
        start = cluster.partition(journal, partition).start
        left = JournalView().read(cluster.read_committed(journal, partition, start, 1_000_000)[0]).left()
        if left:
            found.append(f"journal partition {partition} still holds: {', '.join(left)}")
    return found


def calls_in_flight(world: World) -> int:
    """For instance the probe of a key, which no change waits for."""
    return sum(replica.engine._flow.in_flight for replica in world.replicas if replica.engine is not None)


def judge_history(world: World, outcome: Outcome) -> None:
    """Once everything has healed and has had its time."""
    settings = world.settings
    limits = Limits(
        item_bytes_max=settings.batch.bytes_max,
        task_timeout_ms=round(settings.task.timeout * 1000),
        watch_ms=round(settings.task.watch_after_timeout * 1000),
        backlog_rejects=settings.backlog.on_full == "reject",
    )
    verdict = judge(
        records(world, world.topics.changes),
        records(world, world.topics.results),
        tasks(world),
        lms(world),
        limits,
        records(world, world.topics.courses),
    )
    outcome.results = verdict.results
    for kind, count in verdict.counts.items():
        if count:
            outcome.counts[kind.value] += count
    outcome.lines += [f"{v.kind}: {v.line}" for v in verdict.first(20)]
    for line in unfinished(world, outcome.changes):
        outcome.add("unconverged", line)
    Claims(world, outcome).judge()
    judge_dead_letters(world, outcome)
    for replica in world.replicas:
        if replica.engine is not None:
            for line in kept_in_memory(replica.engine):
                outcome.add("leaks", f"{replica.name} has nothing left to do, and keeps {line} (C6)")


def judge_dead_letters(world: World, outcome: Outcome) -> None:
    """The original bytes, key and headers of each record that was rejected, once."""
    letters: dict[str, LogRecord] = {}
    for letter in records(world, world.topics.dead_letters):
        source = (dict(letter.headers)["coursesync-source"] or b"").decode()
        if source in letters:
            outcome.add("dead_letters", f"{source} has two dead letters")
        letters[source] = letter
    rejected = set()
    for record in records(world, world.topics.results):
        event = msgspec.json.decode(record.value or b"")
        if event["data"]["status"] == "REJECTED":
            rejected.add(event["id"])
    for record in records(world, world.topics.changes):
        source = f"{record.topic}/{record.partition}/{record.offset}"
        has_letter = source in letters
        letter = letters.pop(source, record)
        if has_letter is not (source in rejected):
            outcome.add("dead_letters", f"{source}: rejected {source in rejected}, dead letter {has_letter}")
        elif has_letter and not _holds(letter, record):
            outcome.add("dead_letters", f"the dead letter of {source} is not the record that it is of")
    for source in letters:
        outcome.add("dead_letters", f"{source}, of which there is a dead letter, is no record of the input")


def _holds(letter: LogRecord, record: LogRecord) -> bool:
    """R7: what is too large is cut."""
    own = tuple(header for header in letter.headers if not header[0].startswith("coursesync-"))
    value, whole = letter.value, record.value
    is_cut = any(name == "coursesync-value-size" for name, _ in letter.headers)
    same = (whole or b"").startswith(value or b"") if is_cut else (value or b"") == (whole or b"")
    return same and letter.key == record.key and own == record.headers


def kept_in_memory(engine: Engine) -> Iterator[str]:
    """What an engine holds of changes, of which each has had its result."""
    poller, flow = engine._poller, engine._flow
    if poller.blind or len(poller):
        yield f"{len(poller)} tasks to be polled, {len(poller.blind)} of which nothing is heard"
    queued = len(flow._delayed) + sum(len(state.queue) for state in flow._integrations.values())
    if queued or flow.in_flight:
        yield f"{queued} submissions, and {flow.in_flight} calls in flight"
    later = engine._ports.clock.now().mono
    for wait in (engine._ports.settings.park.probe_max * 2, KNOWN_SECONDS):
        later += wait
        flow.next_submission(later)
    if flow._integrations:
        yield f"{len(flow._integrations)} integrations to which nothing was sent for long"
    known, limit = 0, engine._ports.settings.courses.index_max
    for number, (partition, _) in engine._partitions.items():
        if partition.shard is None:
            continue
        known += len(partition.shard.known)
        memory = partition.shard._memory
        counts = (len(memory.waiting.lanes), memory.backlog.courses, memory.backlog.bodies)
        if any(counts):
            yield f"in partition {number} {counts[0]} lanes, {counts[1]} courses, {counts[2]} bytes of bodies"
    if known > limit or known + engine._indexes.budget.left != limit:
        yield f"{known} known courses, and {engine._indexes.budget.left} places for more, of {limit}"


def conclude(world: World, outcome: Outcome) -> None:
    """What every history ends with, and what was seen on the way."""
    outcome.plain = outcome.ok
    for kind, line in world.witness.violations:
        outcome.add(kind, line)
    for line in [*world.deaths, *world.unheard_errors()]:
        outcome.add("deaths", line)
    outcome.steps, outcome.trace = world.steps, world.trace
    outcome.digest = world.witness.digest.hexdigest()


def judge_isolation(world: World, outcome: Outcome, broken: str) -> None:
    """C5: who is well does not wait for who is not. Whatever one integration does says nothing of
    our key.
    """
    for line in world.witness.halts:
        outcome.add("halted", f"{line}, though the key is good (C5)")
    told = {(t.partition, t.offset): t.at for t in world.witness.told}
    for record in records(world, world.topics.changes):
        place = (record.partition, record.offset)
        if (record.key or b"").decode() == broken or place not in told:
            continue
        delay = told[place] - world.published[place]
        if delay > DELAY_MAX:
            outcome.add("delayed", f"change {place} of {record.key!r} took {delay:.1f} s (C5)")


def judge_alone(world: World, outcome: Outcome) -> None:
    """Who follows the answers, and has a limit alone, is never refused for too many."""
    refused = world.network.simulator.requests["submit 429"]
    if refused:
        outcome.add("crowded", f"{refused} POSTs were refused for too many, and there was nobody else")


class Claims:
    """What a result says that no reader of results can verify."""

    def __init__(self, world: World, outcome: Outcome) -> None:
        self._world = world
        self._outcome = outcome
        self._witness = world.witness
        self._tasks = world.network.simulator.tasks
        self._newest: dict[tuple[int, str, str], int] = {}
        self._content: dict[tuple[int, int], bytes] = {}

    def judge(self) -> None:
        resolved, corrected = [], set()
        for record in records(self._world, self._world.topics.results):
            event = msgspec.json.decode(record.value or b"")
            data = event["data"]
            place = (data["change"]["partition"], data["change"]["offset"])
            if event["type"] == "course.sync.corrected":
                corrected.add(place)
            else:
                resolved.append((place, data))
        for record in records(self._world, self._world.topics.changes):
            self._content[record.partition, record.offset] = record.value or b""
        for (partition, offset), data in resolved:
            if data["status"] != "REJECTED":
                course = (partition, data["integration_id"], data["origin_id"])
                self._newest[course] = max(offset, self._newest.get(course, -1))
        for place, data in resolved:
            match data["status"]:
                case "FAILED":
                    complaint = self._untrue_failure(place, data)
                case "TIMED_OUT":
                    complaint = self._untrue_time_out(data, told=place in corrected)
                case _:
                    complaint = None
            if complaint is not None:
                kind = "corrections" if "correction" in complaint else "false_failures"
                self._outcome.add(kind, f"change {place[0]}/{place[1]} {data['status']}, but {complaint}")

    def _untrue_failure(self, place: tuple[int, int], data: dict[str, Any]) -> str | None:
        if data["error"] is None:
            return "it does not tell why"
        code = data["error"]["code"]
        batch = self._witness.batches.get(data["batch_id"] or "")
        if batch is None:
            return f"its batch {data['batch_id']} was never written"
        if code == STALE_REPLAY:
            task = self._tasks.get(data["task_id"] or "")
            ways = ways_to_say(batch.record.body)
            as_bytes = self._world.network.simulator.plan.idempotency.compare == "bytes"
            alone = ways == 1 and not as_bytes and task is not None and self._is_skewed(task.integration_id)
            if task is not None and task.created_at > batch.api_ms and not alone:
                return (
                    f"the task {task.task_id} was made after batch {batch.record.batch_id} was sealed (R14)"
                )
            # White space alone is worth one try: whoever ignores it once ignores it always.
            tries = REPLAYS if as_bytes or ways > 1 else 2
            if data["attempts"] < tries:
                return f"there are {ways} ways to say it, and {data['attempts']} were tried (R14)"
            if not as_bytes and ways > 1 and len(self._different_as_json(batch.record)) < 2:
                return f"there are {ways} ways to say it, and those that were tried are equal as JSON (R14)"
            return None
        # A change that waits for its retry ends with its failure when a newer one comes (R10).
        newer = self._newest[place[0], data["integration_id"], data["origin_id"]] > place[1]
        if code == OUR_OWN and not newer:
            return f"{code} ends no change (C7)"
        if code in PARKED and not newer and not self._waited_long(place):
            return f"{code} ends no change before {self._world.settings.wait.age_max:g} s"
        if data["task_id"] is None:
            return self._untrue_refusal(place, data, code)
        early = data["attempts"] < self._world.settings.retry.attempts_max
        if code in MAY_PASS and early and not newer:
            return f"it was given up after {data['attempts']} attempts for {code}, which may pass"
        return None

    def _is_skewed(self, integration_id: str) -> bool:
        """Whether some task of the integration has a time that is not the right one. Then a floor may be ahead of the
        clock unnoticed, until an answer reports the time: of a course with one body as JSON, the first task decides.
        """
        return any(
            task.stated_offset_ms for task in self._tasks.values() if task.integration_id == integration_id
        )

    def _different_as_json(self, last: BatchRecord) -> set[bytes]:
        """The bodies of these changes, as an API sees them that compares parsed JSON."""
        return {
            canonical(batch.record.body)
            for batch in self._witness.batches.values()
            if batch.record.batch_id.split("-")[0] == last.batch_id.split("-")[0]
            and set(batch.record.offsets) == set(last.offsets)
        }

    def _waited_long(self, place: tuple[int, int]) -> bool:
        """As far as the clocks of hosts can tell, which are set in some histories."""
        told = next(t.at for t in self._witness.told if (t.partition, t.offset) == place)
        waited = told - self._world.published[place]
        return waited > self._world.settings.wait.age_max - 1 or self._outcome.faults["clock jumps"] > 0

    def _untrue_refusal(self, place: tuple[int, int], data: dict[str, Any], code: str | None) -> str | None:
        """A change that failed without a task: the API must have refused its very content, or not know the
        integration; and no task may have been made of the batch."""
        batch = self._witness.batches[data["batch_id"]]
        if code == CONTENT_REFUSED:
            refused = self._world.network.refused_content
            if refused is None or refused not in self._content[place]:
                return "the API takes its content"
        elif code not in PARKED and code != NOT_FOUND:
            return f"{code or 'an answer without a code'} is not about the change (C7)"
        digest = hashlib.sha256(batch.record.body).digest()
        until = self._witness.sealed_again(batch)
        for task in self._tasks.values():
            mine = task.integration_id == batch.record.integration_id and task.body_sha256 == digest
            if mine and batch.api_ms <= task.created_at < until:
                return f"the API has made the task {task.task_id} of its batch (R13)"
        return None

    def _untrue_time_out(self, data: dict[str, Any], *, told: bool) -> str | None:
        task_id, code = data["task_id"], data["error"]["code"]
        if code == GIVEN_UP:
            if task_id not in self._witness.overdue:
                return f"no poll of the task {task_id} has told that it is pending and too old (R11)"
            ended = self._witness.heard_end.get(task_id)
            watched = ended is not None and ended < self._tasks[task_id].created_at + self._witness.watched_ms
            if watched and not told:
                return f"its task {task_id} has ended since and no correction tells (R12)"
        elif code != GIVEN_UP_BY_API:
            return f"{code} is no time-out"
        return None


def tasks(world: World) -> Iterator[ApiTask]:
    simulator = world.network.simulator
    now = world.api_now()
    for task in simulator.tasks.values():
        row = task_row(task, now)
        yield ApiTask(
            task_id=row["task_id"],
            integration_id=row["integration_id"],
            created_at=row["created_at"],
            completed_at=row["completed_at"],
            applied_at=row["applied_at"],
            status=TaskStatus(row["status"]),
            error_code=row["code"],
            items=[
                SentItem(
                    item["origin_id"],
                    content_digest(plain(item["course"])),
                    None if not item["reported"] else item["outcome"] == "SUCCEEDED",
                    item["applied"],
                )
                for item in row["items"]
            ],
            strangers=[
                (item["origin_id"], content_digest(plain(item["course"]))) for item in row["strangers"]
            ],
        )


def lms(world: World) -> Iterator[HeldCourse]:
    for row in course_rows(world.network.simulator):
        yield HeldCourse(
            row["integration_id"],
            row["origin_id"],
            content_digest(plain(row["course"])),
            row["task_id"],
            row["course_id"],
        )


def plain(course: Any) -> dict[str, Any]:
    return dict(msgspec.to_builtins(course))
