"""Records that cannot be read: their partition is blocked behind everything that comes before them."""

from __future__ import annotations

import dataclasses

import pytest

from daemon import config
from daemon.commands.repair import grow
from daemon.log.port import Message
from daemon.runtime import operator_watch
from tests.embedded_log import EmbeddedLog
from tests.unit.log_world import LogWorld, change, read, skip


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operator_watch, "LOOK_INTERVAL", 0.02)


def spoil(world: LogWorld, number: int) -> int:
    """One record that nobody can read."""
    log = world.cluster.partition(world.topics.changes, number)
    log.unreadable.add(log.end)
    return world.cluster.append(world.topics.changes, Message(None, change("?")), number)[1]


def has_task(world: LogWorld, number: int) -> bool:
    return any(batch.task for batch in world.fold(number).batches.values())


def offsets(world: LogWorld, number: int) -> list[int]:
    return sorted(offset for _, p, offset, _ in world.results() if p == number)


@pytest.mark.parametrize("before", ["", "abc"])
@pytest.mark.parametrize("while_running", [True, False])
async def test_only_the_unreadable_record_gets_no_result(before: str, while_running: bool) -> None:
    async with LogWorld(task_seconds=0.2) as world:
        if while_running:
            await world.start()
            await world.running(0)
        world.publish(0, before)
        bad = spoil(world, 0)
        world.publish(0, "xyz")
        if not while_running:
            await world.start()

        sentence = await world.blocked(0)
        assert f"partition 0: course-changes cannot be read from offset {bad} on: " in sentence
        assert f"`coursesyncd skip --partition 0 --to {bad + 1}`" in sentence
        assert "docs/runbook.md#unreadable-records" in sentence
        position = world.position(0)
        assert position.next_offset == bad, "all that comes before is committed"
        await read(world, 1, "uvw")
        await world.until(lambda: offsets(world, 0) == [*range(bad)], "the results of what comes before it")

        said = await skip(world, 0, bad + 1)
        assert f"          up to 1 records ({bad} to {bad}) never get a result" in said
        expected = [*range(bad), *range(bad + 1, bad + 4)]
        await world.until(lambda: offsets(world, 0) == expected, "the results of all others")
        await world.running(0)


async def test_whoever_fences_the_partition_to_skip_finds_it_standing_still() -> None:
    """However long the journal takes to be read: the owner that finds itself fenced does not fight for the partition."""
    async with LogWorld(task_seconds=1000.0) as world:
        world.publish(0, "a")
        bad = spoil(world, 0)
        await world.start()
        sentence = await world.blocked(0)
        await world.until(lambda: has_task(world, 0), "a task")
        for _ in range(3):
            stranger = await world.repair_log.open_shard(0)
            await stranger.close()
        await world.until(lambda: 'shard_drops_total{reason="fenced"} 1.0' in world.scrape(), "the fencing")
        await world.blocked(0)
        end = world.cluster.partition(world.topics.journal, 0).end
        world.publish(1, "uvw")
        await world.until(lambda: has_task(world, 1), "a task of the other partition")
        assert world.cluster.partition(world.topics.journal, 0).end == end, "nothing is written to it"
        assert world.health.partitions[0].reason == sentence
        await skip(world, 0, bad + 1)
        await world.running(0)


async def test_what_was_read_and_not_committed_when_the_owner_was_fenced_is_read_again() -> None:
    """Otherwise the partition would be blocked in front of it, and `skip` would skip it too."""
    async with LogWorld() as world:
        world.settings = dataclasses.replace(world.settings, batch=config.BatchSettings(linger=1000.0))
        await world.start()
        await world.running(0)
        assert world._running is not None
        held = world._running[0]._partitions[0][0]
        world.publish(0, "abc")
        bad = spoil(world, 0)
        await world.until(lambda: held.intake.lost, "the unreadable record")
        assert held.shard is not None
        assert held.shard.intake == 3
        first = held.shard
        stranger = await world.repair_log.open_shard(0)
        await stranger.close()
        held.shard.want_position()
        held.wake()
        await world.until(lambda: held.shard not in (None, first), "the next shard")
        await world.until(lambda: held.shard and held.shard.intake == 3, "the records, read again")
        assert held.shard.next_read == bad


async def test_a_rebalance_finds_it_again() -> None:
    async with LogWorld() as world:
        world.publish(0, "a")
        bad = spoil(world, 0)
        world.publish(0, "b")
        await world.start()
        await world.blocked(0)
        other = EmbeddedLog(world.cluster, world.topics, "other")
        await other.start()
        await world.until(lambda: len(world.health.partitions) == 1, "a partition that is gone")
        await other.stop()
        world.cluster.expire("other")
        await world.until(lambda: len(world.health.partitions) == 2, "both partitions")
        await world.blocked(0)
        await skip(world, 0, bad + 1)
        await world.until(lambda: offsets(world, 0) == [0, 2], "one result each")


async def test_a_restart_finds_it_again_and_reads_nothing_twice() -> None:
    async with LogWorld() as world:
        world.publish(0, "ab")
        spoil(world, 0)
        sentences = set()
        for _ in range(3):
            await world.start()
            sentences.add(await world.blocked(0))
            await world.stop()
        assert len(sentences) == 1
        await world.start()
        await world.blocked(0)
        await skip(world, 0, 3)
        world.publish(0, "c")
        await world.until(lambda: offsets(world, 0) == [0, 1, 3], "one result each")


async def test_two_of_them_take_two_decisions() -> None:
    async with LogWorld() as world:
        first = spoil(world, 0)
        second = spoil(world, 0)
        world.publish(0, "a")
        await world.start()
        await world.blocked(0)
        await skip(world, 0, first + 1)
        await world.until(
            lambda: f"--to {second + 1}`" in (world.health.partitions[0].reason or ""), "the next"
        )
        await skip(world, 0, second + 1)
        await world.until(lambda: offsets(world, 0) == [second + 1], "the result of what is behind")


async def test_partitions_do_not_grow_while_one_of_them_holds_unreadable_records() -> None:
    async with LogWorld() as world:
        await world.start()
        await read(world, 0, "a")
        bad = spoil(world, 0)
        await world.blocked(0)
        found = await grow.inspect_topics(world.repair_log, world.topics)
        (said,) = await grow.busy_partitions(world.repair_log, found)
        assert f"cannot be read at the offsets {bad} to {bad}" in said
        assert "coursesyncd skip" in said
