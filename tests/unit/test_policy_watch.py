"""Reading the tables of integrations again: what is used, what is refused, and what is said of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from daemon.commands.policy_watch import ConfigFiles, PolicyWatch
from daemon.config import Policies, PolicyTable
from daemon.telemetry.events import Event, PoliciesRejected, PoliciesUsed, RestartNeeded

PATIENCE = 60.0
FIRST = "[integrations.a]\nbatch.items_max = 1\n"


class Watched:
    def __init__(self, tmp_path: Path, interval: float) -> None:
        key = tmp_path / "key"
        key.write_text("secret")
        self.environ = {
            "COURSESYNC_KAFKA_BOOTSTRAP_SERVERS": "a:1",
            "COURSESYNC_KOMBO_API_KEY_FILE": str(key),
        }
        self.file = tmp_path / "coursesync.toml"
        self.events: list[Event] = []
        self.uses = 0
        files = ConfigFiles(self.environ, self.file)
        configuration = files.read()
        self.policies = Policies(configuration.settings, configuration.tables)
        self.watch = PolicyWatch(
            files, configuration.settings, self.policies, self, self.use, interval, settle=0.005
        )

    def notify(self, event: Event) -> None:
        self.events.append(event)

    def use(self, tables: Sequence[PolicyTable]) -> None:
        self.uses += 1
        self.policies.use(tables)

    @property
    def items_max(self) -> int:
        return self.policies("a").batch.items_max

    async def next_events(self, count: int) -> list[Event]:
        deadline = time.monotonic() + PATIENCE
        while len(self.events) < count:
            assert time.monotonic() < deadline, self.events
            await asyncio.sleep(0.002)
        events, self.events[:count] = self.events[:count], []
        return events


@asynccontextmanager
async def watched(tmp_path: Path, interval: float = 0.005) -> AsyncIterator[Watched]:
    world = Watched(tmp_path, interval)
    running = asyncio.create_task(world.watch.run())
    try:
        yield world
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def test_a_mounted_config_map_is_read_again_when_kubernetes_swaps_its_link(tmp_path: Path) -> None:
    """As the kubelet does it: the file is a link into `..data`, itself a link that is replaced."""
    for version, items in (("v1", 1), ("v2", 2)):
        (tmp_path / version).mkdir()
        text = f"[integrations.a]\nbatch.items_max = {items}\n"
        (tmp_path / version / "coursesync.toml").write_text(text)
    (tmp_path / "..data").symlink_to("v1")
    (tmp_path / "coursesync.toml").symlink_to(Path("..data") / "coursesync.toml")
    async with watched(tmp_path) as world:
        assert world.items_max == 1
        (tmp_path / "..new").symlink_to("v2")
        (tmp_path / "..new").rename(tmp_path / "..data")
        assert await world.next_events(1) == [PoliciesUsed(("a",), is_news=True)]
        assert world.items_max == 2


async def test_a_mistake_keeps_the_earlier_tables_and_is_reported_once_until_the_file_changes(
    tmp_path: Path,
) -> None:
    (tmp_path / "coursesync.toml").write_text(FIRST)
    async with watched(tmp_path) as world:
        world.file.write_text("[integrations.a]\nbatch.items_max = 0\n")
        (event,) = await world.next_events(1)
        assert isinstance(event, PoliciesRejected)
        assert "batch.items_max" in event.mistakes[0]
        assert world.items_max == 1

        world.file.unlink()
        (event,) = await world.next_events(1)
        assert isinstance(event, PoliciesRejected)
        assert "cannot be read" in event.mistakes[0]

        world.file.write_text(FIRST)
        assert await world.next_events(1) == [PoliciesUsed(("a",), is_news=False)]
        assert world.uses == 0


async def test_what_needs_a_restart_is_named_and_the_tables_are_used(tmp_path: Path) -> None:
    (tmp_path / "coursesync.toml").write_text(FIRST)
    async with watched(tmp_path) as world:
        text = '[task]\ntimeout = "2h"\n[kafka]\ngroup_id = "g"\n[integrations.a]\nbatch.items_max = 5\n'
        world.file.write_text(text)
        events = await world.next_events(2)
        assert events == [
            RestartNeeded(("kafka.group_id", "task.timeout")),
            PoliciesUsed(("a",), is_news=True),
        ]
        assert world.items_max == 5


async def test_tables_that_fit_only_to_settings_that_need_a_restart_are_refused(tmp_path: Path) -> None:
    (tmp_path / "coursesync.toml").write_text(FIRST)
    async with watched(tmp_path) as world:
        world.file.write_text('[poll]\ninterval_max = "1h"\n[integrations.a]\npoll.first_after = "30m"\n')
        needed, rejected = await world.next_events(2)
        assert needed == RestartNeeded(("poll.interval_max",))
        assert isinstance(rejected, PoliciesRejected)
        assert "poll.first_after: 30m must be at most poll.interval_max, which is 5m" in rejected.mistakes[0]
        assert world.items_max == 1


async def test_who_asks_gets_an_answer_at_once_also_if_nothing_has_changed(tmp_path: Path) -> None:
    (tmp_path / "coursesync.toml").write_text(FIRST)
    async with watched(tmp_path, interval=3600.0) as world:
        world.watch.ask()
        assert await world.next_events(1) == [PoliciesUsed(("a",), is_news=False)]
        world.file.write_text("[integrations.a]\nbatch.items_max = 3\n")
        world.watch.ask()
        assert await world.next_events(1) == [PoliciesUsed(("a",), is_news=True)]
        assert (world.items_max, world.uses) == (3, 1)


async def test_a_file_that_is_still_being_written_is_not_read(tmp_path: Path) -> None:
    """An empty file has no mistakes: it would take all tables back for a moment."""
    (tmp_path / "coursesync.toml").write_text(FIRST)
    world = Watched(tmp_path, interval=0.005)
    contents = ["", "[integrations.a]\n", "[integrations.a]\nbatch.items_max = 9\n"]
    changed = world.watch._files.changed

    def write_and_look() -> bool:
        if contents:
            world.file.write_text(contents.pop(0))
        return changed()

    world.watch._files.changed = write_and_look  # type: ignore[method-assign]
    running = asyncio.create_task(world.watch.run())
    try:
        assert await world.next_events(1) == [PoliciesUsed(("a",), is_news=True)]
    finally:
        running.cancel()
    assert (world.items_max, world.uses) == (9, 1)
