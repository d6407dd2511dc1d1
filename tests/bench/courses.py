"""The index of the known courses: bytes a course, and how long it takes to load it while the event loop has other work.

`python -m tests.bench.courses memory|load COURSES [HOST:PORT]` measures one figure in a process of its own and prints a line
of JSON. `load` reads from the embedded log, or from the Kafka at `HOST:PORT`, into whose new topics it writes the records first.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator

from daemon.codec import decode_course, encode_course
from daemon.commands.run import GARBAGE_THRESHOLD
from daemon.core.course import CourseRecord, CourseState
from daemon.core.known_courses import Budget, KnownCourses
from daemon.log.kafka import admin
from daemon.log.kafka.clients import Clients, KafkaConnection
from daemon.log.kafka.log import KafkaLog
from daemon.log.port import ShardLog, Topics, Transaction
from daemon.runtime.course_loading import load_records
from tests.bench.core import resident_bytes
from tests.embedded_log import EmbeddedCluster, EmbeddedLog

AT = 1_795_427_999_875
PER_TRANSACTION = 5_000
TICK = 0.001
"""Seconds between two steps of the other work of the event loop."""


def records(courses: int) -> Iterator[tuple[bytes, bytes]]:
    for number in range(courses):
        record = CourseRecord(
            f"workday:HWUTwvyx2wLoSUHphiWV{number % 1000:04}",
            f"course-{number:07}",
            CourseState.ACTIVE,
            f"26vafvWSRmbhNcx{number:09}",
            number.to_bytes(16, "big"),
            number,
            f"chg-{number}",
            f"7FPJba3qRNBYaJg{number // 100:09}",
            AT,
            AT + 1000,
        )
        yield encode_course(record, 0, changes_topic="course-changes")


def memory(courses: int) -> dict[str, float]:
    """Bytes a course, by what the process takes more, and CPU microseconds for decoding and taking in one record."""
    known = KnownCourses(Budget(courses))
    before, seconds = resident_bytes(), 0.0
    for key, value in records(courses):
        began = time.process_time()
        known.load(key, decode_course(value))
        seconds += time.process_time() - began
    known.finish()
    taken = resident_bytes() - before
    assert len(known) == courses
    assert known.course_id("workday:HWUTwvyx2wLoSUHphiWV0001", "course-0000001") == "26vafvWSRmbhNcx000000001"
    return {
        "bytes_per_course": round(taken / courses, 1),
        "cpu_us_per_course": round(seconds / courses * 1e6, 2),
    }


async def load(courses: int, bootstrap: str | None) -> dict[str, float]:
    """Seconds until the index is loaded, and the longest wait of other work of the event loop meanwhile (ms)."""
    async for shard_log, end in _written(courses, bootstrap):
        known, waits = KnownCourses(Budget(courses)), [0.0]
        other = asyncio.create_task(_other_work(waits))
        began, cpu_began = time.perf_counter(), time.process_time()
        await load_records(known, shard_log, 0, end)
        known.finish()
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu_began
        other.cancel()
        assert len(known) == courses
        return {
            "seconds": round(seconds, 2),
            "cpu_seconds": round(cpu, 2),
            "longest_wait_ms": round(1000 * max(waits), 1),
        }
    raise AssertionError


async def _other_work(waits: list[float]) -> None:
    while True:
        began = time.perf_counter()
        await asyncio.sleep(TICK)
        waits.append(time.perf_counter() - began - TICK)


async def _written(courses: int, bootstrap: str | None) -> AsyncIterator[tuple[ShardLog, int]]:
    prefix = f"bench-courses-{uuid.uuid4().hex[:8]}"
    topics = Topics(
        *(
            f"{prefix}-{name}"
            for name in ("changes", "journal", "results", "dead-letters", "courses", "control")
        )
    )
    log: EmbeddedLog | KafkaLog
    if bootstrap is None:
        cluster = EmbeddedCluster(lambda: AT)
        for name in topics.names:
            cluster.create_topic(name, 1)
        log = EmbeddedLog(cluster, topics, "bench")
    else:
        connection = KafkaConnection((bootstrap,))
        asker = admin.Admin(Clients(connection))
        made = [admin.NewTopic(name, 1, 1, {"cleanup.policy": "compact"}) for name in topics.names]
        asker.ask(lambda client: admin.create_topics(client, made))
        asker.close()
        log = KafkaLog(connection, topics, prefix, None, 30.0)
    shard_log: ShardLog = await log.open_shard(0)
    pending: list[tuple[bytes, bytes]] = []
    for record in records(courses):
        pending.append(record)
        if len(pending) == PER_TRANSACTION:
            await shard_log.commit(Transaction([(b"position", b"")], courses=pending))
            pending = []
    await shard_log.commit(Transaction([(b"position", b"")], courses=pending))
    await shard_log.close()
    shard_log = await log.open_shard(0)
    try:
        yield shard_log, await shard_log.courses_end()
    finally:
        await shard_log.close()
        await log.stop()


def main(figure: str, courses: str, bootstrap: str | None = None) -> None:
    gc.freeze()  # as `coursesyncd run` does; otherwise the longest wait is a run of the collector
    gc.set_threshold(GARBAGE_THRESHOLD, *gc.get_threshold()[1:])
    found = memory(int(courses)) if figure == "memory" else asyncio.run(load(int(courses), bootstrap))
    print(json.dumps({"figure": figure, "courses": int(courses), **found}))


if __name__ == "__main__":
    main(*sys.argv[1:])
