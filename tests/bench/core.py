"""The core's own figures: the heap, and the memory of a shard with many courses in flight.

`python -m tests.bench.core FIGURE SIZE` measures one figure in a process of its own, so that memory of
one measurement is not counted in the next.
"""

from __future__ import annotations

import gc
import heapq
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import msgspec

from daemon.config import BatchSettings, HttpSettings, Policies, Settings, WindowSettings
from daemon.core.answers import Accepted
from daemon.core.flow import Flow
from daemon.core.judge import SubmitRuling
from daemon.core.model import Change, Now, Trace
from daemon.core.schedule import PollIntervals, Schedule, poll_seed
from daemon.core.shard import Shard
from daemon.core.stale_tasks import first_position
from daemon.core.upsert import UPSERT
from daemon.core.verdict import SubmitVerdict
from daemon.runtime.poll_entries import Pending

TASKS = 1_000_000
SUBMISSIONS = 200_000
ITEMS_PER_BATCH = 100
INTEGRATIONS = 40
RECORDS_PER_READ = 500
PAGE_BYTES = 4096


ACCEPTED = SubmitRuling(SubmitVerdict.ACCEPTED)


def resident_bytes() -> int:
    """Resident set size of this process now."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


def heap(tasks: int) -> dict[str, float]:
    """Microseconds of one pop and push at this many tasks, of the schedule and of `heapq` alone, which is its bound; and bytes
    of a pending task: the heap's entry, its key and the batch in memory, one item each.
    """
    before = resident_bytes()
    schedule: Schedule[Pending] = Schedule()
    shard, partition = object(), object()
    policy = PollIntervals(15.0, 1.6, 300.0)
    for number in range(tasks):
        pending = Pending(partition, shard, f"3-{number}-1", late=False)  # type: ignore[arg-type]
        schedule.push(policy.delay(0, 100, number), pending)
    bytes_per_task = (resident_bytes() - before) / tasks
    rounds = 200_000
    started = time.perf_counter()
    for _ in range(rounds):
        popped = schedule.pop_due(1e9)
        assert popped is not None
        due, pending = popped
        schedule.push(due + policy.delay(3, 100, poll_seed(pending.id)), pending)
    with_policy = (time.perf_counter() - started) / rounds
    started = time.perf_counter()
    for _ in range(rounds):
        popped = schedule.pop_due(1e9)
        assert popped is not None
        schedule.push(popped[0] + 300.0, popped[1])
    pop_push = (time.perf_counter() - started) / rounds
    bare, schedule._heap = schedule._heap, []
    started = time.perf_counter()
    for number in range(rounds):
        due, _, pending = heapq.heappop(bare)
        heapq.heappush(bare, (due + 300.0, number, pending))
    return {
        "heapq_pop_push_us": round((time.perf_counter() - started) / rounds * 1e6, 2),
        "heap_pop_push_us": round(pop_push * 1e6, 2),
        "heap_poll_us": round(with_policy * 1e6, 2),
        "heap_bytes_per_task": round(bytes_per_task),
    }


def flow(submissions: int) -> dict[str, float]:
    """Microseconds that a submission takes through the flow: queued, taken in turn among 20 integrations, sent,
    answered with the API's concurrency headers; without a rate and with one.
    """
    figures = {}
    for name, rate in (("flow_us_per_submission", None), ("flow_us_per_submission_with_rate", 10_000)):
        settings = Settings(http=HttpSettings(requests_per_second_max=rate))
        pace: Flow[int] = Flow(settings, Policies(settings), random.Random(1))
        answer = Accepted("task", concurrency_limit=30, concurrency_remaining=29)
        integrations = [f"tool:{number}" for number in range(20)]
        started = time.perf_counter()
        for number in range(submissions // len(integrations)):
            for integration_id in integrations:
                pace.offer(integration_id, number)
            while (permit := pace.next_submission(number)) is not None:
                assert pace.try_send(permit, number)
                pace.submission_done(permit, answer, SubmitVerdict.ACCEPTED, number)
        assert pace.due(submissions) is None
        figures[name] = round((time.perf_counter() - started) / submissions * 1e6, 2)
    return figures


def in_flight_traced(courses: int) -> dict[str, float]:
    """As `in_flight`, where each change has a trace context."""
    return in_flight(courses, traced=True)


def in_flight(courses: int, *, traced: bool = False) -> dict[str, float]:
    """Resident megabytes of a process with this many courses in accepted tasks of 100, scheduled for polling,
    and the microseconds a change takes through the core until it is accepted.
    """
    settings = Settings(
        batch=BatchSettings(items_max=ITEMS_PER_BATCH),
        window=WindowSettings(batches_max=1000, batches_max_per_partition=100_000),
    )
    now = Now(1_790_000_000_000, 0.0)
    shard = Shard(3, settings, Policies(settings), first_position(0, "topic", 6, now), random.Random(1))
    shard.known.finish()
    schedule: Schedule[Pending] = Schedule()
    policy = PollIntervals(15.0, 1.6, 300.0)
    spent = 0.0
    chunk = 5000
    for first in range(0, courses, chunk):
        changes = [change(number) for number in range(first, min(first + chunk, courses))]
        if traced:
            changes = [msgspec.structs.replace(each, trace=trace(each.offset)) for each in changes]
        started = time.perf_counter()
        now = Now(now.wall + 1000, now.mono + 1.0)
        shard.read(changes, first + len(changes), now)
        shard.tick(Now(now.wall, now.mono + 1.0))
        _commit(shard)
        for batch in shard.submissions():
            shard.submit_answered(
                batch.batch_id, Accepted(f"task-{batch.batch_id}-abcdefghijkl"), ACCEPTED, now.mono, now
            )
            pending = Pending(None, shard, batch.batch_id, late=False)  # type: ignore[arg-type]
            schedule.push(policy.delay(0, batch.items, 7), pending)
        _commit(shard)
        spent += time.perf_counter() - started
    assert shard.pending_items == courses
    return {
        "tasks": len(schedule),
        "rss_mb": round(resident_bytes() / 1e6, 1),
        "core_us_per_change": round(spent / courses * 1e6, 2),
    }


def _commit(shard: Shard) -> None:
    step = shard.take_step()
    assert step is not None
    shard.committed(step, range(len(step.journal)), None, Now(0, 0.0))


def change(number: int) -> Change:
    origin = f"course-{number:09d}"
    text = random.Random(number).randbytes(240).hex().encode()  # compresses about as well as prose
    body = (
        b'{"origin_id":"%s","course":{"type":"EXTERNAL","title":"T","course_url":"https://example.com/%s"}}'
        % (origin.encode(), text)
    )
    # Each has at most 1,000 open batches, so as many as these have room for four million changes.
    return Change(
        UPSERT,
        number,
        f"chg-1-{number}",
        f"tool:{number // ITEMS_PER_BATCH % INTEGRATIONS}",
        origin,
        body,
        _read_at(number // RECORDS_PER_READ),
        content=random.Random(-number - 1).randbytes(16),  # as long as a digest of `codec.content_digest`
    )


@lru_cache(maxsize=1)
def _read_at(read: int) -> int:
    """When these records were read: one object for all of them, as in `runtime.intake`."""
    return 1_790_000_000_000 + read


def trace(number: int) -> Trace:
    return Trace(f"00-{number + 1:032x}-{number + 1:016x}-01")


FIGURES: dict[str, Callable[[int], dict[str, float]]] = {
    "heap": heap,
    "flow": flow,
    "in_flight": in_flight,
    "in_flight_traced": in_flight_traced,
}


def measure(figure: str, size: int) -> dict[str, float]:
    """One figure, in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.core", figure, str(size)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=900)
    figures: dict[str, float] = json.loads(ended.stdout)
    return figures


def measure_core() -> dict[str, float]:
    """All figures of the core; memory in megabytes, resident."""
    small, large = measure("in_flight", 100_000), measure("in_flight", 1_000_000)
    return {
        **measure("heap", TASKS),
        **measure("flow", SUBMISSIONS),
        "rss_mb_100k_courses": small["rss_mb"],
        "rss_mb_1m_courses": large["rss_mb"],
        "core_us_per_change": small["core_us_per_change"],
    }


if __name__ == "__main__":
    print(json.dumps(FIGURES[sys.argv[1]](int(sys.argv[2]))))
