"""``coursesyncd topics grow``: adds partitions to the input and the journal without losing the order.

With more partitions every key hashes differently: the next change of a course arrives in another partition while its last
one may still be open in the old one. So partitions are added only when nothing is open: all partitions are read to
their ends, and nothing waits, is open or is watched. The steps, each of them idempotent::

    1  the journal has N partitions
    2  each new journal partition starts at offset 0 with the *old* count, so it is blocked
    3  the input has N partitions
    4  everything is checked again; the records of known courses are moved to their new partitions (`course_moves`); the
       position records of the old partitions, then of the new ones, are set to N

After a crash between two steps, the affected partitions are blocked and report it; running the command again completes the
change. Records that are published between the two checks are found by the second; step 4 then waits until they are read.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import msgspec
from kafka import KafkaAdminClient
from msgspec import UNSET

from daemon.commands.connections import kafka_connection
from daemon.commands.options import config_option, settings_or_exit
from daemon.commands.repair.course_moves import move_courses, moves_sentence
from daemon.commands.repair.journal_repair import (
    InspectedPartition,
    RepairError,
    confirmed,
    inspect_partition,
    renew,
    unjoined_log,
)
from daemon.config import Settings
from daemon.core.journal import Floor
from daemon.core.journal_fold import Fold
from daemon.core.model import Now
from daemon.core.stale_tasks import first_position
from daemon.log.errors import LogError, UnreadableError
from daemon.log.kafka.admin import Admin, NewTopic, create_topics, partition_count
from daemon.log.kafka.clients import Clients
from daemon.log.kafka.log import KafkaLog
from daemon.log.kafka.topic_settings import COURSES, add_partitions
from daemon.log.port import InputFacts, RepairLog, Topics

VISIBLE_WITHIN = 30.0
"""Seconds within which all brokers must know new partitions."""

AddPartitions = Callable[[str, int], Any]
"""Increases the number of partitions of a topic to a total."""


@dataclass(frozen=True, slots=True)
class InspectedTopics:
    """The state of all partitions of the input and of those that only the journal has so far."""

    inspected: Mapping[int, InspectedPartition]
    input_partitions: int
    journal_partitions: int
    courses_partitions: int
    topics: Topics

    def is_new(self, number: int) -> bool:
        """Whether an unfinished growth added the partition. It then contains no change that was published before."""
        position = self.inspected[number].position
        if position is not None:
            return position.partitions <= number
        began = [at.position.partitions for at in self.inspected.values() if at.position is not None]
        return number >= min(self.input_partitions, self.journal_partitions, *began)

    @property
    def has_begun(self) -> bool:
        """Whether any partition has a position. If not, new partitions start like all others."""
        return any(at.position is not None for at in self.inspected.values())

    def is_stale(self, number: int, partitions: int) -> bool:
        """Whether its position record must be rewritten."""
        at = self.inspected.get(number)
        if at is not None and at.position is not None:
            return at.position.partitions != partitions
        return self.has_begun and (at is None or self.is_new(number))

    @property
    def old(self) -> Iterator[InspectedPartition]:
        return (at for number, at in self.inspected.items() if not self.is_new(number))

    @property
    def new(self) -> Iterator[InspectedPartition]:
        return (at for number, at in self.inspected.items() if self.is_new(number))


async def inspect_topics(log: RepairLog, topics: Topics) -> InspectedTopics:
    """Inspect all partitions without disturbing their owners.

    Raises:
        RepairError: a journal cannot be read.
        LogError: Kafka did not answer.
    """
    facts = await log.input_facts(0)
    inspected: dict[int, InspectedPartition] = {}
    for number in range(max(facts.partitions, facts.journal_partitions)):
        if number < facts.journal_partitions:
            inspected[number] = await inspect_partition(log, number, topics)
        else:
            inspected[number] = InspectedPartition(number, Fold(), await log.input_facts(number))
    return InspectedTopics(
        inspected, facts.partitions, facts.journal_partitions, facts.courses_partitions, topics
    )


async def busy_partitions(log: RepairLog, found: InspectedTopics) -> list[str]:
    """One line for each old partition that is not quiescent."""
    whys = [(at.partition, await _busy_reason(log, at)) for at in found.old]
    return [f"partition {number}: {why}" for number, why in whys if why is not None]


async def _busy_reason(log: RepairLog, at: InspectedPartition) -> str | None:
    facts, position = at.facts, at.position
    if at.under_way is not None:
        return at.under_way
    if position is None and facts.group_offset is not None:
        return "its journal has no position (see `coursesyncd skip`)"
    if position is not None and position.topic_id != facts.topic_id:
        return "its journal belongs to another topic (see `coursesyncd skip`)"
    offset = facts.earliest if position is None else position.next_offset
    if not facts.earliest <= offset <= facts.latest:
        return f"offset {offset} cannot be read (see `coursesyncd skip`)"
    if facts.stable < facts.latest:
        return "a transaction of a publisher is open"
    # Offsets alone are not enough: transaction markers and aborted records use offsets too.
    try:
        unread = await log.next_record(at.partition, offset)
    except UnreadableError as error:
        return f"{error} (see `coursesyncd skip`)"
    return None if unread is None else f"records from offset {unread} are not read yet"


def steps(found: InspectedTopics, partitions: int) -> list[str]:
    """Descriptions of the remaining steps; empty if there are none.

    Raises:
        RepairError: partitions cannot be removed.
    """
    topics = found.topics
    most = max(found.input_partitions, found.journal_partitions)
    if partitions < most:
        raise RepairError(
            f"{topics.changes} has {found.input_partitions} partitions and {topics.journal} {found.journal_partitions}: "
            f"partitions cannot be removed, so --partitions must be at least {most}"
        )
    said = []
    if found.journal_partitions < partitions:
        said.append(f"{topics.journal}: {found.journal_partitions} partitions, to be {partitions}")
    if found.courses_partitions < partitions:
        said.append(f"{topics.courses}: {found.courses_partitions} partitions, to be {partitions}")
    if found.input_partitions < partitions:
        said.append(f"{topics.changes}: {found.input_partitions} partitions, to be {partitions}")
    if stale := [number for number in range(partitions) if found.is_stale(number, partitions)]:
        numbers = ", ".join(map(str, stale))
        said.append(f"{topics.journal}: the position records of partitions {numbers} are set to {partitions}")
    return said


async def grow(
    log: RepairLog,
    add: AddPartitions,
    found: InspectedTopics,
    partitions: int,
    now: Callable[[], Now],
    partitioner: str,
) -> str:
    """Carry out the steps, and return what became of the known courses. The old partitions of `found` must be quiescent.

    Raises:
        RepairError: records were published in the meantime; run it again when they have been read.
        LogError: Kafka did not answer; run it again.
    """
    topics = found.topics
    counts = [at.position.partitions for at in found.inspected.values() if at.position is not None]
    began = min([*counts, found.input_partitions, found.journal_partitions])
    if found.journal_partitions < partitions:
        await asyncio.to_thread(add, topics.journal, partitions)
        await _visible(log, lambda facts: facts.journal_partitions, partitions)
    if found.courses_partitions < partitions:
        await asyncio.to_thread(add, topics.courses, partitions)
        await _visible(log, lambda facts: facts.courses_partitions, partitions)
    if found.has_begun:
        for number in range(began, partitions):
            await _begin(log, number, began, topics, now())
    if found.input_partitions < partitions:
        await asyncio.to_thread(add, topics.changes, partitions)
        await _visible(log, lambda facts: facts.partitions, partitions)
    return await _renew_all(log, topics, partitions, partitioner)


async def _begin(log: RepairLog, number: int, began: int, topics: Topics, now: Now) -> None:
    """Write a first position at the start of a new partition with the old count. The partition is then blocked, and no
    record is skipped even if `input.start_at` is `latest`.
    """
    at = await inspect_partition(log, number, topics)
    if at.position is None:
        await renew(log, at, first_position(at.facts.earliest, at.facts.topic_id, began, now), topics)


async def _renew_all(log: RepairLog, topics: Topics, partitions: int, partitioner: str) -> str:
    found = await inspect_topics(log, topics)
    if busy := await busy_partitions(log, found):
        raise RepairError(
            "records were published in the meantime: "
            + "; ".join(busy)
            + ". With the publishers paused, `coursesyncd skip "
            "--partition P` makes each of these partitions read them. Then run this command again"
        )
    stale = {
        at.partition: at.position.partitions
        for at in found.old
        if at.position is not None and at.position.partitions != partitions
    }
    moved = await move_courses(log, stale, partitions, partitioner)
    inspected = (*found.old, *found.new)
    base = max((at.position.api_floor for at in inspected if at.position is not None), default=0)
    floors = newest_floors(inspected)
    for at in inspected:
        if at.position is not None and at.position.partitions != partitions:
            # What was confirmed in a partition may be replaced in another one from now on.
            position = msgspec.structs.replace(
                at.position, partitions=partitions, api_floor=base, courses_since=UNSET
            )
            lacking = {name: floor for name, floor in floors.items() if at.fold.floors.get(name) != floor}
            await renew(log, at, position, topics, lacking)
    return moves_sentence(moved)


def newest_floors(inspected: Iterable[InspectedPartition]) -> dict[str, Floor]:
    """R14: a course that moves to another partition keeps its floor."""
    newest: dict[str, Floor] = {}
    for at in inspected:
        for integration_id, floor in at.fold.floors.items():
            known = newest.get(integration_id)
            if known is None or floor.created_at > known.created_at:
                newest[integration_id] = floor
    return newest


async def _visible(log: RepairLog, count: Callable[[InputFacts], int], partitions: int) -> None:
    async with asyncio.timeout(VISIBLE_WITHIN):
        while True:
            if count(await log.input_facts(0)) >= partitions:
                return
            await asyncio.sleep(0.1)


@click.command(name="grow")
@config_option
@click.option(
    "--partitions", type=click.IntRange(1, 10_000), required=True, help="The new total number of partitions."
)
@click.option("--dry-run", is_flag=True, help="Show what would be done, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask; for scripts.")
def grow_command(*, config_file: Path | None, partitions: int, dry_run: bool, yes: bool) -> None:
    """Add partitions to the input and the journal.

    Pause the publishers first: courses move to other partitions, so nothing may be unread or open. The daemon may
    keep running. After an interruption, run the command again to complete it.
    """
    settings = settings_or_exit(config_file, unneeded=frozenset({"kombo"}))
    with asyncio.Runner() as runner:
        try:
            clients = runner.run(_kafka_clients(settings))
            try:
                _grow(runner, clients, settings, partitions, dry_run=dry_run, yes=yes)
            finally:
                runner.run(clients.close())
        except (LogError, RepairError) as error:
            raise click.ClickException(str(error)) from None


@dataclass(frozen=True, slots=True)
class _KafkaClients:
    log: KafkaLog
    admin: Admin

    def add(self, topic: str, partitions: int) -> None:
        """Also creates the courses topic, which the topics of an earlier version do not include."""

        def grown(client: KafkaAdminClient) -> None:
            if partition_count(client, topic) is None:
                create_topics(client, [NewTopic(topic, partitions, None, COURSES)])
            else:
                add_partitions(client, topic, partitions)

        self.admin.ask(grown)

    async def close(self) -> None:
        await self.log.stop()
        self.admin.close()


async def _kafka_clients(settings: Settings) -> _KafkaClients:
    return _KafkaClients(await unjoined_log(settings), Admin(Clients(kafka_connection(settings.kafka))))


def _grow(
    runner: asyncio.Runner,
    clients: _KafkaClients,
    settings: Settings,
    partitions: int,
    *,
    dry_run: bool,
    yes: bool,
) -> None:
    topics = settings.topics
    found = runner.run(inspect_topics(clients.log, topics))
    to_do = steps(found, partitions)
    if not to_do:
        click.echo(f"Nothing to do: both topics have {partitions} partitions, and the journal records it.")
        return
    for line in to_do:
        click.echo(line)
    if busy := runner.run(busy_partitions(clients.log, found)):
        raise RepairError(
            "not possible now: courses move to other partitions, and these partitions are still busy:\n  "
            + "\n  ".join(busy)
            + "\nPause the publishers, wait until the daemon has finished, then run this command again"
        )
    click.echo("Every partition is idle. Keep the publishers paused until this command has ended.")
    if confirmed("Continue?", yes=yes, dry_run=dry_run):
        moves = grow(clients.log, clients.add, found, partitions, _now, settings.input.partitioner)
        click.echo(runner.run(moves))
        click.echo(f"Done: {topics.changes} and {topics.journal} have {partitions} partitions.")


def _now() -> Now:
    return Now(time.time_ns() // 1_000_000, time.monotonic())
