"""`restore_rate`: a shard with 100,000 courses in flight from its journal, against a bare read of the same.

The journal is written by the daemon's own core and log. Both readings run in processes of their own, one
right after the other, and count the same committed records, from the making of a consumer to the last.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
import uuid

from kafka import TopicPartition

from daemon.config import BatchSettings, Policies, Settings, WindowSettings
from daemon.core.answers import Accepted
from daemon.core.journal_fold import Fold
from daemon.core.judge import SubmitRuling
from daemon.core.model import Now
from daemon.core.shard import Shard
from daemon.core.stale_tasks import first_position
from daemon.core.verdict import SubmitVerdict
from daemon.log.kafka import admin
from daemon.log.kafka.clients import Clients, KafkaConnection
from daemon.log.kafka.shard import KafkaShardLog
from daemon.log.kafka.worker import WorkerProgress
from daemon.log.port import Topics, Transaction
from tests.bench.copying import bare_reader
from tests.bench.core import change, resident_bytes

COURSES = 100_000
"""Unless another number is asked for."""
ITEMS_PER_BATCH = 100
TIMEOUT = 120.0
"""Seconds."""
_NOW = Now(1_790_000_000_000, 0.0)


ACCEPTED = SubmitRuling(SubmitVerdict.ACCEPTED)


def measure_restore(bootstrap: str, repetitions: int, courses: int = COURSES) -> dict[str, float]:
    """Rates are records of the journal a second, medians; memory is that of the restoring process."""
    topics = _make_topics(bootstrap)
    live = _program("write", bootstrap, topics.journal, courses)
    raws, restores = [], []
    for _ in range(repetitions):
        raws.append(_program("raw", bootstrap, topics.journal, courses))
        restores.append(_program("restore", bootstrap, topics.journal, courses))
    raw = sorted(one["rate"] for one in raws)[repetitions // 2]
    restore = sorted(one["rate"] for one in restores)[repetitions // 2]
    return {
        "courses": courses,
        "raw_read_rate": round(raw),
        "restore_rate": round(restore),
        "restore_ratio": round(restore / raw, 3),
        "restore_seconds": restores[-1]["seconds"],
        "shard_mb_live": live["mb"],
        "shard_mb_restored": restores[-1]["mb"],
    }


def _make_topics(bootstrap: str) -> Topics:
    prefix = f"bench-restore-{uuid.uuid4().hex[:8]}"
    topics = Topics(
        *(
            f"{prefix}-{name}"
            for name in ("changes", "journal", "results", "dead-letters", "courses", "control")
        )
    )
    asker = admin.Admin(_clients(bootstrap))
    try:
        names = topics.names
        asker.ask(
            lambda client: admin.create_topics(
                client, [admin.NewTopic(name, 1, 1, {"cleanup.policy": "compact"}) for name in names]
            )
        )
    finally:
        asker.close()
    return topics


def _clients(bootstrap: str) -> Clients:
    return Clients(KafkaConnection((bootstrap,)))


def _program(what: str, bootstrap: str, journal: str, courses: int) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.bench.restoring", what, bootstrap, journal, str(courses)]
    timeout = 2 * TIMEOUT * max(1.0, courses / COURSES)
    ended = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    if ended.returncode:
        raise RuntimeError(f"{what} failed:\n{ended.stderr[-2000:]}")
    figures: dict[str, float] = json.loads(ended.stdout.splitlines()[-1])
    return figures


# --- the programs ---------------------------------------------------------------------------------


def settings() -> Settings:
    window = WindowSettings(batches_max=1000, batches_max_per_partition=100_000)
    return Settings(batch=BatchSettings(items_max=ITEMS_PER_BATCH), window=window)


async def shard_log(bootstrap: str, journal: str) -> KafkaShardLog:
    clients = _clients(bootstrap)
    prefix = journal.removesuffix("-journal")
    topics = Topics(
        f"{prefix}-changes", journal, f"{prefix}-results", f"{prefix}-dead-letters", f"{prefix}-courses"
    )

    async def offsets(topic: str) -> tuple[int, int]:
        asker = admin.Admin(clients)
        try:
            return await asyncio.to_thread(asker.ask, lambda client: admin.offsets(client, topic, 0))
        finally:
            asker.close()

    log = KafkaShardLog(clients, topics, 0, WorkerProgress(), offsets, lambda _: None)
    await log.open()
    return log


async def write(bootstrap: str, journal: str, courses: int) -> dict[str, float]:
    """Fill the journal as a running shard would; the memory that it then holds."""
    log = await shard_log(bootstrap, journal)
    before = resident_bytes()
    shard = Shard(0, settings(), Policies(settings()), first_position(0, "topic", 1, _NOW), random.Random(1))
    shard.known.finish()
    for first in range(0, courses, 5000):
        changes = [change(number) for number in range(first, min(first + 5000, courses))]
        shard.read(changes, first + len(changes), _NOW)
        shard.tick(Now(_NOW.wall, _NOW.mono + 1e6))
        await _commit(shard, log)
        for batch in shard.submissions():
            shard.submit_answered(
                batch.batch_id, Accepted(f"task-{batch.batch_id}-abcdefghijkl"), ACCEPTED, _NOW.mono, _NOW
            )
        await _commit(shard, log)
    await log.close()
    return {"mb": round((resident_bytes() - before) / 1e6, 1)}


async def _commit(shard: Shard, log: KafkaShardLog) -> None:
    step = shard.take_step()
    assert step is not None
    committed = await log.commit(Transaction(step.journal))
    shard.committed(step, *committed, _NOW)


async def restore(bootstrap: str, journal: str, courses: int) -> dict[str, float]:
    log = await shard_log(bootstrap, journal)
    before = resident_bytes()
    started = time.perf_counter()
    fold, count = Fold(), 0
    async for records in log.restore():
        for record in records:
            fold.apply(record.offset, record.key, record.value)
        count += len(records)
    fold.finish()
    shard = Shard.restore(0, settings(), Policies(settings()), fold, random.Random(1), _NOW)
    seconds = time.perf_counter() - started
    assert shard.pending_items == courses
    del fold, records
    mb = round((resident_bytes() - before) / 1e6, 1)
    await log.close()
    return {"rate": count / seconds, "seconds": round(seconds, 2), "mb": mb}


async def raw(bootstrap: str, journal: str, courses: int) -> dict[str, float]:
    """Bare kafka-python: the same records, the same settings, nothing done with them."""
    started = time.perf_counter()
    consumer = bare_reader(KafkaConnection((bootstrap,)))
    place = TopicPartition(journal, 0)
    end = consumer.end_offsets([place])[place]
    consumer.assign([place])
    consumer.seek_to_beginning(place)
    count = 0
    while consumer.position(place) < end and time.perf_counter() - started < TIMEOUT:
        count += sum(len(records) for records in consumer.poll(timeout_ms=1000).values())
    seconds = time.perf_counter() - started
    assert count >= courses / ITEMS_PER_BATCH
    consumer.close()
    return {"rate": count / seconds, "seconds": round(seconds, 2)}


if __name__ == "__main__":
    _, what, bootstrap_, journal_, courses_ = sys.argv
    program = {"write": write, "restore": restore, "raw": raw}[what]
    print(json.dumps(asyncio.run(program(bootstrap_, journal_, int(courses_)))))
