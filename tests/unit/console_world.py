"""A console whose topics are lists: records go into the model and can be read again, as from Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import msgspec

from daemon.codec import encode_control, encode_correction, encode_course, encode_result
from daemon.config import Configuration, Settings, Topics
from daemon.console.access import Access
from daemon.console.feed import wall_ms
from daemon.console.model import Look, Model
from daemon.console.pages import Pages
from daemon.console.server import ConsoleServer
from daemon.core import journal
from daemon.core.control import Decision, Pause
from daemon.core.course import CourseRecord, CourseState
from daemon.core.journal import Attempt, Position, Refusal, SealedBatch, Task, Wait
from daemon.core.model import Correction, Error, Item, Result, Status
from daemon.log.errors import LogError
from daemon.log.port import InputFacts
from daemon.log.topic_access import TopicRecord

TOPICS = Topics()
BODY = msgspec.Raw(b"{}")
TOKEN = "0123456789abcdef0123"


def item(offset: int, origin_id: str, consumed_at: int) -> Item:
    return Item(origin_id, offset, f"chg-{offset}", consumed_at, 1, 0)


def result(
    offset: int, integration_id: str, origin_id: str, status: Status, at: int, **more: object
) -> Result:
    fields = {"change_id": f"chg-{offset}", "consumed_at": at - 1000, "resolved_at": at} | more
    return Result(offset, status, integration_id, origin_id, **fields)  # type: ignore[arg-type]


@dataclass
class World:
    """`records` and its like take what the daemon would write."""

    model: Model = field(default_factory=lambda: Model(TOPICS))
    log: dict[tuple[str, int], list[TopicRecord]] = field(default_factory=dict)
    written: list[Pause] = field(default_factory=list)
    refuses: str | None = None
    """Why nothing can be written."""
    in_reader: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))

    def add(self, topic: str, partition: int, key: bytes | None, value: bytes | None) -> None:
        records = self.log.setdefault((topic, partition), [])
        record = TopicRecord(topic, partition, len(records), 0, key, value, ())
        records.append(record)
        self.model.apply([record])

    def journal(self, partition: int, *records: tuple[bytes, journal.Value | None]) -> None:
        for key, value in records:
            self.add(TOPICS.journal, partition, key, None if value is None else journal.encode_value(value))

    def results(self, *results: Result | Correction, partition: int = 0) -> None:
        changes, journal_topic = TOPICS.changes, TOPICS.journal
        for each in results:
            if isinstance(each, Correction):
                encoded = encode_correction(
                    each, partition, changes_topic=changes, journal_topic=journal_topic
                )
            else:
                encoded = encode_result(each, partition, changes_topic=changes, journal_topic=journal_topic)
            key, value, _ = encoded
            self.add(TOPICS.results, partition, key, value)

    def course(self, record: CourseRecord, partition: int = 0) -> None:
        self.add(TOPICS.courses, partition, *encode_course(record, partition, changes_topic=TOPICS.changes))

    def decide(self, *decisions: Decision) -> None:
        for each in decisions:
            self.add(TOPICS.control, 0, *encode_control(each))
        self.model.advance(wall_ms())

    def look(self, partition: int, facts: InputFacts) -> None:
        self.model.looks[partition] = Look(facts, self.model.position(partition))

    def loaded(self) -> None:
        self.model.reading.is_loaded = True
        self.model.advance(wall_ms())

    # --- what pages need of a feed ----------------------------------------------------------------

    def read(self, topic: str, places: list[tuple[int, int]]) -> list[TopicRecord]:
        return [self.log[topic, partition][offset] for partition, offset in places]

    async def next_turn(self) -> None:
        await asyncio.sleep(0.001)

    async def write(self, decisions: list[Pause]) -> None:
        if self.refuses is not None:
            raise LogError(self.refuses)
        self.written += decisions
        self.decide(*decisions)


@asynccontextmanager
async def serving(
    world: World, token_file: Path | None = None, names: Iterable[str] = ()
) -> AsyncIterator[aiohttp.ClientSession]:
    """A browser without JavaScript: it keeps cookies."""
    access = Access(token_file, lambda: wall_ms() / 1000)
    pages = Pages(world.model, world, access, Configuration(Settings(), (), {}), world.write)
    server = ConsoleServer("127.0.0.1", 0, pages, list(names))
    port = await server.start()
    jar = aiohttp.CookieJar(unsafe=True)  # the host is an address
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", cookie_jar=jar) as http:
            yield http
    finally:
        await server.stop()
        world.in_reader.shutdown()


def busy_world(names: Iterable[str], origin: str, error: str) -> World:
    """One of everything for each of these integrations, with this course and this text in each error."""
    world, now = World(), wall_ms()
    bad = Error(error[:200], error)
    for number, name in enumerate(names):
        at = 10 * number
        later = (
            journal.wait_key(name, f"{origin}-later"),
            Wait(item(at, f"{origin}-later", now - 90_000), BODY),
        )
        retry = Wait(
            item(at + 1, origin, now - 7_200_000), BODY, now + 60_000, Attempt(f"b-{at}", bad, error[:100])
        )
        world.journal(
            0,
            later,
            (journal.wait_key(name, origin), retry),
            (
                journal.batch_key(f"0-{at}-1"),
                SealedBatch(name, now - 5000, 0, (item(at + 2, origin, now),), BODY),
            ),
            (journal.task_key(f"0-{at}-1"), Task(f"{error[:80]}-{at}", now - 4000)),
            (
                journal.batch_key(f"0-{at}-2"),
                SealedBatch(name, now - 5000, 0, (item(at + 3, origin, now),), BODY),
            ),
            (journal.refusal_key(f"0-{at}-2"), Refusal("retry", bad, now - 3000, now + 30_000)),
            (
                journal.late_key(f"0-{at}-3", "late"),
                journal.Late(f"0-{at}-3", name, (item(at + 4, origin, now),), now, now),
            ),
        )
        failed = result(at + 5, name, origin, Status.FAILED, now - 120_000, error=bad, batch_id=error[:50])
        world.results(failed, Correction(failed))
        world.course(
            CourseRecord(
                name, origin, CourseState.ACTIVE, error[:300], None, at, error[:200], error[:90], now, now
            )
        )
        world.decide(Pause(name, True, None, error[:300], error[:300], now))
    world.journal(0, (journal.POSITION_KEY, Position(journal.FORMAT, 100, "id", 1, 0)))
    world.look(0, InputFacts("id", 1, 0, 120, 120, 100, 1, 1))
    world.loaded()
    return world
