"""`python -m tests.sandbox chaos`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from tests.sandbox.chaos.runner import run_chaos
from tests.sandbox.terminal import directory_option, ending_in_order, plain_console


@click.command()
@click.option(
    "--kills",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Number of kill -9 of replicas.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Decides changes, faults and strikes.")
@directory_option
def chaos(*, kills: int, seed: int, directory: Path) -> None:
    """Kill, freeze and thaw replicas, Kafka and the API while changes are published.

    A separate Kafka is always started, even if KAFKA is set. The last line is JSON. The exit code is 1 if the contract was
    broken, if something stayed stuck, or if a replica ended without logging why.
    """
    with ending_in_order():
        outcome = run_chaos(kills, seed, directory, plain_console())
    click.echo(json.dumps(outcome.as_dict()))
    sys.exit(0 if outcome.ok else 1)
