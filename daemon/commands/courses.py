"""``coursesyncd courses``: reads the courses topic, what each learning system holds.

The topic is compacted, but not at once: of each course, the last record counts. `CourseTable` folds one partition after the
other, so memory is needed for the largest partition only.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import msgspec

from daemon.codec.course_record import KnownCourseRecord
from daemon.commands.connections import kafka_connection
from daemon.commands.options import bootstrap_option, config_option, settings_for_topics
from daemon.commands.tables import printable_json, until_the_reader_leaves
from daemon.core.course import CourseState, course_key
from daemon.log.errors import LogError
from daemon.log.kafka.clients import KafkaConnection
from daemon.log.topic_access import TopicRecord, partitions_of, read_topic

PROGRESS_EVERY = 20_000
"""Records between two lines of progress on a terminal."""
COLUMNS = (
    "integration_id",
    "origin_id",
    "state",
    "course_id",
    "content",
    "change",
    "change_id",
    "task_id",
    "confirmed_at",
    "recorded_at",
)

_decode = msgspec.json.Decoder(KnownCourseRecord).decode


class Wanted(NamedTuple):
    """Which courses are exported. Empty: all."""

    integrations: frozenset[str] = frozenset()
    states: frozenset[CourseState] = frozenset()

    def includes(self, record: KnownCourseRecord) -> bool:
        return (not self.integrations or record.integration_id in self.integrations) and (
            not self.states or record.state in self.states
        )


class CourseTable:
    """The last record of each course, of those that are wanted."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._values: dict[bytes, bytes] = {}
        self.not_records: list[TopicRecord] = []
        """Records of the topic that are not records of a course."""

    def add(self, record: TopicRecord) -> None:
        key = record.key or b""
        if record.value is None:
            self._values.pop(key, None)
            return
        try:
            known = _decode(record.value)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            self.not_records.append(record)
            self._values.pop(key, None)
            return
        if self._wanted.includes(known):
            self._values[key] = record.value
        else:
            self._values.pop(key, None)

    def values(self) -> Iterable[bytes]:
        return self._values.values()


def csv_row(value: bytes) -> list[str]:
    """A record of a course in the order of `COLUMNS`; empty where it has nothing. A change is ``topic/partition/offset``."""
    fields: dict[str, Any] = json.loads(value)
    change = fields["change"]
    fields["change"] = f"{change['topic']}/{change['partition']}/{change['offset']}"
    return ["" if (field := fields.get(name)) is None else str(field) for name in COLUMNS]


def history_of(
    connection: KafkaConnection, topic: str, integration_id: str, origin_id: str
) -> Iterator[TopicRecord]:
    """The records of one course that the topic still has, in order within each partition.

    Raises:
        LogError: Kafka did not answer, or there is no such topic.
    """
    key = course_key(integration_id, origin_id)
    return (record for record in read_topic(connection, topic) if record.key == key)


@click.group()
def courses() -> None:
    """What each learning system holds, as the API last confirmed it."""


@courses.command()
@click.option(
    "--integration", "integrations", metavar="ID", multiple=True, help="Only this one (may be repeated)."
)
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(list(CourseState), case_sensitive=False),
    help="Only courses in this state (may be repeated).",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["jsonl", "csv"]),
    default="jsonl",
    show_default=True,
    help="One JSON object a line, or CSV with a header.",
)
@click.option("--topic", help="Instead of topics.courses of the configuration.")
@bootstrap_option
@config_option
def export(
    *,
    integrations: tuple[str, ...],
    states: tuple[CourseState, ...],
    form: str,
    topic: str | None,
    bootstrap_servers: str | None,
    config_file: Path | None,
) -> None:
    """Write the known state of all courses to stdout.

    The last record of each course, as a read_committed consumer sees it. Progress goes to stderr.
    """
    settings = settings_for_topics(config_file, bootstrap_servers)
    wanted = Wanted(frozenset(integrations), frozenset(states))
    written = 0
    with until_the_reader_leaves():
        if form == "csv":
            click.echo(_csv_line(COLUMNS), nl=False)
        try:
            for value in _exported(
                kafka_connection(settings.kafka), topic or settings.topics.courses, wanted
            ):
                if form == "csv":
                    click.echo(_csv_line(csv_row(value)), nl=False)
                else:
                    click.echo(printable_json(value).encode())
                written += 1
        except LogError as error:
            raise click.ClickException(str(error)) from error
    click.echo(f"{written:,} {'course' if written == 1 else 'courses'}.", err=True)


def _exported(connection: KafkaConnection, topic: str, wanted: Wanted) -> Generator[bytes, None, None]:
    read = 0
    partitions = partitions_of(connection, topic)
    for partition in range(partitions):
        table = CourseTable(wanted)
        for record in read_topic(connection, topic, partition=partition):
            table.add(record)
            read += 1
            if read % PROGRESS_EVERY == 0 and sys.stderr.isatty():
                click.echo(
                    f"\rPartition {partition + 1} of {partitions}: {read:,} records read …",
                    nl=False,
                    err=True,
                )
        for record in table.not_records:
            click.echo(f"{topic}/{partition}/{record.offset} is not a record of a course", err=True)
        yield from table.values()
    if read >= PROGRESS_EVERY and sys.stderr.isatty():
        click.echo(err=True)


def _csv_line(cells: Iterable[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow([_harmless(cell) for cell in cells])
    return line.getvalue()


def _harmless(cell: str) -> str:
    """Spreadsheets run a cell that begins with one of these as a formula (OWASP, CSV injection)."""
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell
