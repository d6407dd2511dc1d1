"""``coursesyncd end-transaction``: ends a hanging transaction of coursesyncd, which no broker will end any more.

It hangs in the journal, so the partition cannot be restored. `kafka-transactions.sh` can only abort it, which is wrong if
its results were committed: the journal would not contain them. This command finds out how the transaction was decided
(`daemon.commands.repair.evidence`) and writes the missing end markers.

If it was ended in the journal and hangs in the courses topic, the known courses cannot be loaded. Its records are then kept, however
it was decided. Each of them says what the API had confirmed when it was written, or withdraws that. If the step was aborted,
the new verdict writes its record behind them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import click
import msgspec
from kafka import TopicPartition

from daemon.codec import decode_course
from daemon.commands.connections import kafka_connection
from daemon.commands.options import config_option, settings_or_exit
from daemon.commands.repair.evidence import Evidence, TransactionEnd, UndecidedError, decided, unresolved
from daemon.commands.repair.journal_repair import RepairError, confirmed
from daemon.core.journal import JournalError, Position
from daemon.core.journal_fold import Fold
from daemon.log.errors import HeldBackError, LogError
from daemon.log.kafka import admin, open_transactions
from daemon.log.kafka.clients import Clients
from daemon.log.kafka.open_transactions import OpenTransaction
from daemon.log.kafka.partition_reader import PartitionReader
from daemon.log.kafka.producer import transactional_id
from daemon.log.port import Record, Topics
from daemon.runtime import operator_messages

_RUNBOOK = f"{operator_messages.RUNBOOK}#stuck-transaction"

_CLOCK_SLACK_MS = 60_000
"""The same clock stamps the journal records of a step and, moments later, its results."""
_RECORDS_MAX = 500
"""Maximum number of records in one read."""


@dataclass(frozen=True, slots=True)
class HangingTransaction:
    parts: tuple[OpenTransaction, ...]
    """The journal's part, if it hangs, is last: as long as it hangs, an interrupted command can be repeated."""
    records: int
    """The number of records in the last part."""
    outcome: TransactionEnd
    why: str


class _Change(msgspec.Struct):
    partition: int
    offset: int


class _Data(msgspec.Struct):
    change: _Change


class _Result(msgspec.Struct):
    type: str
    data: _Data


_decode_result = msgspec.json.Decoder(_Result).decode


