"""A publisher, or a deployed configuration, makes most records invalid: their partition stops instead of rejecting them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import msgspec
import pytest

from daemon.commands.repair.journal_repair import RepairError, inspect_partition, renew
from daemon.commands.repair.reject import allowed, told
from daemon.config import InputSettings
from daemon.log.port import Message
from daemon.runtime import operator_watch
from tests.embedded_log import EmbeddedLog
from tests.unit.log_world import LogWorld, change, read, skip

LIMIT = 5


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operator_watch, "LOOK_INTERVAL", 0.02)


def world_with(limit: int = LIMIT, **options: float) -> LogWorld:
    world = LogWorld(**options)  # type: ignore[arg-type]
    set_limit(world, limit)
    return world


def set_limit(world: LogWorld, limit: int) -> None:
    world.settings = dataclasses.replace(world.settings, input=InputSettings(rejected_max=limit))


def publish(world: LogWorld, *values: bytes | None) -> None:
    for value in values:
        world.cluster.append(world.topics.changes, Message(b"i", value), 0)


async def reject(world: LogWorld, to: int | None = None) -> list[str]:
    """What the command does; returns what it says."""
    found = await inspect_partition(world.repair_log, 0, world.topics)
    position = allowed(found, to, world.topics)
    await renew(world.repair_log, found, position, world.topics)
    return list(told(found, position, world.topics))


def ended(world: LogWorld, *statuses: str) -> list[int]:
    return sorted(offset for status, p, offset, _ in world.results() if p == 0 and status in statuses)


def dead_letters(world: LogWorld) -> int:
    return len(world.cluster.read_committed(world.topics.dead_letters, 0, 0, 10_000)[0])


def renamed_type(n: int) -> bytes:
    return change(f"c{n}").replace(b"course.upserted", b"course.upserted.v2")


def renamed_field(n: int) -> bytes:
    return change(f"c{n}").replace(b"course_url", b"url")


def confluent(n: int) -> bytes:
    return b"\0\0\0\0\x07" + change(f"c{n}")


def tombstone(n: int) -> None:
    return None


def wrong_structure(n: int) -> bytes:
    return msgspec.json.encode([change(f"c{n}").decode()])


DEPLOYS = [renamed_type, renamed_field, confluent, tombstone, wrong_structure]


@pytest.mark.parametrize("written", DEPLOYS, ids=lambda each: each.__name__)
async def test_a_deploy_of_a_publisher_does_not_empty_the_topic(
    written: Callable[[int], bytes | None],
) -> None:
    async with world_with() as world:
        await world.start()
        await read(world, 0, "ab")
        publish(world, *(written(n) for n in range(20)))
        world.publish(0, "xyz")

        sentence = await world.blocked(0)
        assert (
            "partition 0: 5 of the 5 records of course-changes from offset 2 to 6 were rejected" in sentence
        )
        assert "the one at 7 (COURSESYNC." in sentence
        assert "`coursesyncd reject --partition 0`" in sentence
        assert "docs/runbook.md#too-many-rejected" in sentence
        assert dead_letters(world) == LIMIT
        assert world.metrics.snapshot().stopped == 1
        await read(world, 1, "uvw")

        said = await reject(world)
        assert said[-1].startswith("allow     up to 18 records (7 to 24): ")
        await world.until(lambda: ended(world, "SUCCEEDED") == [0, 1, 22, 23, 24], "the valid changes")
        assert ended(world, "REJECTED") == [*range(2, 22)]
        assert dead_letters(world) == 20
        await world.running(0)
        assert world.metrics.snapshot().stopped == 0


async def test_our_own_deploy_is_corrected_without_a_further_rejection() -> None:
    """Variant: batch.bytes_max is too small for these courses."""
    async with world_with() as world:
        right = world.settings
        batch = dataclasses.replace(right.batch, bytes_max=len(change("a")) // 2)
        world.settings = dataclasses.replace(right, batch=batch)
        world.publish(0, "abcdefghij")
        await world.start()
        assert "(COURSESYNC.RECORD_OVERSIZED)" in await world.blocked(0)
        await world.stop()
        world.settings = right
        await world.start()
        await world.until(lambda: len(ended(world, "SUCCEEDED")) == 5, "the results of the others")
        assert ended(world, "REJECTED") == [*range(LIMIT)]
        await world.running(0)
        publish(world, b"{")
        await read(world, 0, "k")
        await world.running(0)


async def test_restarts_and_rebalances_reject_nothing() -> None:
    async with world_with() as world:
        publish(world, *map(renamed_type, range(20)))
        for _ in range(3):
            await world.start()
            await world.blocked(0)
            await world.stop()
        await world.start()
        await world.blocked(0)
        other = EmbeddedLog(world.cluster, world.topics, "other")
        await other.start()
        await world.until(lambda: len(world.health.partitions) == 1, "a partition that is gone")
        await other.stop()
        world.cluster.expire("other")
        await world.until(lambda: len(world.health.partitions) == 2, "both partitions")
        await world.blocked(0)
        await read(world, 1, "u")
        assert ended(world, "REJECTED") == [*range(LIMIT)]
        assert dead_letters(world) == LIMIT


async def test_a_restart_after_each_record_does_not_empty_the_topic_slowly() -> None:
    async with world_with() as world:
        for n in range(LIMIT + 3):
            publish(world, renamed_type(n))
            await world.start()

            def all_there(expected: int = min(n + 1, LIMIT)) -> bool:
                return dead_letters(world) == expected

            await world.until(all_there, "the dead letter")
            if n >= LIMIT:
                await world.blocked(0)
            await world.stop()
        assert dead_letters(world) == LIMIT


async def test_open_work_ends_while_the_partition_is_stopped() -> None:
    async with world_with(task_seconds=0.5) as world:
        await world.start()
        await world.running(0)
        world.publish(0, "abc")
        publish(world, *map(renamed_type, range(20)))
        await world.blocked(0)
        await world.until(lambda: ended(world, "SUCCEEDED") == [0, 1, 2], "the results of what was open")
        assert dead_letters(world) == LIMIT


async def test_rejections_are_allowed_up_to_an_offset_only() -> None:
    async with world_with() as world:
        publish(world, *map(renamed_type, range(30)))
        await world.start()
        await world.blocked(0)
        await reject(world, 8)
        await world.until(
            lambda: "the one at 13 " in (world.health.partitions[0].reason or ""), "the next stop"
        )
        assert ended(world, "REJECTED") == [*range(13)]
        await reject(world)
        await world.until(lambda: len(ended(world, "REJECTED")) == 30, "all of them")
        await world.running(0)


async def test_skip_continues_behind_them() -> None:
    async with world_with() as world:
        publish(world, *map(renamed_type, range(20)))
        world.publish(0, "ab")
        publish(world, b"{")
        await world.start()
        await world.blocked(0)
        await skip(world, 0, 20)
        await world.until(lambda: ended(world, "SUCCEEDED") == [20, 21], "what comes behind them")
        await world.until(
            lambda: ended(world, "REJECTED") == [*range(LIMIT), 22], "a single one is rejected again"
        )


async def test_whoever_fences_the_partition_finds_it_standing_still() -> None:
    async with world_with() as world:
        publish(world, *map(renamed_type, range(20)))
        await world.start()
        sentence = await world.blocked(0)
        for _ in range(3):
            stranger = await world.repair_log.open_shard(0)
            await stranger.close()
        await world.until(lambda: 'shard_drops_total{reason="fenced"} 1.0' in world.scrape(), "the fencing")
        await world.blocked(0)
        end = world.cluster.partition(world.topics.journal, 0).end
        await read(world, 1, "uvw")
        assert world.cluster.partition(world.topics.journal, 0).end == end, "nothing is written to it"
        assert world.health.partitions[0].reason == sentence
        await reject(world)
        await world.until(lambda: len(ended(world, "REJECTED")) == 20, "all of them")
        await world.running(0)


async def test_a_raised_limit_continues_after_a_restart() -> None:
    async with world_with() as world:
        publish(world, *map(renamed_type, range(20)))
        await world.start()
        await world.blocked(0)
        await world.stop()
        set_limit(world, 100)
        await world.start()
        await world.until(lambda: len(ended(world, "REJECTED")) == 20, "all of them")


async def test_what_cannot_be_allowed_is_refused_with_the_reason() -> None:
    async with world_with() as world:
        await world.start()
        await read(world, 0, "ab")
        with pytest.raises(RepairError, match="does not say that reading has stopped"):
            await reject(world)
        publish(world, *map(renamed_type, range(20)))
        await world.blocked(0)
        for to in (0, 7, 23):
            with pytest.raises(RepairError, match=f"unread records from 7 up to 22 .*; it is {to}"):
                await reject(world, to)
        assert dead_letters(world) == LIMIT
