"""``coursesyncd republish``: sends again what has failed (R20).

The results say which changes are meant, and the input still has them. `repeat_plan` decides which of them are sent; this module
reads, asks and publishes. A change goes into its own partition with its own key, value and headers, and headers that name what it
repeats and how far this command has read. It reads the end of the partition before each piece, so that this is as far as
possible.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from daemon.codec import decode_change
from daemon.codec.diagnose import DECODE_ERRORS
from daemon.codec.repeats import encode_repeats, with_repeats, without_repeats
from daemon.commands.connections import kafka_connection
from daemon.commands.interruption import Interrupted, Interruption
from daemon.commands.options import bootstrap_option, config_option, settings_for_topics
from daemon.commands.repair.journal_repair import confirmed
from daemon.commands.repeat_plan import PartitionPlan, Picked
from daemon.commands.result_choice import Choice, choice_options, decode_event
from daemon.commands.tables import printable
from daemon.config import Settings
from daemon.core import placement
from daemon.core.model import Change, Rejection, Repeats, Status
from daemon.log.errors import LogError
from daemon.log.kafka.clients import KafkaConnection
from daemon.log.topic_access import (
    PartitionReader,
    Publisher,
    Since,
    Start,
    TopicRecord,
    partitions_of,
    read_topic,
)

STATUSES = (Status.FAILED, Status.TIMED_OUT, Status.REJECTED)

PIECE_RECORDS = 500
PIECE_BYTES = 8 * 1024 * 1024
"""What is published between two looks at the end of the partition. Small, so that few changes of others come in between."""

SHOWN_MAX = 20
"""Changes that are not sent and named one by one."""

PROGRESS_SECONDS = 0.5


@click.command()
@choice_options(STATUSES)
@click.option("--dry-run", is_flag=True, help="Show what would be sent, and send nothing.")
@click.option("--yes", is_flag=True, help="Do not ask; for scripts.")
@bootstrap_option
@config_option
def republish(
    *, dry_run: bool, yes: bool, bootstrap_servers: str | None, config_file: Path | None, **choice: Any
) -> None:
    """Send changes again that have failed.

    The options choose results; without --status, those that are FAILED. Of each course the newest chosen change is published once
    more, as it is, unless a newer valid change of the course exists: older content never replaces newer content, even if a newer
    change arrives at the same moment. So this command may be run again at any time: what was sent is not sent twice.

    --status REJECTED sends rejected records (dead letters) again, if they would not be rejected any more: after a full
    backlog, or with other settings. Correct all others, and publish them.

    Use it when all replicas have a version that knows it. Exit code 0: everything that could be sent was sent; 1: not all, and
    the output says what to type to continue.
    """
    chosen = Choice(**choice)
    if not chosen.statuses:
        chosen = Choice(**(choice | {"statuses": (Status.FAILED,)}))
    settings = settings_for_topics(config_file, bootstrap_servers)
    try:
        connection = kafka_connection(settings.kafka)
        with PartitionReader(connection, settings.topics.changes) as reader:
            sending = _planned(settings, connection, chosen, reader)
            sending.show()
            if not sending.total:
                click.echo("Nothing to send.")
                return
            if confirmed(f"Send {_count(sending.total)} again?", yes=yes, dry_run=dry_run):
                again = _command(
                    chosen, yes=yes, bootstrap_servers=bootstrap_servers, config_file=config_file
                )
                sys.exit(sending.send(reader, again))
    except LogError as error:
        raise click.ClickException(str(error)) from None


@dataclass(slots=True)
class _Place:
    """The plan of a partition, and up to where it was read for it (exclusive)."""

    plan: PartitionPlan
    end: int
    named: int = 0
    """So many of its skipped changes were named."""


class _Sending:
    """What is sent, of all partitions."""

    def __init__(self, settings: Settings, connection: KafkaConnection, picked: int) -> None:
        self.places: list[_Place] = []
        self._settings = settings
        self._connection = connection
        self._topic = settings.topics.changes
        self._picked = picked
        self._partitioner = settings.input.partitioner
        self._partitions = partitions_of(connection, self._topic)
        self.sent = 0

    @property
    def total(self) -> int:
        return sum(len(place.plan.offsets) for place in self.places)

    # --- looking ----------------------------------------------------------------------------------

    def look_at(self, plan: PartitionPlan, reader: PartitionReader, progress: _Progress) -> None:
        """Read the partition from the first picked change to its end."""
        if plan.partition >= self._partitions:
            plan.skip_all(f"the topic {self._topic} has no partition {plan.partition}")
            self.places.append(_Place(plan, 0))
            return
        while True:
            begin, end = reader.bounds(plan.partition)
            start = max(begin, plan.start)
            for record in reader.read(plan.partition, start, end):
                self._look_at(plan, record)
                progress.add(1)
            if not plan.read_to_the_end():
                break
        self.places.append(_Place(plan, end))

    def _look_at(self, plan: PartitionPlan, record: TopicRecord) -> None:
        plan.record(record.offset, self._decoded(record))
        if plan.ids(record.offset) is not None and (why := self._obstacle(record)) is not None:
            plan.drop(record.offset, why)

    def _decoded(self, record: TopicRecord) -> Change | Rejection:
        entry = decode_change(
            record.offset,
            record.key,
            record.value,
            record.headers,
            consumed_at=record.timestamp,
            item_bytes_max=self._settings.batch.bytes_max,
        )
        return with_repeats(entry, self._topic, record.partition)

    def _obstacle(self, record: TopicRecord) -> str | None:
        """Why this record cannot be sent again as it is; None if it can."""
        if any(content is None for _, content in record.headers):
            return "one of its headers has no value, which this command cannot write; publish the course anew"
        key = record.key
        if key is None or self._partitioner not in placement.PARTITIONERS:
            return None
        expected = placement.place(key, self._partitions, self._partitioner)
        if expected == record.partition:
            return None
        return (
            f"its key now belongs in partition {expected}, where the newer changes of its course are (was the topic grown?); "
            "publish the course anew"
        )

    def show(self) -> None:
        """What is sent and what is not. The skipped changes go to stderr."""
        newer = sum(place.plan.newer for place in self.places)
        click.echo(f"{_count(self._picked)} found in the results")
        if newer:
            click.echo(f"{newer:,} not sent: a newer change of the course follows")
        if skipped := self._name_skipped():
            click.echo(f"{skipped:,} not sent for other reasons")
        click.echo(f"{_count(self.total)} to be sent again")

    def _name_skipped(self) -> int:
        """Name the skipped changes that were not named yet. Returns their number."""
        fresh = [
            (place.plan.partition, each)
            for place in self.places
            for each in place.plan.skipped[place.named :]
        ]
        for partition, each in fresh[:SHOWN_MAX]:
            text = f"{self._topic}/{partition}/{each.offset}, {each.ids}: {each.why}"
            click.echo(printable(text), err=True)
        if len(fresh) > SHOWN_MAX:
            click.echo(f"and {len(fresh) - SHOWN_MAX:,} more", err=True)
        for place in self.places:
            place.named = len(place.plan.skipped)
        return len(fresh)

    # --- sending ----------------------------------------------------------------------------------

    def send(self, reader: PartitionReader, again: str) -> int:
        """Send it. `again` is the command that continues after an interruption. Returns the exit code."""
        total = self.total
        progress = _Progress(f"of {total:,} sent")
        failure: str | None = None
        with Interruption() as interruption:
            try:
                with (
                    Publisher(self._connection, self._topic) as publisher,
                    PartitionReader(self._connection, self._topic) as tail,
                ):
                    for piece in self._pieces(reader):
                        # A signal is obeyed between two pieces.
                        interruption.wait_for(lambda: None)
                        self._publish(*piece, publisher, tail)
                        progress.at(self.sent)
            except Interrupted as signal:
                failure = f"Interrupted by {signal}."
            except LogError as error:
                failure = str(error)
        progress.end()
        if failure is not None:
            click.echo(printable(failure), err=True)
            click.echo(
                f"{self.sent:,} of {_count(total)} sent again. To continue, type:\n  {again}\nWhat was sent is not sent twice.",
                err=True,
            )
            return 1
        click.echo(f"{_count(self.sent)} sent again.")
        skipped = self._name_skipped()
        if newer := total - self.sent - skipped:
            click.echo(f"{newer:,} not sent: a newer change of the course has just arrived")
        return 1 if skipped else 0

    def _pieces(self, reader: PartitionReader) -> Iterator[tuple[_Place, list[TopicRecord]]]:
        """The records to be sent, a piece of one partition at a time."""
        for place in self.places:
            plan, offsets = place.plan, place.plan.offsets
            if not offsets:
                continue
            piece, size = list[TopicRecord](), 0
            begin, _ = reader.bounds(plan.partition)
            for record in reader.read(plan.partition, max(begin, offsets[0]), place.end):
                if plan.ids(record.offset) is None:
                    continue
                piece.append(record)
                size += len(record.value or b"")
                if len(piece) == PIECE_RECORDS or size >= PIECE_BYTES:
                    yield place, piece
                    piece, size = [], 0
            if piece:
                yield place, piece
            for offset in plan.offsets:
                plan.drop(offset, "the input does not have its record any more")

    def _publish(
        self, place: _Place, piece: Sequence[TopicRecord], publisher: Publisher, tail: PartitionReader
    ) -> None:
        plan = place.plan
        _, end = tail.bounds(plan.partition)
        for record in tail.read(plan.partition, place.end, end):
            plan.record(record.offset, self._decoded(record))
        place.end = end
        count = 0
        for record in piece:
            if plan.ids(record.offset) is None:
                continue
            repeats = encode_repeats(self._topic, plan.partition, Repeats(record.offset, place.end))
            headers = (*without_repeats(record.headers), *repeats)
            publisher.send(record.key, record.value, headers, plan.partition)
            plan.drop(record.offset)
            count += 1
        publisher.flush()
        self.sent += count


class _Progress:
    """A counter on stderr, if it is a terminal."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._count = 0
        self._shown_at = time.monotonic()
        self._is_shown = False

    def add(self, count: int) -> None:
        self.at(self._count + count)

    def at(self, count: int) -> None:
        self._count = count
        now = time.monotonic()
        if now - self._shown_at >= PROGRESS_SECONDS and sys.stderr.isatty():
            self._shown_at, self._is_shown = now, True
            click.echo(f"\r{count:,} {self._label} …", nl=False, err=True)

    def end(self) -> None:
        if self._is_shown:
            click.echo(err=True)


