"""The pictures of docs/console.md: `python -m tests.tools.console_screenshots docs/images`.

The console serves made-up topics from memory, and Debian's chromium visits it. With pngquant on the machine the files get a third of
their size.
"""

from __future__ import annotations

import asyncio
import math
import random
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser

from daemon.console.feed import wall_ms
from daemon.core import journal
from daemon.core.control import Pause
from daemon.core.course import CourseRecord, CourseState
from daemon.core.journal import Attempt, Position, Refusal, SealedBatch, Task, Wait
from daemon.core.model import Error, Item, Result, Status
from daemon.log.port import InputFacts
from tests.integration.browser import browsing
from tests.unit.console_world import BODY, TOKEN, World, serving

PARTITIONS = 12
TOOLS = ("workday", "successfactors", "cornerstone", "docebo", "litmos", "moodle")
COURSES = (
    "fire-safety", "gdpr-basics", "first-aid", "negotiation", "python-for-analysts", "secure-coding", "onboarding-sales",
    "leadership-1", "cloud-foundations", "export-control", "anti-bribery", "excel-advanced",
)  # fmt: skip
REPAIR = Error(
    "INTEGRATION.AUTHENTICATION_INVALID",
    "The credentials of the learning system are no longer valid: ask the customer to connect it again.",
)
DOWN = Error("REMOTE.SERVICE_UNAVAILABLE", "The connected tool did not answer. Try again later.")
LIMITED = Error("PLATFORM.RATE_LIMIT_EXCEEDED", "Too many requests.")
TITLE = Error("REMOTE.INPUT_INVALID", "The title must have at most 200 characters.")
MINUTE, HOUR = 60_000, 3_600_000


def made_up(now: int) -> World:
    """An ordinary day with some trouble."""
    draw, world = random.Random(7), World()
    names = [f"{tool}:{draw.randbytes(12).hex()[:20]}" for tool in TOOLS for _ in range(8)]
    offset = 1000

    def one(origin: str, age: int) -> Item:
        nonlocal offset
        offset += 1
        return Item(origin, offset, f"chg-{draw.randbytes(4).hex()}", now - age, 1, 0)

    def course() -> str:
        return f"{draw.choice(COURSES)}-{draw.randrange(400)}"

    for number, name in enumerate(names):
        partition = number % PARTITIONS
        for batch in range(draw.randrange(4)):
            batch_id, age = f"{partition}-{offset}-1", draw.randrange(4 * MINUTE)
            items = tuple(one(course(), age + 2000) for _ in range(draw.randrange(3, 60)))
            world.journal(
                partition, (journal.batch_key(batch_id), SealedBatch(name, now - age, 0, items, BODY))
            )
            if batch:
                task = Task(draw.randbytes(10).hex(), now - age + 900)
                world.journal(partition, (journal.task_key(batch_id), task))
        for _ in range(draw.randrange(8)):
            origin = course()
            world.journal(
                partition, (journal.wait_key(name, origin), Wait(one(origin, draw.randrange(90_000)), BODY))
            )
    for name, error, count, span in ((names[0], REPAIR, 260, 30 * HOUR), (names[9], REPAIR, 74, 6 * HOUR)):
        for _ in range(count):
            origin = f"{course()}-{draw.randrange(9)}"
            item, last = one(origin, draw.randrange(span)), Attempt("3-1-1", error, draw.randbytes(10).hex())
            world.journal(0, (journal.wait_key(name, origin), Wait(item, BODY, now + 14 * MINUTE, last)))
    for name in names[17:20]:
        batch_id = f"4-{offset}-1"
        sealed = SealedBatch(name, now - 40_000, 0, tuple(one(course(), 50_000) for _ in range(40)), BODY)
        world.journal(4, (journal.batch_key(batch_id), sealed))
        world.journal(4, (journal.refusal_key(batch_id), Refusal("retry", LIMITED, now - 9000, now + 21_000)))
    for _ in range(35):
        origin = course()
        item, last = (
            one(origin, draw.randrange(20 * MINUTE)),
            Attempt("5-9-2", DOWN, draw.randbytes(10).hex()),
        )
        world.journal(5, (journal.wait_key(names[24], origin), Wait(item, BODY, now + 95_000, last)))
    world.decide(
        Pause(
            f"{TOOLS[3]}:*",
            True,
            now + 3 * HOUR,
            "maria@ops",
            "their maintenance, ticket 4711",
            now - 50 * MINUTE,
        )
    )
    _results(world, names, now, draw)
    _one_course(world, names[0], now)
    for partition in range(PARTITIONS):
        read = 18_000 + 137 * partition
        world.journal(partition, (journal.POSITION_KEY, Position(journal.FORMAT, read, "id", PARTITIONS, 0)))
        lag = 340 if partition == 7 else 0
        earliest = read + 50 if partition == 10 else 0
        end = read + lag + (60 if partition == 10 else 0)
        world.look(partition, InputFacts("id", PARTITIONS, earliest, end, end, read, PARTITIONS, PARTITIONS))
    world.loaded()
    return world


