"""What one would write instead of the daemon: a consumer, batches per integration, httpx, a poll loop, a producer.

`tests.bench.beside` measures it beside the daemon. It is written with care, and without what only long operation or a
simulation teaches. It reads the same input, writes the same results, and takes addresses and names from the same environment::

    consumer ─▶ changes that wait, by integration ─▶ POSTs ─▶ polls ─▶ results ─▶ flush ─▶ commit of the offsets

Each integration has one asyncio task, so a slow one does not delay the others. It takes everything that waits, drops all but
the newest change of each course, submits the rest in parallel batches of 100 and polls them to their end. Then it takes what has
arrived meanwhile, so a course never has two submissions. In each partition, only the offsets before the first unfinished change
are committed: after a crash, changes from there on are read and submitted once more (at least once).
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import quote

import httpx
import msgspec
from kafka import KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition

# Durations in seconds, those of the daemon in the sandbox (`tests.sandbox.profile`); other limits are the daemon's defaults.
LINGER, POLL_EVERY, HTTP_TIMEOUT, TASK_TIMEOUT = 0.3, 0.3, 2.0, 10.0
BACKOFF_MIN, BACKOFF_MAX, ATTEMPTS_MAX = 0.1, 2.0, 10
COMMIT_EVERY, DRAIN_TIMEOUT, SESSION_TIMEOUT = 1.0, 4.0, 6.0
ITEMS_MAX, ITEM_BYTES_MAX, BATCHES_MAX, OPEN_MAX = 100, 512 * 1024, 8, 50_000
OPTIONAL = ("batch_id", "course_id", "error", "superseded_by", "task_id", "submitted_at", "completed_at")
"""Fields of a result that may be null."""

Id = Annotated[str, msgspec.Meta(min_length=1, max_length=512, pattern=r"^[^\x00-\x1f\x7f-\x9f]*\Z")]
Text = Annotated[str, msgspec.Meta(pattern=r"^[^\x00]*\Z")]
Language = Annotated[str, msgspec.Meta(pattern=r"^[a-z]{2,3}(-[A-Z]{2})?\Z")]


class Course(msgspec.Struct, omit_defaults=True):
    type: Literal["EXTERNAL"]
    title: Annotated[Text, msgspec.Meta(min_length=1)]
    course_url: Annotated[Text, msgspec.Meta(min_length=1)]
    description: Text | None = None
    thumbnail_url: Text | None = None
    duration: Annotated[int, msgspec.Meta(gt=0)] | None = None
    languages: list[Language] | None = None


class Change(msgspec.Struct, kw_only=True, tag_field="type"):
    id: Id
    integration_id: Annotated[str, msgspec.Meta(max_length=256, pattern=r"^[!-~]+\Z")]
    origin_id: Id


class Upsert(Change, tag="course.upserted"):
    course: Course


class Deactivation(Change, tag="course.deactivated"):
    course_id: Id | None = None


class Job(NamedTuple):
    """A change and its place in the input."""

    record: Any
    change: Any
    consumed_at: str

    @property
    def source(self) -> dict[str, Any]:
        return {"topic": self.record.topic, "partition": self.record.partition, "offset": self.record.offset}


class RefusedError(Exception):
    """The API does not take a request. `error` is its error object."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(error)
        self.error = error


def parse(record: Any) -> Upsert | Deactivation:
    """The change in a record: plain JSON or a CloudEvent. Raises whatever is wrong with it."""
    if len(record.value) > ITEM_BYTES_MAX:
        raise ValueError("the record is too large")
    body, headers = msgspec.json.decode(record.value), dict(record.headers)
    if "ce_specversion" in headers:
        body |= {"id": headers["ce_id"].decode(), "type": headers["ce_type"].decode()}
    elif "specversion" in body:
        body = {**body["data"], "id": body["id"], "type": body["type"]}
    return msgspec.convert(body, Upsert | Deactivation)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def failure(code: str, message: str) -> dict[str, Any]:
    return {"code": code, "title": None, "message": message, "log_url": None}


