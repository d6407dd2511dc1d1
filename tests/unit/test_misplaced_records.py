"""What an operator sees of changes that came in another partition than that of their key."""

from __future__ import annotations

from dataclasses import replace

import structlog

from daemon import config
from daemon.core.placement import place
from daemon.log.port import Message
from tests.unit.log_world import LogWorld, change

WRONG = 1 - place(b"i", 2)
"""The partition of two in which the key of `LogWorld.publish` does not belong."""


def counted(world: LogWorld, reason: str) -> float | None:
    return world.metrics.registry.get_sample_value(
        "coursesync_input_misplaced_records_total", {"reason": reason}
    )


async def test_a_long_read_costs_a_few_hashes_and_a_partition_one_line() -> None:
    published = 4000
    async with LogWorld() as world:
        world.publish(WRONG, [f"course-{number}" for number in range(published)])
        with structlog.testing.capture_logs() as lines:
            await world.start()
            await world.until(lambda: len(world.results()) == published, "the results")
        assert 16 <= (counted(world, "other_partition") or 0) <= published / 5
        assert counted(world, "no_key") == 0
        assert [line["partition"] for line in lines if line["event"] == "input.misplaced"] == [WRONG]


async def test_few_records_are_all_looked_at_in_each_partition() -> None:
    async with LogWorld(3) as world:
        key = b"tool:1"
        for partition in range(3):
            world.cluster.append(world.topics.changes, Message(key, change("a")), partition)
            world.cluster.append(world.topics.changes, Message(None, change("b")), partition)
        with structlog.testing.capture_logs() as lines:
            await world.start()
            await world.until(lambda: len(world.results()) == 6, "the results")
        assert (counted(world, "no_key"), counted(world, "other_partition")) == (3, 2)
        told = {line["partition"]: line for line in lines if line.get("reason") == "other_partition"}
        assert told.keys() == {0, 1, 2} - {place(key, 3)}
        assert {line["expected_partition"] for line in told.values()} == {place(key, 3)}


async def test_partitions_that_publishers_choose_raise_no_alarm() -> None:
    async with LogWorld() as world:
        world.settings = replace(world.settings, input=config.InputSettings(partitioner="any"))
        world.publish(WRONG, "abc")
        with structlog.testing.capture_logs() as lines:
            await world.start()
            await world.until(lambda: len(world.results()) == 3, "the results")
        assert (counted(world, "no_key"), counted(world, "other_partition")) == (0, 0)
        assert [line for line in lines if line["event"] == "input.misplaced"] == []
