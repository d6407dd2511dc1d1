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
    help=f"Minutes of overload. Below {JUDGED_FROM_MINUTES:g}, memory growth is not judged.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Decides changes and faults.")
@directory_option
def soak(*, minutes: float, seed: int, directory: Path) -> None:
    """Publish more changes than the API accepts, for minutes, and measure the daemon's memory.

    The last line is JSON. In it, `rss_mb`, `threads` and `descriptors` are reported at a tenth, half and the end of the
    overload: their keys are minutes, their values are medians of the time just before. `waiting_max` can be slightly more
    than `backlog_limit`, because records are read ahead before a partition pauses. The exit code is 1 if the contract was
    broken, or if memory at the end is more than 10 % above that at the first mark.
    """
    with ending_in_order():
        outcome = run_soak(minutes, seed, directory, plain_console())
    click.echo(json.dumps(outcome.as_dict()))
    sys.exit(0 if outcome.ok else 1)
