"""`end_to_end_rate`: from the first change that the daemon consumed to the last committed result.

The input lies in the topic before the daemon is started, so the daemon alone sets the pace. The daemon
runs as users run it, in its own process; so does the simulator, which has every task done at the first
poll. Both ends are moments and not the life of a process: the first is the smallest `consumed_at` of all
results, the last is when a `read_committed` reader could first have read the last of them.

That reader does not read along, which would take CPU from what is measured: it asks for the last stable
offsets, some times a second, and reads everything when they stand still.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple

import msgspec
from kafka import KafkaConsumer, TopicPartition

from daemon.log.kafka.clients import Clients
from daemon.log.topic_access import read_topic
from tests.bench.setting import Setting
from tests.bench.usage import machine_seconds, process_seconds
from tests.sandbox.process import SandboxError
from tests.sandbox.stack import Addresses, Stack

LOOK_EVERY = 0.05
"""Seconds between two looks; the rate is that much too low at most."""
STANDSTILL = 1.0
"""Seconds without news after which the results are read."""
PATIENCE = 60.0
"""Seconds without news after which the run has failed."""

Part = Literal["daemon", "broker", "simulator"]


@dataclass(frozen=True, slots=True)
class EndToEnd:
    rate: float
    """Changes a second."""
    cpu_us: Mapping[Part, float]
    """Microseconds of CPU time that each part used for one change."""
    elsewhere: float
    """CPUs that other processes kept busy meanwhile: how much the figures are disturbed."""


class Look(NamedTuple):
    at: float
    """Seconds since the epoch."""
    end: int
    """Sum of the last stable offsets of the results."""
    cpu: dict[Part, float]
    machine: float
    own: float
    """CPU time of this very process."""


class _Data(msgspec.Struct):
    status: str
    consumed_at: str


class _Event(msgspec.Struct):
    """What is looked at of a result."""

    id: str
    data: _Data


def measure_end_to_end(setting: Setting, stack: Stack, changes: int) -> EndToEnd:
    """The input holds `changes` good changes, and the daemon was not started.

    Raises:
        SandboxError: some change had no result in time, or not exactly one that says `SUCCEEDED`.
    """
    stack.start_daemon()
    pids: dict[Part, int] = {"daemon": stack.daemon_pid, "simulator": stack.addresses.simulator.pid}
    if setting.broker_pid is not None:
        pids["broker"] = setting.broker_pid
    looks = watch(stack, pids, changes)
    first_consumed = _first_consumed(stack.addresses, changes)
    last = next(look for look in looks if look.end == looks[-1].end)
    first = next((b for b, a in itertools.pairwise(looks) if a.at >= first_consumed), looks[0])
    spent = {part: last.cpu[part] - first.cpu[part] for part in pids}
    ours = sum(spent.values()) + last.own - first.own
    return EndToEnd(
        rate=changes / (last.at - first_consumed),
        cpu_us={part: seconds / changes * 1e6 for part, seconds in spent.items()},
        elsewhere=max(0.0, last.machine - first.machine - ours) / (last.at - first.at),
    )


def watch(stack: Stack, pids: Mapping[Part, int], changes: int) -> list[Look]:
    """Look until the results stand still and can be complete."""
    at = stack.addresses
    reader = Clients(at.connection).reader()
    try:
        partitions = result_partitions(reader, at)
        looks = [_look(reader, partitions, pids)]
        news_at = time.monotonic()
        while time.monotonic() - news_at < (STANDSTILL if looks[-1].end >= changes else PATIENCE):
            time.sleep(LOOK_EVERY)
            stack.assert_running()
            looks.append(_look(reader, partitions, pids))
            if looks[-1].end != looks[-2].end:
                news_at = time.monotonic()
        return looks
    finally:
        reader.close()


def result_partitions(reader: KafkaConsumer, at: Addresses) -> list[TopicPartition]:
    return [TopicPartition(at.topics.results, p) for p in reader.partitions_for_topic(at.topics.results)]


def stable_end(reader: KafkaConsumer, partitions: list[TopicPartition]) -> int:
    """Sum of the offsets up to which a `read_committed` reader can read."""
    ends: dict[Any, int] = reader.end_offsets(partitions)
    return sum(ends.values())


def _look(reader: KafkaConsumer, partitions: list[TopicPartition], pids: Mapping[Part, int]) -> Look:
    end = stable_end(reader, partitions)
    cpu: dict[Part, float] = {part: process_seconds(pid) for part, pid in pids.items()}
    return Look(time.time(), end, cpu, machine_seconds(), process_seconds(os.getpid()))


def _first_consumed(at: Addresses, changes: int) -> float:
    """Seconds since the epoch; having made sure that nothing was measured which went wrong."""
    decode = msgspec.json.Decoder(_Event).decode
    ids = set()
    first = "9999"
    count = 0
    for record in read_topic(at.connection, at.topics.results):
        event = decode(record.value or b"")
        if event.data.status != "SUCCEEDED":
            raise SandboxError(f"the change {event.id} ended as {event.data.status}")
        count += 1
        ids.add(event.id)
        first = min(first, event.data.consumed_at)  # all in one format, so text sorts as time does
    if not len(ids) == count == changes:
        raise SandboxError(f"{changes:,} changes have {count:,} results, {len(ids):,} of them different")
    return datetime.fromisoformat(first).timestamp()
