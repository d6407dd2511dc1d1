"""What the repair commands share: inspecting a partition's journal and input without disturbing its owner, and writing a
position record as its owner.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import click
import msgspec

from daemon.commands.connections import kafka_connection
from daemon.config import Settings, Topics
from daemon.core.journal import POSITION_KEY, Floor, JournalError, Position, encode_value, floor_key
from daemon.core.journal_fold import Fold
from daemon.log.errors import CorruptJournalError, FencedError, HeldBackError, LogError
from daemon.log.kafka.log import KafkaLog
from daemon.log.port import InputFacts, Record, RepairLog, ShardLog, Transaction
from daemon.runtime import operator_messages

FENCED_MAX = 5
"""Attempts to become a partition's owner. The earlier owner returns only after a heartbeat has confirmed its assignment,
which takes longer than writing the record.
"""

NO_FLOORS: Mapping[str, Floor] = MappingProxyType({})


class RepairError(Exception):
    """The repair is not possible, and nothing was changed. The message says why and what to do."""


@dataclass(frozen=True, slots=True)
class InspectedPartition:
    """The state of one partition when it was inspected."""

    partition: int
    fold: Fold
    facts: InputFacts

    @property
    def position(self) -> Position | None:
        return self.fold.position

    @property
    def open_offsets(self) -> Iterator[int]:
        """The offsets of open changes, whose results are still to come."""
        fold = self.fold
        yield from (wait.item.offset for wait in fold.waits.values())
        yield from (item.offset for batch in fold.batches.values() for item in batch.items)
        yield from (item.offset for late in fold.late.values() for item in late.items)

    @property
    def under_way(self) -> str | None:
        """A description of the open changes; None if there are none."""
        fold = self.fold
        counts = (
            (len(fold.waits), "waiting"),
            (len(fold.batches), "in batches"),
            (len(fold.late), "timed out"),
        )
        said = {
            "waiting": "{} changes held back",
            "in batches": "{} open batches",
            "timed out": "{} timed-out tasks that are still watched",
        }
        told = [said[kind].format(count) for count, kind in counts if count]
        return ", ".join(told) or None


async def unjoined_log(settings: Settings) -> KafkaLog:
    """The log without `start`, so this process does not join the group. Needs a running loop."""
    kafka = settings.kafka
    return KafkaLog(kafka_connection(kafka), settings.topics, kafka.group_id, None, kafka.session_timeout)


async def inspect_partition(log: RepairLog, partition: int, topics: Topics) -> InspectedPartition:
    """Read a partition's journal without fencing its owner.

    Raises:
        RepairError: there is no such partition, or its journal cannot be read.
        LogError: Kafka did not answer.
    """
    facts = await log.input_facts(partition)
    if sentence := operator_messages.without_journal(partition, facts, topics):
        if partition >= facts.partitions:
            sentence = f"{topics.changes} has {facts.partitions} partitions, 0 to {facts.partitions - 1}: there is no {partition}"
        raise RepairError(sentence)
    return InspectedPartition(partition, await _folded(log.read_journal(partition), partition, topics), facts)


async def inspect_partitions(
    log: RepairLog, topics: Topics, unreadable: list[str], partitions: Sequence[int] = ()
) -> AsyncIterator[InspectedPartition]:
    """These partitions, or all, one after the other, because a journal may need much memory. `unreadable` gets a sentence for
    each that cannot be read.

    Raises:
        LogError: Kafka did not answer.
    """
    for partition in partitions or range((await log.input_facts(0)).partitions):
        try:
            yield await inspect_partition(log, partition, topics)
        except RepairError as error:
            unreadable.append(str(error))


async def renew(
    log: RepairLog,
    seen: InspectedPartition,
    position: Position,
    topics: Topics,
    floors: Mapping[str, Floor] = NO_FLOORS,
) -> None:
    """Become the partition's owner, check that its position is still as in `seen`, and write this position record and
    these floors of integrations. Nothing else is changed. The earlier owner is fenced and restores again.

    A replica that opens the partition at the same moment may fence this process; then it is retried.

    Raises:
        RepairError: the position has changed.
        LogError: Kafka did not answer, or a replica fenced this process each time.
    """
    for _ in range(FENCED_MAX):
        shard_log = await log.open_shard(seen.partition)
        try:
            await _renew(shard_log, seen, position, topics, floors)
        except FencedError:
            continue
        else:
            return
        finally:
            await shard_log.close()
    raise LogError(
        f"partition {seen.partition}: another replica took it over {FENCED_MAX} times in a row; its journal was not "
        "changed. Run the command again"
    )


async def _renew(
    shard_log: ShardLog,
    seen: InspectedPartition,
    position: Position,
    topics: Topics,
    floors: Mapping[str, Floor],
) -> None:
    fold = await _folded(shard_log.restore(), seen.partition, topics)
    if _read_up_to(fold.position) != _read_up_to(seen.position):
        raise RepairError(
            f"partition {seen.partition}: a replica has continued to read it, so it is not blocked; its journal was not "
            "changed"
        )
    if fold.position is not None:
        # What it says of POSTs (R6) is that of the last owner, which may be another one than at the inspection.
        position = msgspec.structs.replace(
            position, released=fold.position.released, fencings=fold.position.fencings
        )
    records = [(floor_key(integration_id), encode_value(floor)) for integration_id, floor in floors.items()]
    records.append((POSITION_KEY, encode_value(position)))
    await shard_log.commit(Transaction(records, position=position.next_offset))


def _read_up_to(position: Position | None) -> tuple[int, str, int] | None:
    return None if position is None else (position.next_offset, position.topic_id, position.partitions)


async def _folded(journal: AsyncIterator[Sequence[Record]], partition: int, topics: Topics) -> Fold:
    fold = Fold()
    try:
        async for records in journal:
            for record in records:
                fold.apply(record.offset, record.key, record.value)
        fold.finish()
    except (JournalError, CorruptJournalError) as error:
        raise RepairError(operator_messages.unreadable_journal(partition, error, topics)) from error
    except HeldBackError as error:
        raise RepairError(operator_messages.held_back_journal(error)) from error
    return fold


def confirmed(question: str, *, yes: bool, dry_run: bool) -> bool:
    """Ask before something is changed. `yes` answers the question; a dry run changes nothing."""
    if dry_run:
        click.echo("Nothing was changed: this was a dry run.")
        return False
    if yes or click.confirm(question):
        return True
    click.echo("Nothing was changed.")
    return False
