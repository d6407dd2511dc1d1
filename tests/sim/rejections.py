"""A publisher that writes something else for a while (C6): how many records are rejected before reading stops, and an
operator who allows the others.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from daemon.log.port import Message
from tests.sim.outcome import Outcome
from tests.sim.world import World

BACKLOG_FULL = "COURSESYNC.BACKLOG_FULL"
POSITION = b'["position"]'


class Deploy(NamedTuple):
    """The publisher's faulty version."""

    start: float
    end: float
    share: float
    """Of its changes that are invalid."""
    interruptions: int
    """How many repair commands fence the owner of a partition meanwhile, and are interrupted before they write anything."""


class Consent(NamedTuple):
    """What an operator has allowed, as `coursesyncd reject` does."""

    partition: int
    stopped_at: int
    end: int


def allow(world: World) -> list[Consent]:
    """Allow the rejections of each partition that has stopped, up to the present end of its input."""
    cluster, changes, journal = world.cluster, world.topics.changes, world.topics.journal
    given = []
    for partition in range(cluster.partition_count(changes)):
        start = cluster.partition(journal, partition).start
        records, _ = cluster.read_committed(journal, partition, start, 1_000_000)
        positions = [msgspec.json.decode(r.value or b"") for r in records if r.key == POSITION]
        stopped_at = positions[-1].get("rejections", {}).get("stopped_at") if positions else None
        if stopped_at is None:
            continue
        end = cluster.partition(changes, partition).end
        consent = Consent(partition, stopped_at, end)
        value = msgspec.json.encode({**positions[-1], "rejections": {"allowed_to": end}})
        operator = cluster.producer(f"{journal}-{partition}")
        operator.append(journal, Message(POSITION, value), partition)
        operator.end_transaction(commit=True)
        world.note(
            f"an operator allows the rejections of partition {partition} from {stopped_at} to {end - 1}"
        )
        given.append(consent)
    return given


def interrupt(world: World, partition: int) -> None:
    """A repair command of an operator fences the owner of the partition and is interrupted."""
    world.note(f"an interrupted command fences the owner of partition {partition}")
    world.cluster.producer(f"{world.topics.journal}-{partition}")


def judge_rejections(world: World, consents: list[Consent], outcome: Outcome) -> None:
    """No record was rejected beyond the limit unless an operator has allowed it, and no partition has stopped before."""
    rejected = _rejected(world)
    for partition in range(world.cluster.partition_count(world.topics.changes)):
        allowed = [consent for consent in consents if consent.partition == partition]
        stops = {consent.stopped_at for consent in allowed}
        stretch: list[bool] = []
        start = world.cluster.partition(world.topics.changes, partition).start
        records, _ = world.cluster.read_committed(world.topics.changes, partition, start, 1_000_000)
        for offset in (record.offset for record in records):
            is_rejected = (partition, offset) in rejected
            exceeds = is_rejected and _reached(world, stretch)
            place = f"record {partition}/{offset}"
            if offset in stops and not exceeds:
                outcome.add("unbounded", f"reading stopped in front of {place}, which the limit allows")
            if any(consent.stopped_at <= offset < consent.end for consent in allowed):
                stretch = []
                continue
            if exceeds:
                outcome.add(
                    "unbounded", f"{place} was rejected after too many others, and nobody has allowed it"
                )
            stretch.append(is_rejected)


def _reached(world: World, before: list[bool]) -> bool:
    """Whether some stretch that ends here has as many rejections as the limit, and exceeds the ratio from its beginning."""
    limits = world.settings.input
    for first in range(len(before)):
        count = 0
        for length, is_rejected in enumerate(before[first:], 1):
            count += is_rejected
            if count <= limits.rejected_ratio_max * length:
                break
        else:
            if count >= limits.rejected_max:
                return True
    return False


def _rejected(world: World) -> set[tuple[int, int]]:
    """Partition and offset of each record that is not a valid change."""
    records, _ = world.cluster.read_committed(world.topics.results, 0, 0, 1_000_000)
    found = [msgspec.json.decode(record.value or b"")["data"] for record in records]
    return {
        (data["change"]["partition"], data["change"]["offset"])
        for data in found
        if data["status"] == "REJECTED" and data["error"]["code"] != BACKLOG_FULL
    }
