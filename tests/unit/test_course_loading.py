"""R17 in a running replica: the index is loaded from the courses topic, beside everything else."""

from __future__ import annotations

import msgspec
import pytest
from msgspec import UNSET

from daemon.core import journal
from daemon.core.course import course_key
from daemon.log.port import Message
from daemon.runtime import course_loading
from tests.unit.log_world import LogWorld, read, skip


@pytest.fixture(autouse=True)
def _tries_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(course_loading, "RETRY_DELAY_MIN", 0.01)


async def loaded(world: LogWorld) -> None:
    await world.until(
        lambda: "coursesync_known_courses_loading_partitions 0.0" in world.scrape(), "the index"
    )


def statuses(world: LogWorld) -> list[str]:
    return [status for status, *_ in world.results()]


async def restarted(world: LogWorld) -> None:
    await world.stop()
    await world.start()
    await world.running(0)


async def test_a_catalogue_that_is_published_again_is_not_sent() -> None:
    async with LogWorld(1) as world:
        await world.start()
        await world.running(0)
        await read(world, 0, "abc")
        await restarted(world)
        await loaded(world)
        posts = world.api.simulator.requests.copy()
        await read(world, 0, "abcd")
        assert statuses(world) == ["SUCCEEDED"] * 3 + ["UNCHANGED"] * 3 + ["SUCCEEDED"]
        assert world.api.simulator.requests["submit 200"] == posts["submit 200"] + 1
        assert "coursesync_known_courses 4.0" in world.scrape()


async def test_a_topic_that_cannot_be_read_delays_no_change_and_is_read_again() -> None:
    async with LogWorld(1) as world:
        await world.start()
        await world.running(0)
        await read(world, 0, "a")
        courses = world.cluster.partition(world.topics.courses, 0)
        courses.unreadable.add(0)
        await restarted(world)
        await read(world, 0, "a")
        assert statuses(world) == ["SUCCEEDED", "SUCCEEDED"]
        assert "coursesync_known_courses_loading_partitions 1.0" in world.scrape()
        courses.unreadable.clear()
        await loaded(world)
        await read(world, 0, "a")
        assert statuses(world)[-1] == "UNCHANGED"


async def test_what_was_known_before_an_older_version_worked_is_not_believed() -> None:
    """It has dropped the field from the position, and may have sent other content since."""
    async with LogWorld(1) as world:
        await world.start()
        await world.running(0)
        await read(world, 0, "a")
        await world.stop()
        position = msgspec.structs.replace(world.position(0), courses_since=UNSET)
        world.write_journal(0, journal.POSITION_KEY, journal.encode_value(position))
        await world.start()
        await loaded(world)
        await read(world, 0, "a")
        assert statuses(world) == ["SUCCEEDED", "SUCCEEDED"]
        await read(world, 0, "a")
        assert statuses(world)[-1] == "UNCHANGED"
        assert world.position(0).courses_since == 2


async def test_a_record_of_somebody_else_makes_a_course_unknown() -> None:
    async with LogWorld(1) as world:
        await world.start()
        await world.running(0)
        await read(world, 0, "ab")
        await world.stop()
        world.cluster.append(world.topics.courses, Message(course_key("i", "a"), b"not ours"), 0)
        world.cluster.append(world.topics.courses, Message(None, None), 0)
        await world.start()
        await loaded(world)
        await read(world, 0, "ab")
        assert statuses(world)[2:] == ["UNCHANGED", "SUCCEEDED"]


async def test_a_partition_without_courses_is_blocked_and_says_so() -> None:
    async with LogWorld(2) as world:
        world.cluster.delete_topic(world.topics.courses)
        world.cluster.create_topic(world.topics.courses, 1)
        await world.start()
        await world.running(0)
        sentence = await world.blocked(1)
        assert "has 2 partitions and course-sync-courses has 1" in sentence
        assert "coursesyncd topics create" in sentence


async def test_skip_to_another_topic_believes_nothing_of_what_was_known() -> None:
    async with LogWorld(1) as world:
        await world.start()
        await world.running(0)
        await read(world, 0, "a")
        await world.stop()
        world.cluster.recreate_topic(world.topics.changes)
        await skip(world, 0, "earliest")
        await world.start()
        await loaded(world)
        world.publish(0, "a")
        await world.until(lambda: len(world.results()) == 2, "the result")
        assert statuses(world) == ["SUCCEEDED", "SUCCEEDED"]
