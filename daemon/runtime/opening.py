"""Opens an assigned partition: fence earlier owners, restore the shard, compare the journal with the input (R8)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import msgspec
from msgspec import UNSET

from daemon.core.control import Control
from daemon.core.journal import JournalError, Position, payload
from daemon.core.journal_fold import Fold
from daemon.core.known_courses import Budget, KnownCourses
from daemon.core.shard import Shard
from daemon.core.stale_tasks import first_position
from daemon.log.errors import CorruptJournalError
from daemon.log.port import InputFacts, ShardLog
from daemon.runtime import operator_messages
from daemon.runtime.ledger import Ledger
from daemon.runtime.ports import Ports
from daemon.telemetry.events import PartitionUnconfirmed, RestoreFinished, RestoreProgressed

RETRY_DELAY_MAX = 30.0
"""Seconds between two attempts to open a partition while the log has problems."""


class BlockedError(Exception):
    """The partition must not continue until an operator acts. The message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Opened:
    shard: Shard
    is_new: bool
    """The journal was empty: this is the first start of the partition."""
    facts: InputFacts
    """The state of the input, which matches the journal."""
    ledger: Ledger
    courses_end: int
    """The end of what earlier owners have written about courses."""


async def wait_for_confirmation(ports: Ports, partition: int, failures: int) -> None:
    """R4: only a heartbeat newer than the last error proves that this replica still owns the partition. Two owners that
    both create new producers would fence each other without end. `failures`: the number of consecutive failures.
    """
    delay = min(RETRY_DELAY_MAX, 0.1 * 2.0 ** min(failures, 20))
    await asyncio.sleep(delay * ports.rng.random())
    timeout = ports.settings.kafka.session_timeout
    while not await ports.log.confirm_assignment(partition, timeout):
        ports.observer.notify(PartitionUnconfirmed(partition))
        await asyncio.sleep(1.0)


async def check_before_fencing(ports: Ports, partition: int) -> None:
    """The checks that are possible before earlier owners are fenced.

    Raises:
        BlockedError: the partition has no journal, or no partition for its courses.
        LogError: the log does not answer at the moment.
    """
    facts = await ports.log.input_facts(partition)
    topics = ports.settings.topics
    sentence = operator_messages.without_journal(partition, facts, topics)
    if sentence := sentence or operator_messages.without_courses(partition, facts, topics):
        raise BlockedError(sentence)


async def restore(
    ports: Ports, partition: int, shard_log: ShardLog, budget: Budget, control: Control
) -> Opened:
    """Restore the shard from its journal. Call it as soon as all earlier owners are fenced. `budget` and `control` are those of the process.

    Raises:
        BlockedError: the journal does not match the input, or this version cannot read one of its records, or a record
            is not the one that was written.
        LogError: the log does not answer at the moment.
    """
    try:
        return await _restored(ports, partition, shard_log, budget, control)
    except (JournalError, CorruptJournalError) as error:
        raise BlockedError(
            operator_messages.unreadable_journal(partition, error, ports.settings.topics)
        ) from error


async def _restored(
    ports: Ports, partition: int, shard_log: ShardLog, budget: Budget, control: Control
) -> Opened:
    started, fenced = ports.clock.now().mono, ports.clock.boot()
    courses_end = await shard_log.courses_end()  # before the first commit of this owner
    fold = await _fold(ports, shard_log)
    facts = await ports.log.input_facts(partition)
    now = ports.clock.now()
    is_new = fold.position is None
    if fold.position is None:
        fold.position = _first_start(ports, partition, facts)
    elif sentence := operator_messages.of_position(partition, fold.position, facts, ports.settings.topics):
        raise BlockedError(sentence)
    if fold.position.courses_since is UNSET or fold.position.courses_since > courses_end:
        fold.position = msgspec.structs.replace(fold.position, courses_since=courses_end)
    ports.observer.notify(RestoreFinished(now.mono - started))
    ledger = Ledger(fold)
    fenced_ago = ports.clock.boot() - fenced
    shard = Shard.restore(
        partition,
        ports.settings,
        ports.policies,
        fold,
        ports.rng,
        now,
        fenced_ago,
        KnownCourses(budget),
        control,
    )
    return Opened(shard, is_new, facts, ledger, courses_end)


async def _fold(ports: Ports, shard_log: ShardLog) -> Fold:
    fold = Fold()
    async for records in shard_log.restore():
        for record in records:
            fold.apply(record.offset, record.key, record.value)
        ports.observer.notify(RestoreProgressed(len(records)))
    fold.finish()
    for batch_id, batch in fold.unread():
        record = await shard_log.read_back(batch.offset)
        batch.body = payload(batch_id, batch.digest, record.key, record.value)
    return fold


def _first_start(ports: Ports, partition: int, facts: InputFacts) -> Position:
    if sentence := operator_messages.without_position(partition, facts, ports.settings.topics):
        raise BlockedError(sentence)
    at_start = ports.settings.input.start_at == "earliest"
    offset = facts.earliest if at_start else facts.latest
    return first_position(offset, facts.topic_id, facts.partitions, ports.clock.now())
