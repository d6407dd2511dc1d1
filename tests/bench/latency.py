"""Added latency when idle: from a change's record to the arrival of its POST, less the linger.

Single changes, each of another course, some ten a second. It counts from the timestamp that the
publisher's client gave to the record, to the moment at which the simulator took the POST (the task's
`created_at`): the way to the broker, the fetch, the hand-over to the loop, the commit of the batch and
the way to the API. `batch.linger`, which the operator chose, is subtracted. All clocks are that of this
machine, in whole milliseconds.
"""

from __future__ import annotations

import random
import statistics
import time
from dataclasses import dataclass

from kafka import KafkaProducer

from daemon.codec import decode_change
from daemon.config.units import parse_duration
from daemon.core.model import Change
from tests.bench.load import distinct_changes
from tests.bench.setting import Setting
from tests.sandbox.checker.readers import read_tasks
from tests.sandbox.generator import GeneratedRecord
from tests.sandbox.process import SandboxError
from tests.sandbox.stack import Addresses, Stack

LINGER = "50ms"
"""Short, so that the measurement is."""
PAUSE_MIN, PAUSE_MAX = 0.06, 0.12
"""Seconds between two changes; drawn, so that no rhythm of the daemon's falls in step with ours."""
WARM_UP = 20
"""Changes that are not counted: connections are opened, code runs for the first time."""
TIMEOUT = 30.0
ITEM_BYTES_MAX = 65_536

_Course = tuple[str, str]
"""Integration and origin id."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds."""

    p50: float
    p99: float
    samples: int


def measure_latency(setting: Setting, samples: int) -> Latency:
    with setting.stack("latency", task_seconds=0.0, settings={"batch.linger": LINGER}) as stack:
        stack.start_daemon()
        stack.await_ready()
        published = _publish(stack.addresses, samples + WARM_UP)
        arrived = _arrivals(stack, len(published))
    linger_ms = parse_duration(LINGER) * 1000
    added = [arrived[course] - at - linger_ms for course, at in published[WARM_UP:]]
    cuts = statistics.quantiles(added, n=100, method="inclusive")
    return Latency(p50=cuts[49], p99=cuts[98], samples=len(added))


def _publish(at: Addresses, count: int) -> list[tuple[_Course, int]]:
    """Each change's course, and its record's timestamp in ms since the epoch."""
    rng = random.Random(1)
    published = []
    producer = KafkaProducer(bootstrap_servers=at.bootstrap.split(","), acks="all", linger_ms=0)
    try:
        for record in distinct_changes(count, seed=1):
            headers = list(record.headers)
            sent = producer.send(at.topics.changes, record.value, record.key, headers).get(timeout=TIMEOUT)
            published.append((_course(record), sent.timestamp))
            time.sleep(rng.uniform(PAUSE_MIN, PAUSE_MAX))
    finally:
        producer.close()
    return published


def _course(record: GeneratedRecord) -> _Course:
    change = decode_change(
        0, record.key, record.value, record.headers, consumed_at=0, item_bytes_max=ITEM_BYTES_MAX
    )
    assert isinstance(change, Change)
    return change.integration_id, change.origin_id


def _arrivals(stack: Stack, count: int) -> dict[_Course, int]:
    """When the POST with each course arrived, in ms since the epoch.

    Raises:
        SandboxError: not all of them came in time.
    """
    deadline = time.monotonic() + TIMEOUT
    while True:
        arrived = {
            (task.integration_id, item.origin_id): task.created_at
            for task in read_tasks(stack.addresses.simulator.url)
            for item in task.items
        }
        if len(arrived) == count:
            return arrived
        stack.assert_running()
        if time.monotonic() > deadline:
            raise SandboxError(f"of {count} changes only {len(arrived)} were submitted")
        time.sleep(0.2)
