"""From an assignment to a shard that may run: fence, restore, compare with what the log says (R8)."""

from __future__ import annotations

from dataclasses import dataclass

from daemon.core.journal import Fold, Position, payload
from daemon.core.shard import Shard, first_position
from daemon.log.port import InputFacts, ShardLog
from daemon.runtime.ports import Ports


class BlockedError(Exception):
    """The partition must not go on without a person. The message says why and what gets it out."""


@dataclass(frozen=True, slots=True)
class Opened:
    shard: Shard
    is_new: bool
    """There was no journal: this is the first start of the partition."""
    topic_partitions: int


async def restore(ports: Ports, partition: int, shard_log: ShardLog) -> Opened:
    """The shard as its journal tells it.

    Raises:
        BlockedError: journal and input do not fit together.
        JournalError: a record can not be read by this version, or is not what was written.
        LogError: the log does not answer now.
    """
    started = ports.clock.now().mono
    fold = Fold()
    async for records in shard_log.restore():
        for record in records:
            fold.apply(record.offset, record.key, record.value)
        ports.metrics.restore_progress(len(records))
    for batch_id, batch in fold.unread():
        record = await shard_log.read_back(batch.offset)
        batch.body = payload(batch_id, batch.digest, record.key, record.value)
    facts = await ports.log.input_facts(partition)
    now = ports.clock.now()
    is_new = fold.position is None
    if fold.position is None:
        fold.position = _first_start(ports, partition, facts)
    else:
        _compare(partition, fold.position, facts)
    ports.metrics.restore_finished(now.mono - started)
    shard = Shard.restore(partition, ports.settings, fold, ports.rng, now)
    return Opened(shard, is_new, facts.partitions)


def _first_start(ports: Ports, partition: int, facts: InputFacts) -> Position:
    topics = ports.settings.topics
    if facts.group_offset is not None:
        raise BlockedError(
            f"partition {partition}: the journal {topics.journal} holds no position, yet the consumer group "
            f"has read {topics.changes} up to offset {facts.group_offset}: the journal was emptied or is "
            "another one. Restore it, or delete the group's offsets if everything is to be read anew"
        )
    at_start = ports.settings.input.start_at == "earliest"
    offset = facts.earliest if at_start else facts.latest
    return first_position(offset, facts.topic_id, facts.partitions, ports.clock.now())


def _compare(partition: int, position: Position, facts: InputFacts) -> None:
    if position.topic_id != facts.topic_id:
        raise BlockedError(
            f"partition {partition}: the input topic was deleted and created again (its id was "
            f"{position.topic_id}, is {facts.topic_id}), so the journal speaks of other records"
        )
    if position.partitions != facts.partitions:
        raise BlockedError(
            f"partition {partition}: the input topic has {facts.partitions} partitions, the journal was begun "
            f"with {position.partitions}: courses may have moved to other partitions, and their order is lost"
        )
    if position.next_offset < facts.earliest:
        raise BlockedError(
            f"partition {partition}: the records from offset {position.next_offset} to "
            f"{facts.earliest - 1} were deleted from the input topic before they were read"
        )
    if position.next_offset > facts.latest:
        raise BlockedError(
            f"partition {partition}: the journal has read up to offset {position.next_offset}, the input topic "
            f"ends at {facts.latest}: records that were read are gone from it"
        )
