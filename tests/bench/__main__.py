"""`python -m tests.bench`: all measurements in one run, over one broker."""

from __future__ import annotations

import click
from rich.console import Console

from daemon.log.errors import LogError
from tests.bench.core import measure_core
from tests.bench.isolation import measure_isolation
from tests.bench.latency import measure_latency
from tests.bench.rates import measure_rates
from tests.bench.report import Report, print_table
from tests.bench.restoring import measure_restore
from tests.bench.setting import DIRECTORY, Setting, kafka
from tests.sandbox.process import SandboxError

ISOLATION_SECONDS = 20.0
"""For which changes are published in each run."""


@click.command
@click.option("--changes", type=click.IntRange(min=1000), default=60_000, show_default=True)
@click.option("--repetitions", type=click.IntRange(min=1), default=3, show_default=True)
@click.option(
    "--samples", type=click.IntRange(min=10), default=300, show_default=True, help="Of the latency."
)
def bench(*, changes: int, repetitions: int, samples: int) -> None:
    """How fast it is. Progress and a table go to stderr, one line of JSON to stdout."""
    console = Console(stderr=True, highlight=False)
    try:
        with kafka(console) as (bootstrap, broker_pid):
            setting = Setting(DIRECTORY, bootstrap, broker_pid)
            rates = []
            for number in range(1, repetitions + 1):
                console.print(f"Rates, {number} of {repetitions}: {changes:,} changes …")
                rates.append(measure_rates(setting, changes, seed=number))
            console.print(f"Latency when idle: {samples} changes, one by one …")
            latency = measure_latency(setting, samples)
            console.print(f"Isolation: 46 integrations alone and beside four bad ones, {repetitions} times …")
            isolation = measure_isolation(setting, repetitions, ISOLATION_SECONDS)
            console.print("A journal of 100,000 courses in flight, read back …")
            restored = measure_restore(bootstrap, repetitions)
        console.print("The core: a million tasks, a million courses …")
        report = Report.of(changes, rates, latency, isolation, restored, measure_core())
    except (SandboxError, LogError) as error:
        raise click.ClickException(str(error)) from error
    print_table(console, report)
    click.echo(report.as_json())


if __name__ == "__main__":
    bench()
