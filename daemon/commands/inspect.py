"""``coursesyncd inspect``: shows open changes from the journals. Read-only; it does not disturb running replicas."""

from __future__ import annotations

import asyncio
import heapq
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from daemon.commands import inspect_rows
from daemon.commands.connections import kafka_connection
from daemon.commands.courses import history_of
from daemon.commands.options import config_option, settings_or_exit
from daemon.commands.repair.journal_repair import (
    InspectedPartition,
    inspect_partitions,
    unjoined_log,
)
from daemon.commands.tables import age, print_json, print_table
from daemon.config import Settings
from daemon.core.model import Error
from daemon.log.errors import LogError

_F = TypeVar("_F", bound=Callable[..., Any])
_Row = TypeVar("_Row", bound=msgspec.Struct)

LIMIT = 50
"""Default maximum number of rows."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """The options that all of these commands share."""

    settings: Settings
    partitions: tuple[int, ...]
    """Empty means all."""
    as_json: bool


def _common(command: _F) -> _F:
    for option in (
        config_option,
        click.option("--json", "as_json", is_flag=True, help="One JSON object a line, instead of a table."),
        click.option(
            "--partition",
            "partitions",
            type=click.IntRange(0),
            multiple=True,
            help="Only this partition (may be repeated).",
        ),
    ):
        command = option(command)
    return command


def _limit(command: _F) -> _F:
    return click.option(
        "--limit", type=click.IntRange(1), default=LIMIT, show_default=True, help="Maximum number of rows."
    )(command)


@click.group()
def inspect() -> None:
    """Show open changes from the journals.

    Reads the committed records of the journals and changes nothing. The daemon may keep running. Each partition is
    shown as it was when it was read.
    """


@inspect.command("partitions")
@_common
def partitions_command(*, config_file: Path | None, partitions: tuple[int, ...], as_json: bool) -> None:
    """Count the open changes of each partition.

    BEHIND: records not yet read. WAITING: changes held back. SEALED: submissions that the API has not accepted yet.
    PENDING: tasks. WATCHED: timed-out tasks whose late end would still be published. OLDEST: the age of the oldest
    change without a result.
    """
    asked = _asked(config_file, partitions, as_json=as_json)

    async def rows(inspected: AsyncIterator[InspectedPartition]) -> list[inspect_rows.PartitionRow]:
        return [inspect_rows.partition_row(found) async for found in inspected]

    _show(
        asked,
        rows,
        ("PARTITION", "READ UP TO", "BEHIND", "WAITING", "SEALED", "PENDING", "WATCHED", "OLDEST"),
        lambda row, now: (
            row.partition,
            row.next_offset,
            row.behind,
            row.waiting,
            row.sealed,
            row.pending,
            row.watched,
            _ago(row.oldest_consumed_at, now),
        ),
    )


@inspect.command("submissions")
@click.option("--integration", metavar="ID", help="Only this integration.")
@_limit
@_common
def submissions_command(
    *,
    config_file: Path | None,
    partitions: tuple[int, ...],
    as_json: bool,
    integration: str | None,
    limit: int,
) -> None:
    """List open submissions, the oldest first.

    STATE is sealed (the API has not accepted it yet), pending (a task) or watched (a task that has timed out). A sealed
    submission that was refused or not answered is not sent again before NOT BEFORE; LAST ERROR says why.
    """
    asked = _asked(config_file, partitions, as_json=as_json)

    async def rows(inspected: AsyncIterator[InspectedPartition]) -> list[inspect_rows.SubmissionRow]:
        oldest: list[inspect_rows.SubmissionRow] = []
        async for found in inspected:
            more = (
                row
                for row in inspect_rows.submission_rows(found)
                if integration in (None, row.integration_id)
            )
            oldest = heapq.nsmallest(limit, [*oldest, *more], key=lambda row: row.since)
        return oldest

    _show(
        asked,
        rows,
        ("STATE", "AGE", "CHANGES", "INTEGRATION", "BATCH", "TASK", "NOT BEFORE", "LAST ERROR"),
        lambda row, now: (
            row.state,
            _ago(row.since, now),
            row.changes,
            row.integration_id,
            row.batch_id,
            row.task_id,
            row.not_before,
            _error(row.last_error),
        ),
    )


@inspect.command("waiting")
@_limit
@_common
def waiting_command(
    *, config_file: Path | None, partitions: tuple[int, ...], as_json: bool, limit: int
) -> None:
    """Count the waiting changes by integration, the longest wait first.

    RETRIES are changes that were sent and failed with a transient error. None of them is sent again before NOT BEFORE.
    LAST ERROR is the error of the oldest one.
    """
    asked = _asked(config_file, partitions, as_json=as_json)

    async def rows(inspected: AsyncIterator[InspectedPartition]) -> list[inspect_rows.WaitingRow]:
        integrations = inspect_rows.WaitingByIntegration()
        async for found in inspected:
            integrations.add(found.fold)
        return integrations.rows()[:limit]

    _show(
        asked,
        rows,
        ("INTEGRATION", "CHANGES", "RETRIES", "OLDEST", "NOT BEFORE", "LAST ERROR"),
        lambda row, now: (
            row.integration_id,
            row.changes,
            row.retries,
            _ago(row.oldest_consumed_at, now),
            row.not_before,
            _error(row.last_error),
        ),
    )


@inspect.command("course")
@click.argument("integration_id", metavar="INTEGRATION")
@click.argument("origin_id", metavar="COURSE")
@_common
def course_command(
    *,
    config_file: Path | None,
    partitions: tuple[int, ...],
    as_json: bool,
    integration_id: str,
    origin_id: str,
) -> None:
    """Show what is known of one course, and its open changes.

    INTEGRATION and COURSE are its integration_id and origin_id. First come the records of the course in topics.courses,
    as far as it still has them; the last one counts. Finished changes are in the results:
    coursesyncd results --integration ID.
    """
    asked = _asked(config_file, partitions, as_json=as_json)
    _show_known(asked, integration_id, origin_id)

    async def rows(inspected: AsyncIterator[InspectedPartition]) -> list[inspect_rows.CourseRow]:
        return [
            row
            async for found in inspected
            for row in inspect_rows.course_rows(found, integration_id, origin_id)
        ]

    _show(
        asked,
        rows,
        ("CHANGE", "ID", "AGE", "STATE", "FOR", "BATCH", "TASK", "NOT BEFORE", "LAST ERROR"),
        lambda row, now: (
            f"{row.partition}/{row.offset}",
            row.change_id,
            _ago(row.consumed_at, now),
            row.state,
            _ago(row.since, now),
            row.batch_id,
            row.task_id,
            row.not_before,
            _error(row.last_error),
        ),
    )


def _show_known(asked: _Asked, integration_id: str, origin_id: str) -> None:
    settings = asked.settings
    try:
        found = list(
            history_of(kafka_connection(settings.kafka), settings.topics.courses, integration_id, origin_id)
        )
    except LogError as error:
        raise click.ClickException(str(error)) from None
    rows = [inspect_rows.known_row(record) for record in found]
    if asked.as_json:
        for row in rows:
            print_json([msgspec.json.encode(row)])
        return
    if rows:
        now = time.time()
        print_table(
            ("KNOWN STATE", "SINCE", "COURSE ID", "CONTENT", "CHANGE", "ID", "TASK"),
            [
                (
                    row.known,
                    _ago(row.recorded_at, now),
                    row.course_id,
                    row.content,
                    row.change,
                    row.change_id,
                    row.task_id,
                )
                for row in rows
            ],
        )
    else:
        click.echo("Nothing is known of this course.")
    click.echo()


# --- reading and printing ---------------------------------------------------------------------------


def _asked(config_file: Path | None, partitions: tuple[int, ...], *, as_json: bool) -> _Asked:
    settings = settings_or_exit(config_file, unneeded=frozenset({"kombo"}))
    return _Asked(settings, partitions, as_json)


def _show(
    asked: _Asked,
    rows_of: Callable[[AsyncIterator[InspectedPartition]], Coroutine[Any, Any, list[_Row]]],
    headings: Sequence[str],
    cells: Callable[[_Row, float], Sequence[str | int | None]],
) -> None:
    """Read the journals and print the rows. Exit code 1 if a journal could not be read; the others are still shown."""
    unreadable: list[str] = []
    try:
        rows = asyncio.run(_read(asked, rows_of, unreadable))
    except LogError as error:
        raise click.ClickException(str(error)) from None
    if asked.as_json:
        print_json(map(msgspec.json.encode, rows))
    elif rows:
        now = time.time()
        print_table(headings, [cells(row, now) for row in rows])
    else:
        click.echo("No open changes.")
    for sentence in unreadable:
        click.echo(f"Error: {sentence}", err=True)
    if unreadable:
        sys.exit(1)


async def _read(
    asked: _Asked,
    rows_of: Callable[[AsyncIterator[InspectedPartition]], Coroutine[Any, Any, list[_Row]]],
    unreadable: list[str],
) -> list[_Row]:
    log = await unjoined_log(asked.settings)
    try:
        inspected = inspect_partitions(log, asked.settings.topics, unreadable, asked.partitions)
        return await rows_of(inspected)
    finally:
        await log.stop()


def _ago(at: str | None, now: float) -> str | None:
    return None if at is None else age(now - datetime.fromisoformat(at).timestamp())


def _error(error: Error | None) -> str | None:
    return None if error is None else f"{error.code or 'no code'}: {error.message}"
