"""More partitions: only when nothing is unread or under way, and finished after a crash at any step."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from daemon.commands.repair import grow
from daemon.commands.repair.journal_repair import RepairError
from daemon.core.model import Now
from daemon.log.port import Message
from daemon.runtime import input_monitor, operator_watch
from tests.unit.log_world import LogWorld, now_ms, read, skip


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operator_watch, "LOOK_INTERVAL", 0.02)
    monkeypatch.setattr(input_monitor, "INTERVAL", 0.02)


class Crash(BaseException):
    """The process that grows the topics ends here."""


async def run(world: LogWorld, partitions: int, add: Callable[[str, int], None] | None = None) -> list[str]:
    """What the command does with `--yes`; the steps that it found to do."""
    found = await grow.inspect_topics(world.repair_log, world.topics)
    to_do = grow.steps(found, partitions)
    if to_do:
        if said := await grow.busy_partitions(world.repair_log, found):
            raise RepairError("; ".join(said))
        await grow.grow(
            world.repair_log,
            add or world.cluster.add_partitions,
            found,
            partitions,
            lambda: Now(now_ms(), 0.0),
            world.settings.input.partitioner,
        )
    return to_do


async def settled(world: LogWorld) -> None:
    """Nothing is under way any more: the journal says so a moment after the results."""
    numbers = range(world.cluster.partition_count(world.topics.journal))
    await world.until(lambda: not any(world.fold(n).batches or world.fold(n).waits for n in numbers), "rest")


async def test_the_daemon_goes_on_in_all_partitions_by_itself() -> None:
    async with LogWorld(start_at="latest") as world:
        await world.start()
        await world.running(1)
        await read(world, 0, "ab")
        await read(world, 1, "x")
        await settled(world)
        said = await run(world, 4)
        assert said == [
            "course-sync-journal: 2 partitions, to be 4",
            "course-sync-courses: 2 partitions, to be 4",
            "course-changes: 2 partitions, to be 4",
            "course-sync-journal: the position records of partitions 0, 1, 2, 3 are set to 4",
        ]
        world.publish(3, "new")  # before any replica has seen the partition, and it starts at `latest`
        await world.until(lambda: len(world.results()) == 6, "results from the new partition")
        await read(world, 0, "c")
        assert [number for number in range(4) if world.position(number).partitions == 4] == [0, 1, 2, 3]
        assert await run(world, 4) == []


async def test_not_while_anything_is_unread_or_under_way() -> None:
    async with LogWorld(task_seconds=3600.0) as world:
        await world.start()
        world.publish(0, "a")
        await world.until(lambda: world.fold(0).batches, "an open batch")
        await world.stop()
        world.publish(1, "b")
        with pytest.raises(
            RepairError, match=r"partition 0: 1 open batches; partition 1: records from offset 0"
        ):
            await run(world, 3)
        assert world.cluster.partition_count(world.topics.changes) == 2
        assert world.cluster.partition_count(world.topics.journal) == 2


async def test_the_marks_of_ended_transactions_are_not_unread_and_an_open_one_is() -> None:
    async with LogWorld() as world:
        publisher = world.cluster.producer("publisher")
        publisher.append(world.topics.changes, Message(b"i", b"{}"), 0)
        with pytest.raises(RepairError, match="a transaction of a publisher is open"):
            await run(world, 3)
        publisher.end_transaction(commit=False)
        await run(world, 3)
        assert world.cluster.partition_count(world.topics.changes) == 3


async def test_partitions_can_not_be_taken_away() -> None:
    async with LogWorld() as world:
        with pytest.raises(RepairError, match="must be at least 2"):
            await run(world, 1)


async def test_a_course_finds_the_floor_that_it_had_in_the_partition_that_it_moves_to() -> None:
    """R14: else the API's answer with an earlier task of it would count as fresh there."""
    async with LogWorld() as world:
        await world.start()
        await read(world, 0, "ab")
        await read(world, 1, "x")
        await settled(world)
        await world.stop()
        floors = [world.fold(number).floors["i"] for number in range(2)]
        assert floors[0] != floors[1]
        assert await run(world, 3)
        newest = max(floors, key=lambda floor: floor.created_at)
        assert [world.fold(number).floors["i"] for number in range(3)] == [newest] * 3


class Mortal:
    """A log that ends the process at its n-th change of anything, before or after it is made."""

    def __init__(self, world: LogWorld, changes_left: float) -> None:
        self.world = world
        self.left = changes_left
        self.changes = 0

    def strike(self) -> None:
        self.changes += 1
        self.left -= 0.5
        if self.left <= 0:
            raise Crash

    def add(self, topic: str, partitions: int) -> None:
        self.strike()
        self.world.cluster.add_partitions(topic, partitions)
        self.strike()

    async def open_shard(self, number: int) -> object:
        self.strike()
        return await self.world.repair_log.open_shard(number)

    def __getattr__(self, name: str) -> object:
        return getattr(self.world.repair_log, name)


@pytest.mark.parametrize("step", range(1, 17))
async def test_after_a_crash_nothing_runs_that_should_not_and_running_it_again_finishes(step: int) -> None:
    async with LogWorld() as world:
        await world.start()
        await read(world, 0, "ab")
        await read(world, 1, "x")
        await settled(world)
        mortal = Mortal(world, step / 2)
        found = await grow.inspect_topics(world.repair_log, world.topics)
        with pytest.raises(Crash):
            await grow.grow(mortal, mortal.add, found, 4, lambda: Now(now_ms(), 0.0), "murmur2")  # type: ignore[arg-type]
        grown = world.cluster.partition_count(world.topics.changes) == 4
        renewed = [n for n in range(2) if world.position(n).partitions == 4]
        if grown:
            world.publish(3, "n")
            for number in {0, 1} - set(renewed):
                await world.blocked(number)
            if world.position(3).partitions != 4:
                await world.blocked(3)
                assert not [result for result in world.results() if result[1] == 3]
        assert await run(world, 4)
        await read(world, 2, "m")
        await read(world, 0, "c")
        if grown:
            await world.until(lambda: [r for r in world.results() if r[1] == 3], "the new partition's")
        await world.stop()


async def test_an_input_that_was_grown_by_hand_is_drained_by_skip_and_then_taken_over() -> None:
    async with LogWorld() as world:
        await world.start()
        await read(world, 0, "ab")
        await settled(world)
        await world.stop()
        world.publish(0, "c")
        world.cluster.add_partitions(world.topics.changes, 3)
        world.publish(2, "c")
        await world.start()
        await world.blocked(0)
        await world.blocked(2)
        with pytest.raises(RepairError, match="partition 0: records from offset 2 are not read yet"):
            await run(world, 3)

        await skip(world, 0)
        await world.until(lambda: len(world.results()) == 3, "what was published before")
        await settled(world)
        assert await run(world, 3)
        await world.until(lambda: len(world.results()) == 4, "what was published after")
        assert [result[1:3] for result in world.results()][2:] == [(0, 2), (2, 0)]