def _planned(
    settings: Settings, connection: KafkaConnection, choice: Choice, reader: PartitionReader
) -> _Sending:
    progress = _Progress("results read")
    picked = _picked(settings, connection, choice, progress)
    progress.end()
    sending = _Sending(settings, connection, picked.count)
    progress = _Progress("input records read")
    for partition in sorted(number for number, changes in picked.changes.items() if changes):
        plan = PartitionPlan(partition, picked.changes[partition], picked.not_accepted[partition])
        sending.look_at(plan, reader, progress)
    progress.end()
    return sending


def _picked(settings: Settings, connection: KafkaConnection, choice: Choice, progress: _Progress) -> Picked:
    picked = Picked()
    start: Start = "beginning" if choice.since is None else Since(choice.since)
    for record in read_topic(connection, settings.topics.results, start=start):
        progress.add(1)
        try:
            event = decode_event(record.value or b"")
        except DECODE_ERRORS:
            continue
        if event.data.change.topic == settings.topics.changes:
            picked.result(
                event.data, is_picked=choice.includes(event.data), is_correction=event.is_correction
            )
    return picked


def _command(choice: Choice, *, yes: bool, bootstrap_servers: str | None, config_file: Path | None) -> str:
    """What continues: the same options, with a time in place of a duration."""
    parts: Iterable[str] = (
        "coursesyncd",
        "republish",
        *choice.arguments(),
        *(["--yes"] if yes else []),
        *(["--bootstrap-servers", bootstrap_servers] if bootstrap_servers is not None else []),
        *(["--config", str(config_file)] if config_file is not None else []),
    )
    return shlex.join(parts)


def _count(number: int) -> str:
    return f"{number:,} {'change' if number == 1 else 'changes'}"