class Sync:
    def __init__(self, env: Mapping[str, str], client: httpx.AsyncClient) -> None:
        servers = env["COURSESYNC_KAFKA_BOOTSTRAP_SERVERS"].split(",")
        self.results, self.dead = env["COURSESYNC_TOPICS_RESULTS"], env["COURSESYNC_TOPICS_DEAD_LETTERS"]
        self.consumer = KafkaConsumer(
            env["COURSESYNC_TOPICS_CHANGES"],
            bootstrap_servers=servers,
            group_id=env["COURSESYNC_KAFKA_GROUP_ID"],
            group_instance_id=env["COURSESYNC_KAFKA_GROUP_INSTANCE_ID"],
            session_timeout_ms=int(SESSION_TIMEOUT * 1000),
            heartbeat_interval_ms=int(SESSION_TIMEOUT * 1000 / 3),
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            isolation_level="read_committed",
            max_poll_records=5_000,
        )
        self.producer = KafkaProducer(
            bootstrap_servers=servers,
            acks="all",
            compression_type="lz4",
            linger_ms=5,
            batch_size=262_144,
            max_request_size=8 * 1024 * 1024,  # a dead letter is as large as what was published
        )
        self.client = client
        self.waiting: defaultdict[str, list[Job]] = defaultdict(list)
        self.workers: dict[str, asyncio.Task[None]] = {}
        self.open: defaultdict[TopicPartition, dict[int, None]] = defaultdict(dict)
        self.next: dict[TopicPartition, int] = {}
        self.sent: list[Any] = []
        self.course_ids: dict[tuple[str, str], str] = {}
        self.stopping = asyncio.Event()

    async def run(self) -> None:
        commit_at = time.monotonic() + COMMIT_EVERY
        while not self.stopping.is_set():
            for records in (await asyncio.to_thread(self.consumer.poll, timeout_ms=1000)).values():
                for record in records:
                    self.take(record)
            if time.monotonic() >= commit_at:
                await self.commit()
                commit_at = time.monotonic() + COMMIT_EVERY
            for worker in [each for each in self.workers.values() if each.done()]:
                worker.result()  # a bug: end, and let the next process try again
            if sum(map(len, self.open.values())) > OPEN_MAX:
                self.consumer.pause(*self.consumer.assignment())
            else:
                self.consumer.resume(*self.consumer.paused())
        if self.workers:
            await asyncio.wait(self.workers.values(), timeout=DRAIN_TIMEOUT)
        await self.commit()
        await asyncio.to_thread(self.consumer.close)

    def take(self, record: Any) -> None:
        place = TopicPartition(record.topic, record.partition)
        self.open[place][record.offset], self.next[place] = None, record.offset + 1
        try:
            job = Job(record, parse(record), now())
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            self.sent.append(self.producer.send(self.dead, record.value, record.key, list(record.headers)))
            job = Job(record, None, now())
            self.resolve([job], "REJECTED", error=failure("INPUT_INVALID", str(error)))
            return
        self.waiting[job.change.integration_id].append(job)
        if job.change.integration_id not in self.workers:
            self.workers[job.change.integration_id] = asyncio.create_task(
                self.work(job.change.integration_id)
            )

    async def commit(self) -> None:
        """First the results, then the offsets."""
        offsets = {place: next(iter(self.open[place]), end) for place, end in self.next.items()}
        sent, self.sent = self.sent, []
        await asyncio.to_thread(lambda: [future.get(timeout=30) for future in sent])
        mine = self.consumer.assignment()
        ends = {p: OffsetAndMetadata(o, "", -1) for p, o in offsets.items() if p in mine}
        if ends:
            await asyncio.to_thread(self.consumer.commit, ends)

    async def work(self, integration_id: str) -> None:
        await asyncio.sleep(LINGER)
        slots = asyncio.Semaphore(BATCHES_MAX)
        while jobs := self.waiting.pop(integration_id, None):
            newest: dict[str, Job] = {}
            for job in jobs:
                if older := newest.get(job.change.origin_id):
                    self.resolve([older], "SUPERSEDED", superseded_by=job.source)
                newest[job.change.origin_id] = job
            upserts = [job for job in newest.values() if isinstance(job.change, Upsert)]
            retired = [job for job in newest.values() if isinstance(job.change, Deactivation)]
            await asyncio.gather(
                *(self.submit(slots, upserts[i : i + ITEMS_MAX]) for i in range(0, len(upserts), ITEMS_MAX)),
                *(self.retire(slots, job) for job in retired),
            )
        del self.workers[integration_id]

    async def submit(self, slots: asyncio.Semaphore, jobs: Sequence[Job]) -> None:
        items = [{"origin_id": job.change.origin_id, "course": job.change.course} for job in jobs]
        async with slots:
            try:
                accepted = await self.call("POST", "/lms/courses/bulk", jobs[0], {"items": items})
                of_task = {"task_id": accepted["task_id"], "submitted_at": now()}
                give_up_at = time.monotonic() + TASK_TIMEOUT
                task: dict[str, Any] = {"status": "PENDING"}
                while task["status"] == "PENDING" and time.monotonic() < give_up_at:
                    await asyncio.sleep(POLL_EVERY)
                    task = await self.call("GET", f"/lms/courses/bulk/{accepted['task_id']}", jobs[0])
            except RefusedError as refused:
                self.resolve(jobs, "FAILED", error=refused.error)
                return
        if task["status"] == "PENDING":
            self.resolve(jobs, "TIMED_OUT", error=failure("TIMED_OUT", "The task did not end."), **of_task)
            return
        entries: dict[str, dict[str, Any]] = {entry["origin_id"]: entry for entry in task.get("data") or ()}
        unknown = task.get("error") or failure("OUTCOME_MISSING", "The task does not mention it.")
        for job in jobs:
            entry = entries.get(job.change.origin_id, {"status": "FAILED", "error": unknown})
            told, course = entry.get("data") or {}, (job.change.integration_id, job.change.origin_id)
            course_id = told.get("id") or told.get("course_id")
            if course_id:
                self.course_ids[course] = course_id
            ended = {"error": entry.get("error"), "completed_at": task["completed_at"]}
            self.resolve([job], entry["status"], course_id=course_id, **ended, **of_task)

    async def retire(self, slots: asyncio.Semaphore, job: Job) -> None:
        change = job.change
        course_id = change.course_id or self.course_ids.get((change.integration_id, change.origin_id))
        if course_id is None:
            error = failure("COURSESYNC.COURSE_UNKNOWN", "The id of the course is not known.")
            self.resolve([job], "FAILED", error=error)
            return
        async with slots:
            try:
                path = f"/lms/courses/{quote(course_id, safe=':')}/deactivate"
                done = await self.call("POST", path, job, {})
            except RefusedError as refused:
                self.resolve([job], "FAILED", error=refused.error)
            else:
                self.resolve([job], "SUCCEEDED", course_id=done["id"], completed_at=now())

    async def call(self, method: str, path: str, job: Job, body: Any = None) -> dict[str, Any]:
        """The `data` of the answer. The same bytes are sent again if there was none, and when the API is busy.

        Raises:
            RefusedError: the API refuses the request, or did not take it after `ATTEMPTS_MAX` attempts.
        """
        content = None if body is None else msgspec.json.encode(body)
        headers = {"X-Integration-Id": job.change.integration_id, "Content-Type": "application/json"}
        for attempt in itertools.count(1):
            wait, error = min(BACKOFF_MAX, BACKOFF_MIN * 2**attempt), None
            try:
                answer = await self.client.request(method, path, content=content, headers=headers)
                told = msgspec.json.decode(answer.content)
                if answer.is_success:
                    return told["data"]  # type: ignore[no-any-return]
                error = told["error"]
                if answer.status_code != 429 and answer.status_code < 500:
                    raise RefusedError(error)
                wait = float(answer.headers.get("Retry-After", wait))
            except (httpx.HTTPError, msgspec.DecodeError) as lost:
                error = failure("NO_ANSWER", repr(lost))
            if attempt == ATTEMPTS_MAX:
                raise RefusedError(error)
            await asyncio.sleep(wait)
        raise AssertionError

    def resolve(self, jobs: Sequence[Job], status: str, **more: Any) -> None:
        for job in jobs:
            change = job.change
            data = {
                **dict.fromkeys(OPTIONAL),
                "status": status,
                "integration_id": getattr(change, "integration_id", None),
                "origin_id": getattr(change, "origin_id", None),
                "change_id": getattr(change, "id", None),
                "change": job.source,
                "attempts": int(status not in ("SUPERSEDED", "REJECTED")),
                "consumed_at": job.consumed_at,
                "resolved_at": now(),
                **more,
            }
            if change is not None:
                data["change_type"] = change.__struct_config__.tag
            event = {
                "specversion": "1.0",
                "id": "{topic}/{partition}/{offset}".format(**job.source),
                "source": "/course-sync",
                "type": "course.sync.resolved",
                "datacontenttype": "application/json",
                "data": data,
            }
            headers = [("content-type", b"application/cloudevents+json")]
            key = msgspec.json.encode([data["integration_id"], data["origin_id"]])
            self.sent.append(self.producer.send(self.results, msgspec.json.encode(event), key, headers))
            del self.open[TopicPartition(job.record.topic, job.record.partition)][job.record.offset]


async def main(env: Mapping[str, str], key: str) -> None:
    async with httpx.AsyncClient(
        base_url=env["COURSESYNC_KOMBO_BASE_URL"],
        headers={"Authorization": f"Bearer {key}"},
        timeout=HTTP_TIMEOUT,
        limits=httpx.Limits(max_connections=200),
        trust_env=False,
    ) as client:
        sync = Sync(env, client)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, sync.stopping.set)
        await sync.run()


if __name__ == "__main__":
    asyncio.run(main(os.environ, Path(os.environ["COURSESYNC_KOMBO_API_KEY_FILE"]).read_text().strip()))
