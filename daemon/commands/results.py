"""``coursesyncd results``: shows the results topic as a table or as JSON lines."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Literal

import click

from daemon.codec.change import DEACTIVATED
from daemon.codec.diagnose import DECODE_ERRORS
from daemon.codec.result import SyncResult
from daemon.commands.connections import kafka_connection
from daemon.commands.options import bootstrap_option, config_option, settings_for_topics
from daemon.commands.result_choice import Choice, ResultEvent, choice_options, decode_event
from daemon.commands.tables import NONE, RowPrinter, printable_json, until_the_reader_leaves
from daemon.config import Settings
from daemon.core.model import Status
from daemon.log.errors import LogError
from daemon.log.topic_access import Since, Start, read_topic

_STYLES = {
    Status.SUCCEEDED: "green",
    Status.FAILED: "bold red",
    Status.TIMED_OUT: "red",
    Status.SUPERSEDED: "dim",
    Status.REJECTED: "magenta",
    Status.UNCHANGED: "dim green",
}

_WIDTHS = {
    "RESOLVED (UTC)": 19,
    "STATUS": 11,
    "CHANGE": 10,
    "CHANGE ID": 16,
    "INTEGRATION": 34,
    "COURSE": 24,
    "DETAIL": 6,
}
"""Columns, at least."""


@click.command()
@click.option("--follow", "-f", is_flag=True, help="Wait for more results; end with Ctrl-C.")
@click.option(
    "--from",
    "start",
    type=click.Choice(("beginning", "end")),
    default="beginning",
    show_default=True,
    help="Where in the topic to start, without --since.",
)
@choice_options(tuple(Status))
@click.option(
    "--json", "as_json", is_flag=True, help="The events as they are, one a line, instead of a table."
)
@click.option("--topic", help="Instead of topics.results of the configuration.")
@bootstrap_option
@config_option
def results(
    *,
    follow: bool,
    start: Literal["beginning", "end"],
    as_json: bool,
    topic: str | None,
    bootstrap_servers: str | None,
    config_file: Path | None,
    **choice: Any,
) -> None:
    """Show the results of changes, as a read_committed consumer sees them.

    Ends at the end of the topic, unless --follow is given. Partitions are read in parallel, so results are in order
    only within each partition. Where the JSON has null, the table has -.
    """
    if start == "end" and not follow:
        raise click.UsageError("--from end without --follow has nothing to show.")
    settings = settings_for_topics(config_file, bootstrap_servers)
    table = None if as_json else _Table()
    with until_the_reader_leaves():
        try:
            _show(settings, topic or settings.topics.results, start, Choice(**choice), table, follow=follow)
        except LogError as error:
            raise click.ClickException(str(error)) from error
        except KeyboardInterrupt:
            if not follow:
                raise
        if table is not None:
            table.end()


def _show(
    settings: Settings,
    topic: str,
    start: Start,
    choice: Choice,
    table: _Table | None,
    *,
    follow: bool,
) -> None:
    if choice.since is not None:
        start = Since(choice.since)
    for record in read_topic(kafka_connection(settings.kafka), topic, start=start, follow=follow):
        try:
            event = decode_event(record.value or b"")
        except DECODE_ERRORS:
            click.echo(f"{topic}/{record.partition}/{record.offset} is not a result", err=True)
            continue
        if not choice.includes(event.data):
            continue
        if table is None:
            click.echo(printable_json(record.value or b"").encode())
        else:
            table.show(event)


class _Table:
    """Prints rows as they arrive, and a line with the counts at the end."""

    def __init__(self) -> None:
        self._rows = RowPrinter(_WIDTHS)
        self._counts: Counter[str] = Counter()
        self._corrections = 0

    def show(self, event: ResultEvent) -> None:
        if event.is_correction:
            self._corrections += 1
        else:
            self._counts[event.data.status] += 1
        self._rows.print(_cells(event), {"STATUS": _STYLES[event.data.status]})

    def end(self) -> None:
        counts = ", ".join(f"{self._counts[status]:,} {status}" for status in Status if self._counts[status])
        total = self._counts.total()
        line = f"{total:,} {'result' if total == 1 else 'results'}" + (f": {counts}" if counts else "")
        if self._corrections:
            line += f"; {self._corrections:,} corrected later"
        self._rows.console.print(f"{line}.", soft_wrap=True)


def _cells(event: ResultEvent) -> list[str]:
    result = event.data
    return [
        result.resolved_at[:19].replace("T", " "),
        ("→ " if event.is_correction else "") + result.status,
        f"{result.change.partition}/{result.change.offset}",
        result.change_id or NONE,
        result.integration_id or NONE,
        result.origin_id or NONE,
        _detail(result),
    ]


def _detail(result: SyncResult) -> str:
    """The last column: the error, the superseding change or the course."""
    if result.error is not None:
        return f"{result.error.code or 'no code'}: {result.error.message}"
    if result.superseded_by is not None:
        return f"by {result.superseded_by.partition}/{result.superseded_by.offset}"
    retired = "retired" if result.change_type == DEACTIVATED and result.status is Status.SUCCEEDED else ""
    course = "" if result.course_id is None else f"course {result.course_id}"
    return " ".join(filter(None, (retired, course))) or NONE
