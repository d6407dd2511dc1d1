"""``coursesyncd results``: shows the results topic as a table or as JSON lines."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Literal

import click
import msgspec
from rich.text import Text

from daemon.codec.change import DEACTIVATED
from daemon.codec.result import SyncResult
from daemon.commands.connections import kafka_connection
from daemon.commands.options import bootstrap_option, config_option, settings_for_topics
from daemon.commands.tables import open_console, printable, printable_json
from daemon.core.model import Status
from daemon.log.port import LogError
from daemon.log.topic_access import read_topic

CORRECTED = "course.sync.corrected"

_STYLES = {
    Status.SUCCEEDED: "green",
    Status.FAILED: "bold red",
    Status.TIMED_OUT: "red",
    Status.SUPERSEDED: "dim",
    Status.REJECTED: "magenta",
    Status.UNCHANGED: "dim green",
}

_WIDTHS = {"RESOLVED": 12, "STATUS": 11, "CHANGE": 14, "INTEGRATION": 34, "COURSE": 30}
"""Characters of all columns but the last. Fixed, because rows are printed as they arrive."""


class _Event(msgspec.Struct):
    type: str
    data: SyncResult


@click.command()
@click.option("--follow", "-f", is_flag=True, help="Wait for more results; end with Ctrl-C.")
@click.option(
    "--from",
    "start",
    type=click.Choice(("beginning", "end")),
    default="beginning",
    show_default=True,
    help="Where in the topic to start.",
)
@click.option(
    "--status",
    "statuses",
    multiple=True,
    type=click.Choice(list(Status), case_sensitive=False),
    help="Only these (may be repeated).",
)
@click.option(
    "--integration", "integrations", multiple=True, metavar="ID", help="Only these (may be repeated)."
)
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
    statuses: tuple[Status, ...],
    integrations: tuple[str, ...],
    as_json: bool,
    topic: str | None,
    bootstrap_servers: str | None,
    config_file: Path | None,
) -> None:
    """Show the results of changes, as a read_committed consumer sees them.

    Ends at the end of the topic, unless --follow is given. Partitions are read in parallel, so results are in order
    only within each partition.
    """
    if start == "end" and not follow:
        raise click.UsageError("--from end without --follow has nothing to show.")
    settings = settings_for_topics(config_file, bootstrap_servers)
    topic = topic or settings.topics.results
    table = None if as_json else _Table()
    decoder = msgspec.json.Decoder(_Event)
    try:
        for record in read_topic(kafka_connection(settings.kafka), topic, start=start, follow=follow):
            try:
                event = decoder.decode(record.value or b"")
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                click.echo(f"{topic}/{record.partition}/{record.offset} is not a result", err=True)
                continue
            if statuses and event.data.status not in statuses:
                continue
            if integrations and event.data.integration_id not in integrations:
                continue
            if table is None:
                click.echo(printable_json(record.value or b"").encode())
            else:
                table.show(event)
    except LogError as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        if not follow:
            raise
    if table is not None:
        table.end()


class _Table:
    """Prints rows as they arrive, and a line with the counts at the end."""

    def __init__(self) -> None:
        self._console = open_console()
        self._counts: Counter[str] = Counter()
        self._corrections = 0

    def show(self, event: _Event) -> None:
        if not self._counts and not self._corrections:
            headings = "".join(_fit(name, width) for name, width in _WIDTHS.items())
            self._print(Text(headings, "bold"))
        result = event.data
        if event.type == CORRECTED:
            self._corrections += 1
        else:
            self._counts[result.status] += 1
        self._print(_row(result, corrected=event.type == CORRECTED))

    def end(self) -> None:
        counts = ", ".join(f"{self._counts[status]:,} {status}" for status in Status if self._counts[status])
        total = self._counts.total()
        line = f"{total:,} {'result' if total == 1 else 'results'}" + (f": {counts}" if counts else "")
        if self._corrections:
            line += f"; {self._corrections:,} corrected later"
        self._console.print(f"{line}.", soft_wrap=True)

    def _print(self, row: Text) -> None:
        # A terminal cuts long rows; a file gets the whole row.
        if self._console.is_terminal:
            self._console.print(row, no_wrap=True, overflow="ellipsis")
        else:
            self._console.print(row, soft_wrap=True)


def _row(result: SyncResult, *, corrected: bool) -> Text:
    row = Text()
    cells = (
        result.resolved_at[11:23],
        ("→ " if corrected else "") + result.status,
        f"{result.change.partition}/{result.change.offset}",
        result.integration_id or "-",
        result.origin_id or "-",
    )
    for (name, width), cell in zip(_WIDTHS.items(), cells, strict=True):
        row.append(_fit(cell, width), _STYLES[result.status] if name == "STATUS" else "")
    return row.append(_detail(result))


def _detail(result: SyncResult) -> str:
    """The last column: the error, the superseding change or the course."""
    if result.error is not None:
        return printable(f"{result.error.code or 'no code'}: {result.error.message}")
    if result.superseded_by is not None:
        return f"by {result.superseded_by.partition}/{result.superseded_by.offset}"
    retired = "retired" if result.change_type == DEACTIVATED and result.status is Status.SUCCEEDED else ""
    course = "" if result.course_id is None else f"course {result.course_id}"
    return printable(" ".join(filter(None, (retired, course))))


def _fit(text: str, width: int) -> str:
    """Exactly `width` columns and a space."""
    cell = Text(printable(text))
    cell.truncate(width, overflow="ellipsis", pad=True)
    return f"{cell.plain} "
