"""`topics grow`: a course has its record in the partition of its changes, and in no other."""

from __future__ import annotations

import itertools

from daemon.codec import encode_course
from daemon.commands.repair.course_moves import move_courses
from daemon.core.course import CourseRecord, CourseState
from daemon.core.placement import place
from daemon.log.port import Topics, Transaction
from tests.embedded_log import EmbeddedCluster, EmbeddedLog

TOPICS = Topics()
OLD, NEW = 2, 5
INTEGRATIONS = [f"tool:{number}" for number in range(20)]


def new_log() -> tuple[EmbeddedCluster, EmbeddedLog]:
    cluster = EmbeddedCluster(itertools.count(1_700_000_000_000).__next__)
    for topic in TOPICS.names:
        cluster.create_topic(topic, NEW)
    return cluster, EmbeddedLog(cluster, TOPICS, "repair")


async def write(log: EmbeddedLog, partition: int, integration_id: str, *origin_ids: str) -> None:
    shard_log = await log.open_shard(partition)
    records = [
        encode_course(
            CourseRecord(integration_id, each, CourseState.ACTIVE, "id", bytes(16), 1, "chg", "task", 1, 1),
            partition,
            changes_topic="course-changes",
        )
        for each in origin_ids
    ]
    await shard_log.commit(Transaction((), courses=records))


def tables(cluster: EmbeddedCluster) -> list[dict[bytes, bytes]]:
    found: list[dict[bytes, bytes]] = []
    for partition in range(NEW):
        records, _ = cluster.read_committed(TOPICS.courses, partition, 0, 10_000)
        last = {record.key or b"": record.value for record in records}
        found.append({key: value for key, value in last.items() if value is not None})
    return found


async def test_records_follow_the_changes_of_their_integrations() -> None:
    cluster, log = new_log()
    for name in INTEGRATIONS:
        await write(log, place(name.encode(), OLD), name, "a", "b")
    before = tables(cluster)
    moved, erased = await move_courses(log, dict.fromkeys(range(OLD), OLD), NEW, "murmur2")
    assert erased == 0
    assert moved == 2 * sum(place(name.encode(), OLD) != place(name.encode(), NEW) for name in INTEGRATIONS)
    after = tables(cluster)
    for partition, table in enumerate(after):
        for name in INTEGRATIONS:
            keys = [key for key in table if name.encode() + b'"' in key]
            assert len(keys) == (2 if place(name.encode(), NEW) == partition else 0)
    assert {**before[0], **before[1]} == {key: value for table in after for key, value in table.items()}


async def test_records_are_erased_where_nobody_knows_where_the_changes_go() -> None:
    cluster, log = new_log()
    for name in INTEGRATIONS:
        await write(log, place(name.encode(), OLD), name, "a")
    await write(log, 1 - place(b"tool:0", OLD), "tool:0", "by another key")
    moved, erased = await move_courses(log, dict.fromkeys(range(OLD), OLD), NEW, "murmur2")
    assert (moved, erased) == (0, len(INTEGRATIONS) + 1)
    assert tables(cluster) == [{}] * NEW


async def test_any_partitioner_tells_nothing() -> None:
    cluster, log = new_log()
    await write(log, 0, "tool:0", "a")
    assert await move_courses(log, dict.fromkeys(range(OLD), OLD), NEW, "any") == (0, 1)
    assert tables(cluster) == [{}] * NEW
