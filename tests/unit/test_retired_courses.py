"""A course is retired by the real engine, over a restart: the id comes from the courses topic."""

from typing import Any

import msgspec
import pytest

from daemon.log.port import Message
from tests.unit.log_world import LogWorld, change


def deactivation(course: str, **more: Any) -> bytes:
    event = {"id": f"off-{course}", "type": "course.deactivated", "integration_id": "i", "origin_id": course}
    return msgspec.json.encode(event | more)


def publish(world: LogWorld, *values: bytes) -> None:
    for value in values:
        world.cluster.append(world.topics.changes, Message(b"i", value), 0)


async def results(world: LogWorld, count: int) -> list[tuple[str, str | None]]:
    """Wait for so many; status and course of each, in the order of the changes."""
    await world.until(lambda: len(world.results()) >= count, "the results")
    return [(status, course) for status, _, _, course in sorted(world.results(), key=lambda r: r[2])]


def active(world: LogWorld) -> dict[str, bool]:
    return {origin_id: course.is_active for _, origin_id, course in world.api.simulator.courses()}


async def test_the_id_survives_a_restart() -> None:
    async with LogWorld(1) as world:
        await world.start()
        await world.running(0)
        publish(world, change("a"), change("b"))
        await results(world, 2)
        await world.stop()
        await world.start()
        publish(world, deactivation("a"), deactivation("b", course_id="remote:b"), deactivation("c"))
        found = await results(world, 5)
        assert found[2:] == [("SUCCEEDED", "a"), ("SUCCEEDED", "b"), ("FAILED", "c")]
        assert active(world) == {"a": False, "b": False}
        scraped = world.scrape()
        for line in (
            'coursesync_changes_consumed_total{type="course.deactivated"} 3.0',
            'coursesync_changes_consumed_total{type="course.upserted"} 0.0',
            "coursesync_contract_imbalance 0.0",
        ):
            assert line in scraped


async def test_a_course_comes_back_in_order() -> None:
    async with LogWorld(1, task_seconds=0.05) as world:
        await world.start()
        await world.running(0)
        publish(world, change("a"))
        await results(world, 1)
        publish(world, deactivation("a"))
        await results(world, 2)
        publish(world, change("a"))
        found = await results(world, 3)
        assert found == [("SUCCEEDED", "a")] * 3
        assert active(world) == {"a": True}, "this simulator makes it active again"
        assert [row.origin_id for row in world.api.simulator.deactivations] == ["a"]


@pytest.mark.parametrize("newest", ["upsert", "deactivation"])
async def test_the_newest_change_of_a_burst_counts(newest: str) -> None:
    async with LogWorld(1) as world:
        pair = [change("a"), deactivation("a", course_id="remote:a")]
        publish(world, *(pair[::-1] if newest == "upsert" else pair))
        await world.start()
        found = await results(world, 2)
        assert found[0] == ("SUPERSEDED", "a")
        assert found[1][0] == ("SUCCEEDED" if newest == "upsert" else "FAILED")