def _results(world: World, names: list[str], now: int, draw: random.Random) -> None:
    shares = (
        (Status.SUCCEEDED, 0.78),
        (Status.UNCHANGED, 0.12),
        (Status.SUPERSEDED, 0.06),
        (Status.FAILED, 0.03),
        (Status.REJECTED, 0.01),
    )
    offset = 0
    for minute in range(60):
        total = 60 + round(40 * math.sin(minute / 9)) + draw.randrange(12)
        for status, share in shares:
            for _ in range(round(total * share * (3 if status is Status.FAILED and 20 < minute < 28 else 1))):
                offset += 1
                error = draw.choice((DOWN, TITLE)) if status in (Status.FAILED, Status.REJECTED) else None
                at = now - minute * MINUTE - draw.randrange(MINUTE)
                one = Result(
                    offset,
                    status,
                    draw.choice(names),
                    draw.choice(COURSES),
                    f"chg-{offset}",
                    at - 9000,
                    at,
                    1,
                    error=error,
                )
                world.results(one, partition=offset % PARTITIONS)


def _one_course(world: World, name: str, now: int) -> None:
    day = 24 * HOUR
    ended = Result(
        17_204, Status.SUCCEEDED, name, "fire-safety-eu", "chg-7f3a91c2", now - 9 * day, now - 9 * day + 21_400, 1,
        course_id="6Rr1ybnTXmUa2Hv1bkcdXdCJ", batch_id="0-17204-1", task_id="4c1f7a20be93d6", submitted_at=now - 9 * day + 1800,
        completed_at=now - 9 * day + 19_900, change_type="course.upserted",
    )  # fmt: skip
    failed = Result(
        17_390, Status.FAILED, name, "fire-safety-eu", "chg-0b55e1f4", now - 3 * day, now - 3 * day + 48_000, 2,
        error=TITLE, batch_id="0-17390-1", task_id="93aa01d5c27be4", submitted_at=now - 3 * day + 2100,
        completed_at=now - 3 * day + 45_300, change_type="course.upserted",
    )  # fmt: skip
    world.results(ended, failed)
    world.course(
        CourseRecord(
            name,
            "fire-safety-eu",
            CourseState.ACTIVE,
            "6Rr1ybnTXmUa2Hv1bkcdXdCJ",
            bytes(range(16)),
            17_204,
            "chg-7f3a91c2",
            "4c1f7a20be93d6",
            now - 9 * day,
            now - 9 * day,
        )
    )
    last = Attempt("0-17811-1", REPAIR, "b7e0d4419fa2c6")
    item = Item("fire-safety-eu", 17_811, "chg-c9d2037e", now - 29 * HOUR, 1, 1)
    wait = Wait(item, BODY, now + 14 * MINUTE, last)
    world.journal(0, (journal.wait_key(name, "fire-safety-eu"), wait))


@contextmanager
def served(world: World, token_file: Path) -> Iterator[str]:
    """Its address; the server has a loop of its own."""
    loop, ready = asyncio.new_event_loop(), threading.Event()
    found: list[str] = []
    ended = asyncio.Event()

    async def serve() -> None:
        async with serving(world, token_file) as http:
            found.append(str(http._base_url).rstrip("/"))  # noqa: SLF001 - aiohttp does not say it otherwise
            ready.set()
            await ended.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        ready.wait()
        yield found[0]
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        loop.close()


def pictures(browser: Browser, url: str, folder: Path, first: str) -> None:
    views = (
        ("overview", "/", 1200, 1010, "light"),
        ("integrations", "/integrations", 1200, 720, "dark"),
        ("integration", f"/integration?id={first}", 1200, 1000, "light"),
        ("course", f"/course?integration={first}&id=fire-safety-eu", 1200, 1120, "dark"),
        ("partitions", "/partitions", 1200, 760, "light"),
        ("narrow", "/", 400, 1500, "light"),
    )
    for name, address, width, height, scheme in views:
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme="dark" if scheme == "dark" else "light"
        )
        page = context.new_page()
        if name == "integration":
            page.goto(f"{url}/sign-in?back=/integration%3Fid%3D{first}")
            page.get_by_label("Who you are").fill("maria@ops")
            page.get_by_label("Token").fill(TOKEN)
            page.get_by_role("button", name="Sign in").click()
        else:
            page.goto(url + address)
        picture = folder / f"console-{name}.png"
        page.screenshot(path=picture)
        context.close()
        if (smaller := shutil.which("pngquant")) is not None:
            subprocess.run([smaller, "--force", "--strip", "--ext", ".png", picture], check=True)  # noqa: S603


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    world = made_up(wall_ms())
    with tempfile.TemporaryDirectory() as name:
        token_file = Path(name) / "token"
        token_file.write_text(TOKEN)
        first = next(iter(world.model.journals.work))
        with served(world, token_file) as url, browsing() as browser:
            pictures(browser, url, folder, first)
    world.in_reader.shutdown()


if __name__ == "__main__":
    main()
