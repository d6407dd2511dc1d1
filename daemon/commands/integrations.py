"""``coursesyncd integrations``: shows what is under way for each integration, and what operators have decided.

A group whose command `list` may be left out. Read-only; it does not disturb running replicas.
"""

from __future__ import annotations

import sys
import time
from datetime import datetime
from pathlib import Path

import click
import msgspec

from daemon.commands.connections import kafka_connection
from daemon.commands.decision_options import IntegrationParam
from daemon.commands.decisions import read_decisions, wall_ms
from daemon.commands.integration_rows import IntegrationRow, integration_rows, read_work, why
from daemon.commands.integration_settings import show
from daemon.commands.options import config_option, settings_or_exit
from daemon.commands.tables import age, print_json, print_table
from daemon.log.errors import LogError


class _ListByDefault(click.Group):
    """`integrations ARGUMENTS` is `integrations list ARGUMENTS`, unless the first argument is a command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        known = {*self.commands, *self.get_help_option_names(ctx)}
        # A shell that completes the first word asks for the commands.
        if not ctx.resilient_parsing and (not args or args[0] not in known):
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_ListByDefault)
def integrations() -> None:
    """Show the work, the pauses and the settings of integrations.

    Without a command: list, with its arguments and options. A PATTERN is an id, or the first characters of ids and a *.
    """


integrations.add_command(show)


@integrations.command("list")
@click.argument("patterns", metavar="[PATTERN]...", nargs=-1, type=IntegrationParam(patterns=True))
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, instead of a table.")
@config_option
def list_command(*, patterns: tuple[str, ...], as_json: bool, config_file: Path | None) -> None:
    """List integrations with work, pauses or given up changes.

    PATTERN is an id, or the first characters of ids and a *. A pattern that is paused has a row as well.

    WAITING: changes that the API has not accepted yet, and the age of the oldest. PENDING: changes in open tasks, and the
    age of the oldest task. WHY: who has paused the integration or given up changes, the last error, and when what was refused
    is sent again.

    A change that has failed is over, so it is not shown here: see `coursesyncd results --status FAILED`.
    """
    settings = settings_or_exit(config_file, unneeded=frozenset({"kombo"}))
    wall = wall_ms()
    try:
        decisions = read_decisions(kafka_connection(settings.kafka), settings.topics.control, wall)
        work = read_work(settings)
    except LogError as error:
        raise click.ClickException(str(error)) from None
    rows = integration_rows(work, decisions.control, wall, patterns)
    if as_json:
        print_json(map(msgspec.json.encode, rows))
    elif rows:
        now = time.time()
        print_table(("INTEGRATION", "STATE", "WAITING", "PENDING", "WHY"), [_cells(row, now) for row in rows])
    else:
        whose = " for what was asked" if patterns else ""
        click.echo(f"Nothing is under way{whose}, nothing is paused, and nothing was given up.")
        click.echo("What has ended is in the results: coursesyncd results", err=True)
    for record in decisions.not_decisions:
        click.echo(f"{record.topic}/{record.partition}/{record.offset} is not a decision", err=True)
    for sentence in work.unreadable:
        click.echo(f"Error: {sentence}", err=True)
    if work.unreadable:
        sys.exit(1)


def _cells(row: IntegrationRow, now: float) -> tuple[str | None, ...]:
    waiting = row.waiting + row.sealed
    return (
        row.integration,
        row.state,
        _count(f"{waiting:,}", row.waiting_since, now) if waiting else None,
        _count(_pending(row), row.open_since, now) if row.open_tasks else None,
        ". ".join(sentence.rstrip(".") for sentence in why(row, now)) or None,
    )


def _pending(row: IntegrationRow) -> str:
    return f"{row.open_changes:,} in {row.open_tasks:,} {'task' if row.open_tasks == 1 else 'tasks'}"


def _count(number: str, since: str | None, now: float) -> str:
    assert since is not None, "what is counted has an age"
    return f"{number}, {age(now - datetime.fromisoformat(since).timestamp())}"