class ClusterClient:
    """The requests to Kafka. Methods block."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._admin = admin.Admin(clients)

    def open_transactions(self, topic: str, partitions: range) -> list[OpenTransaction]:
        wanted = [TopicPartition(topic, partition) for partition in partitions]
        return self._admin.ask(lambda client: open_transactions.open_transactions(client, wanted))

    def coordinated(self, part: OpenTransaction, journal: str) -> str | None:
        """As `open_transactions.coordinated`, for an open transaction of the shard with this partition of the journal."""
        own_id = transactional_id(journal, part.partition)
        return self._admin.ask(lambda client: open_transactions.coordinated(client, part.producer_id, own_id))

    def end(self, part: OpenTransaction, outcome: TransactionEnd) -> None:
        commit = outcome is TransactionEnd.COMMIT
        self._admin.ask(lambda client: open_transactions.end_transaction(client, part, commit=commit))

    def partitions(self, topic: str) -> range:
        count = self._admin.ask(lambda client: admin.partition_count(client, topic))
        if count is None:
            raise LogError(f"There is no topic {topic}.")
        return range(count)

    def offsets(self, topic: str, partition: int) -> tuple[int, int]:
        """Earliest and end offset; see `admin.offsets`."""
        return self._admin.ask(lambda client: admin.offsets(client, topic, partition))

    def offset_at(self, topic: str, partition: int, timestamp: int) -> int | None:
        """The offset of the first record with at least this timestamp (ms); None if there is none."""
        return self._admin.ask(lambda client: admin.offset_at(client, topic, partition, timestamp))

    def topic_id(self, topic: str) -> str | None:
        return self._admin.ask(lambda client: admin.topic_id(client, topic))

    def records(
        self, topic: str, partition: int, start: int, end: int, *, undecided: bool = False
    ) -> Iterator[Record]:
        """Raises HeldBackError if a transaction stays open before the end, unless `undecided` records are requested."""
        reader = PartitionReader(self._clients, topic, partition, undecided=undecided)
        with closing(reader):
            while start < end:
                records, start = reader.read(start, _RECORDS_MAX)
                yield from (record for record in records if record.offset < end)

    def close(self) -> None:
        self._admin.close()


def examine(cluster: ClusterClient, topics: Topics, partition: int) -> HangingTransaction | None:
    """The transaction that hangs in a partition of the journal, or only in that of the courses topic, and how it must end. None if
    no transaction is open there.

    Raises:
        RepairError: it does not hang, is not coursesyncd's, or the evidence is not sufficient.
        LogError: Kafka did not answer.
    """
    if partition not in cluster.partitions(topics.journal):
        raise RepairError(f"{topics.journal} has no partition {partition}")
    opened = cluster.open_transactions(topics.journal, range(partition, partition + 1))
    if not opened:
        return _in_courses(cluster, topics, partition)
    part = opened[0]
    _refuse_what_is_at_work(cluster, opened, topics.journal)
    before, after, tail = _folds(cluster, part)
    results = _parts(cluster, part, topics.results)
    try:
        evidence = _evidence(cluster, topics, part, before, after, tail, results)
        outcome, why = decided(evidence)
    except UndecidedError as error:
        raise RepairError(
            f"cannot determine how the transaction was decided: {error}. Nothing was changed; see {_RUNBOOK}"
        ) from None
    others = (*_parts(cluster, part, topics.courses), *_parts(cluster, part, topics.dead_letters))
    parts = (*others, *results, part)
    return HangingTransaction(parts, len(tail), outcome, why)


def _in_courses(cluster: ClusterClient, topics: Topics, partition: int) -> HangingTransaction | None:
    """The transaction that hangs in a partition of the courses topic, and has ended in the journal."""
    if partition not in cluster.partitions(topics.courses):
        return None
    opened = cluster.open_transactions(topics.courses, range(partition, partition + 1))
    if not opened:
        return None
    part = opened[0]
    _refuse_what_is_at_work(cluster, opened, topics.journal)
    _, end = cluster.offsets(part.topic, part.partition)
    tail = list(cluster.records(part.topic, part.partition, part.start_offset, end, undecided=True))
    for record in tail:
        try:
            decode_course(record.value)
        except ValueError as error:
            raise _not_ours(
                part, f"the record at offset {record.offset} is not about a course ({error})"
            ) from error
    why = "it has ended in the journal, and what it says of courses was confirmed by the API: it is kept"
    return HangingTransaction((part,), len(tail), TransactionEnd.COMMIT, why)


def _refuse_what_is_at_work(cluster: ClusterClient, opened: list[OpenTransaction], journal: str) -> None:
    first = opened[0]
    if len({part.producer_id for part in opened}) > 1:
        raise RepairError(
            f"{first.topic} partition {first.partition} has open transactions of {len(opened)} producers, so something besides "
            f"coursesyncd writes to it. Revoke its right to write there and end its transactions first: {_RUNBOOK}"
        )
    at_work = cluster.coordinated(first, journal)
    if at_work is not None:
        raise RepairError(
            f"the transaction in {first} does not hang: its coordinator will end it (transactional id {at_work}), "
            f"at the latest when it times out. Try again in a minute; {_RUNBOOK}"
        )


def _folds(cluster: ClusterClient, part: OpenTransaction) -> tuple[Fold, Fold, list[Record]]:
    """The folds of the journal without and with the transaction, and the records of the transaction."""
    earliest, end = cluster.offsets(part.topic, part.partition)
    tail = list(cluster.records(part.topic, part.partition, part.start_offset, end, undecided=True))
    before, after = Fold(), Fold()
    try:
        for record in cluster.records(part.topic, part.partition, earliest, part.start_offset):
            before.apply(record.offset, record.key, record.value)
            after.apply(record.offset, record.key, record.value)
        for record in tail:
            after.apply(record.offset, record.key, record.value)
        before.finish()
        after.finish()
    except JournalError as error:
        raise _not_ours(part, str(error)) from error
    return before, after, tail


def _not_ours(part: OpenTransaction, why: str) -> RepairError:
    return RepairError(
        f"the transaction in {part} is not coursesyncd's: {why}. `kafka-transactions.sh --bootstrap-server … abort "
        f"--topic {part.topic} --partition {part.partition} --start-offset {part.start_offset}` ends it; {_RUNBOOK}"
    )


def _parts(cluster: ClusterClient, part: OpenTransaction, topic: str) -> list[OpenTransaction]:
    """The open transactions of the same producer in another topic."""
    opened = cluster.open_transactions(topic, cluster.partitions(topic))
    return [other for other in opened if other.producer_id == part.producer_id]


def _evidence(
    cluster: ClusterClient,
    topics: Topics,
    part: OpenTransaction,
    before: Fold,
    after: Fold,
    tail: list[Record],
    results: list[OpenTransaction],
) -> Evidence:
    read, gone = _read_in_it(cluster, topics, part.partition, before.position, after.position)
    resolved = unresolved(before).union(read) - unresolved(after)
    if not resolved:
        return Evidence(resolved, frozenset(), frozenset(), tuple(gone))
    since = tail[0].timestamp - _CLOCK_SLACK_MS
    visible: set[int] = set()
    hangs: set[int] = set()
    for number in cluster.partitions(topics.results):
        earliest, end = cluster.offsets(topics.results, number)
        start = cluster.offset_at(topics.results, number, since)
        if start is None:
            continue
        if start == earliest > 0:
            gone.append(f"older records of {topics.results} partition {number} have been deleted")
        for other in results:
            if other.partition == number:
                pieces = cluster.records(topics.results, number, other.start_offset, end, undecided=True)
                hangs |= _resolved_by(pieces, part.partition)
                end = other.start_offset
        try:
            visible |= _resolved_by(cluster.records(topics.results, number, start, end), part.partition)
        except HeldBackError as error:
            gone.append(
                f"another transaction is open in {error.topic} partition {error.partition}; end it first"
            )
    return Evidence(resolved, resolved & visible, resolved & hangs, tuple(gone))


def _read_in_it(
    cluster: ClusterClient, topics: Topics, partition: int, before: Position | None, after: Position | None
) -> tuple[set[int], list[str]]:
    """The offsets of the changes that the transaction has read, and descriptions of the deleted ones."""
    if after is None:
        raise RepairError(f"{topics.journal} partition {partition} has no position; {_RUNBOOK}")
    if cluster.topic_id(topics.changes) != after.topic_id:
        raise RepairError(
            f"{topics.changes} was deleted and created again after it, so the changes that it read are unknown; {_RUNBOOK}"
        )
    earliest, _ = cluster.offsets(topics.changes, partition)
    start = earliest if before is None else before.next_offset
    gone = []
    if start < earliest:
        gone.append(
            f"the records {start} to {earliest - 1} of {topics.changes} partition {partition} have been deleted"
        )
        start = earliest
    read = cluster.records(topics.changes, partition, start, after.next_offset)
    return {record.offset for record in read}, gone


def _resolved_by(records: Iterator[Record], partition: int) -> set[int]:
    """The offsets of changes of an input partition whose results are among these records."""
    found = set()
    for record in records:
        try:
            result = _decode_result(record.value or b"")
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue  # not a result of coursesyncd
        if result.type == "course.sync.resolved" and result.data.change.partition == partition:
            found.add(result.data.change.offset)
    return found


@click.command(name="end-transaction")
@config_option
@click.option(
    "--partition", type=click.IntRange(0), required=True, help="Of the journal and the courses topic."
)
@click.option("--dry-run", is_flag=True, help="Show what would be done, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask; for scripts.")
def end_transaction(*, config_file: Path | None, partition: int, dry_run: bool, yes: bool) -> None:
    """End a hanging transaction in the journal or the courses topic.

    The transaction must be coursesyncd's own, and one that no broker will end any more. In the journal, it ends as
    it was decided: its results show whether it was committed. Requires the right to ClusterAction.
    """
    settings = settings_or_exit(config_file, unneeded=frozenset({"kombo"}))
    try:
        with closing(ClusterClient(Clients(kafka_connection(settings.kafka)))) as cluster:
            found = examine(cluster, settings.topics, partition)
            if found is None:
                click.echo(
                    f"Nothing to do: no transaction is open in partition {partition} of {settings.topics.journal} or "
                    f"{settings.topics.courses}."
                )
                return
            for line in told(found):
                click.echo(line)
            if confirmed("End it this way?", yes=yes, dry_run=dry_run):
                for part in found.parts:
                    cluster.end(part, found.outcome)
                click.echo(f"Done. The replica that holds partition {partition} continues within a minute.")
    except (LogError, RepairError) as error:
        raise click.ClickException(str(error)) from None


def told(found: HangingTransaction) -> Iterator[str]:
    """What the operator must know before answering."""
    part = found.parts[-1]
    yield f"hangs     {part}: {found.records} records of producer {part.producer_id}, epoch {part.producer_epoch}"
    yield from (f"          {other}" for other in found.parts[:-1])
    yield f"decided   {found.why}"
    yield f"end       {found.outcome}"
