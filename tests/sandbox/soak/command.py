"""`python -m tests.sandbox soak`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from tests.sandbox.soak.outcome import JUDGED_FROM_MINUTES
from tests.sandbox.soak.runner import run_soak
from tests.sandbox.terminal import directory_option, ending_in_order, plain_console


@click.command()
@click.option(
    "--minutes",
    type=click.FloatRange(min=0.1),
    default=10.0,
    show_default=True,
    help=f"Of overload. Below {JUDGED_FROM_MINUTES:g} it is not judged whether memory grows.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Decides changes and faults.")
@directory_option
def soak(*, minutes: float, seed: int, directory: Path) -> None:
    """More changes than the API takes, for minutes: the daemon's memory, and what becomes of the changes.

    The last line is JSON. In it `rss_mb`, `threads` and `descriptors` are told at a tenth, half and the
    end of the overload: their keys are minutes, their values medians of the time just before. What was
    read ahead when a partition was paused makes `waiting_max` a little more than `backlog_limit`. Ends
    with exit code 1 when a promise of the contract was broken, or memory at the end is more than 10 %
    above that at the first of the marks.
    """
    with ending_in_order():
        outcome = run_soak(minutes, seed, directory, plain_console())
    click.echo(json.dumps(outcome.as_dict()))
    sys.exit(0 if outcome.ok else 1)
