"""Histories in which input or journal become others than they were (R8): nothing may go on.

All replicas are down when it happens, as when people change topics. What is right then is not decided by
the daemon but by a person; so it has to stand still and say why: no result, no request, no new position.
"""

from __future__ import annotations

import msgspec

from daemon.log.errors import LogError
from daemon.log.port import Message
from tests.sim.journal_view import JournalView
from tests.sim.judge import conclude
from tests.sim.outcome import Outcome
from tests.sim.parameters import TOPICS, Upheaval
from tests.sim.world import World

SETTLING = 20.0
"""Virtual seconds after which nothing has happened that will ever happen."""


def judge_replaced(world: World, upheaval: Upheaval, outcome: Outcome) -> None:
    """Do it, start everything again, and see whether it stands still."""
    world.after_step = None
    world.run(world.time + SETTLING)
    for replica in world.replicas:
        world.kill(replica)
    world.run(world.time + 1.0)
    partitions = range(world.cluster.partition_count(TOPICS.changes))
    world.note(f"--- {upheaval} ---")
    _happen(world, upheaval)
    before = _standing(world, partitions)
    for replica in world.replicas:
        world.start(replica)
    world.run(world.time + SETTLING)
    after = _standing(world, partitions)
    for name, was in before.items():
        if after[name] != was:
            outcome.add("went_on", f"though {upheaval}: {name} were {was}, are {after[name]} (R8)")
    conclude(world, outcome)


def _happen(world: World, upheaval: Upheaval) -> None:
    cluster, changes, journal = world.cluster, TOPICS.changes, TOPICS.journal
    partitions = range(cluster.partition_count(changes))
    match upheaval:
        case Upheaval.RECREATED:
            ends = [cluster.partition(changes, p).end for p in partitions]
            cluster.recreate_topic(changes)
            for partition in partitions:
                for number in range(ends[partition] + 2):
                    _append(world, partition, f"recreated-{number}")
        case Upheaval.GROWN:
            for topic in (changes, journal):
                cluster.add_partitions(topic, len(partitions) + 1)
            for partition in partitions:
                _append(world, partition, "grown")
        case Upheaval.EXPIRED:
            for partition in partitions:
                _append(world, partition, "expired")
                cluster.delete_before(changes, partition, cluster.partition(changes, partition).end)
                _append(world, partition, "kept")
        case Upheaval.FORGOTTEN:
            cluster.recreate_topic(journal)
        case Upheaval.NEWER:
            for partition in partitions:
                cluster.append(journal, Message(b'["position"]', _newer(world, partition)), partition)
                _append(world, partition, "newer")


def _append(world: World, partition: int, course: str) -> None:
    body = {"type": "EXTERNAL", "title": "Title", "course_url": "https://example.com/c"}
    value = {
        "id": course,
        "type": "course.upserted",
        "integration_id": "tool",
        "origin_id": course,
        "course": body,
    }
    world.cluster.append(TOPICS.changes, Message(b"any", msgspec.json.encode(value)), partition)


def _newer(world: World, partition: int) -> bytes:
    """The last position record, in the next format."""
    records, _ = world.cluster.read_committed(TOPICS.journal, partition, 0, 1_000_000)
    position = [msgspec.json.decode(r.value or b"") for r in records if r.key == b'["position"]'][-1]
    return msgspec.json.encode({**position, "format": position["format"] + 1})


def _standing(world: World, partitions: range) -> dict[str, object]:
    cluster = world.cluster

    def read(topic: str, partition: int) -> list[object]:
        try:
            return list(cluster.read_committed(topic, partition, 0, 1_000_000)[0])
        except LogError:
            return []

    journals = [
        JournalView().read(cluster.read_committed(TOPICS.journal, p, 0, 1_000_000)[0]) for p in partitions
    ]
    return {
        "results": len(read(TOPICS.results, 0)),
        "requests": sum(world.network.simulator.requests.values()),
        "positions": [journal.next_offset for journal in journals],
    }
