"""`python -m tests.sandbox demo`: on a real Kafka if one can be started, otherwise in one process."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from tests.sandbox.broker import external_kafka
from tests.sandbox.demo.in_process import run_demo_in_process
from tests.sandbox.demo.on_kafka import run_demo
from tests.sandbox.kafka_jars import MissingToolError, fetch_kafka, require_java
from tests.sandbox.profile import Demo
from tests.sandbox.terminal import directory_option, ending_in_order, plain_console, seed_option

_DEMO = Demo()


@click.command()
@click.option("--changes", type=click.IntRange(min=1), default=_DEMO.changes, show_default=True)
@click.option("--integrations", type=click.IntRange(min=3), default=_DEMO.integrations, show_default=True)
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    default=_DEMO.rate,
    show_default=True,
    help="Changes published per second.",
)
@seed_option
@directory_option
def demo(*, changes: int, integrations: int, rate: float, seed: int, directory: Path) -> None:
    """Send changes through Kafka, the daemon and a misbehaving API, with kill -9 in the middle.

    Without Java or Maven, everything runs in one process on an in-memory log. The exit code is 1 if the contract was
    broken.
    """
    plan = Demo(changes=changes, integrations=integrations, rate=rate, seed=seed)
    console = plain_console()
    with ending_in_order():
        missing = _missing_for_kafka()
        if missing is None:
            content = run_demo(plan, directory, console)
        else:
            console.print(
                f"[bold yellow]Not on a real Kafka:[/] {missing}\n"
                "So the daemon, the simulated API and the generator run in one process, on an in-memory log. "
                "Its contents are lost when the process ends; it is never used in production."
            )
            content = run_demo_in_process(plan, directory, console)
    sys.exit(0 if content else 1)


def _missing_for_kafka() -> str | None:
    """What has to be installed before a broker can be started. None if nothing is missing."""
    if external_kafka() is not None:
        return None
    try:
        require_java()
        fetch_kafka()
    except MissingToolError as error:
        return str(error)
    return None
