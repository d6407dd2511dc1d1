"""`check`: check a finished run against the contract."""

from __future__ import annotations

import json
import sys

import click
from rich.console import Console
from rich.table import Table

from daemon.config.units import parse_duration
from daemon.log.errors import LogError
from daemon.log.kafka.clients import KafkaConnection
from tests.sandbox.checker.judging import Limits
from tests.sandbox.checker.readers import EvidenceError, check_run
from tests.sandbox.checker.verdict import Kind, Verdict

EXIT_VIOLATED = 1
EXIT_UNREADABLE = 3
"""Different from click's 2, which means wrong usage."""


def print_verdict(console: Console, verdict: Verdict, violations: int = 20) -> None:
    """Print a table with every count, and a line for each of the first violations."""
    table = Table(title="The contract", title_justify="left", show_header=False)
    table.add_row("changes", f"{verdict.changes:,}")
    for status, count in sorted(verdict.results.items()):
        table.add_row(f"  {status}", f"{count:,}")
    if verdict.deactivations:
        table.add_section()
        table.add_row("courses to be retired", f"{verdict.deactivations.total():,}")
        for status, count in sorted(verdict.deactivations.items()):
            table.add_row(f"  {status}", f"{count:,}")
        table.add_row("courses retired in the end", f"{verdict.inactive:,}")
    table.add_section()
    for kind in Kind:
        count = verdict.counts[kind]
        table.add_row(kind.value.replace("_", " "), f"{count:,}", style="bold red" if count else None)
    table.columns[1].justify = "right"
    console.print(table)
    for violation in verdict.first(violations):
        console.print(f"{violation.kind}: {violation.line}", markup=False, highlight=False, soft_wrap=True)
    left_out = verdict.counts.total() - violations
    if left_out > 0:
        console.print(f"… and {left_out:,} more.")
    if verdict.spread_courses:
        console.print(
            f"{verdict.spread_courses:,} courses have changes in several partitions; their order was not judged."
        )
    console.print("[green]The contract was kept." if verdict.ok else "[bold red]The contract was broken.")


def _duration_ms(context: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    try:
        return round(parse_duration(value) * 1000)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx=context, param=parameter) from error


@click.command
@click.option(
    "--bootstrap-servers",
    envvar="COURSESYNC_KAFKA_BOOTSTRAP_SERVERS",
    required=True,
    metavar="HOST:PORT",
    help="The Kafka cluster.",
)
@click.option(
    "--simulator",
    "simulator_url",
    envvar="SIMULATOR",
    required=True,
    metavar="URL",
    help="The simulator's root.",
)
@click.option(
    "--changes-topic", envvar="COURSESYNC_TOPICS_CHANGES", default="course-changes", show_default=True
)
@click.option(
    "--results-topic", envvar="COURSESYNC_TOPICS_RESULTS", default="course-sync-results", show_default=True
)
@click.option(
    "--courses-topic",
    envvar="COURSESYNC_TOPICS_COURSES",
    help="Without it, what is known of the courses is not judged.",
)
@click.option(
    "--task-timeout",
    "task_timeout_ms",
    envvar="COURSESYNC_TASK_TIMEOUT",
    metavar="DURATION",
    callback=_duration_ms,
    help="task.timeout of the daemon, such as 10s. Without it, early timeouts are not reported.",
)
@click.option(
    "--watch-after-timeout",
    "watch_ms",
    envvar="COURSESYNC_TASK_WATCH_AFTER_TIMEOUT",
    metavar="DURATION",
    callback=_duration_ms,
    help="task.watch_after_timeout of the daemon. Without it, what follows a timeout is not judged.",
)
@click.option(
    "--backlog-rejects",
    is_flag=True,
    help="backlog.on_full of the daemon is reject: a full backlog may reject changes.",
)
@click.option(
    "--violations", type=click.IntRange(min=0), default=20, show_default=True, help="Lines to print."
)
@click.option("--json", "as_json", is_flag=True, help="One line of JSON instead of the table.")
def check(
    *,
    bootstrap_servers: str,
    simulator_url: str,
    changes_topic: str,
    results_topic: str,
    courses_topic: str | None,
    task_timeout_ms: int | None,
    watch_ms: int | None,
    backlog_rejects: bool,
    violations: int,
    as_json: bool,
) -> None:
    """Check a finished run against the contract.

    Compares the input, the results (read_committed) and the state of the simulator. Run it when every change has its
    result: a change without a result counts as lost. After `source .sandbox/env` no option is needed.

    Exit code 0: the contract was kept; 1: it was broken; 3: some evidence could not be read.
    """
    connection = KafkaConnection(tuple(bootstrap_servers.split(",")))
    limits = Limits(task_timeout_ms=task_timeout_ms, watch_ms=watch_ms, backlog_rejects=backlog_rejects)
    try:
        verdict = check_run(
            connection, changes_topic, results_topic, simulator_url.rstrip("/"), limits, courses_topic
        )
    except (LogError, EvidenceError) as error:
        click.echo(str(error), err=True)
        sys.exit(EXIT_UNREADABLE)
    if as_json:
        lines = [f"{violation.kind}: {violation.line}" for violation in verdict.first(violations)]
        click.echo(json.dumps({**verdict.as_dict(), "violations": lines}))
    else:
        print_verdict(Console(), verdict, violations)
    sys.exit(0 if verdict.ok else EXIT_VIOLATED)
