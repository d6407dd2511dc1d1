"""How rate, CPU and memory grow: ``python -m tests.bench.scale``. The tables of `docs/sizing.md` come from it.

The replicas are ready, and share the partitions, before the first change is published. They are frozen while all changes are
published, and measured from then to the last result: a part of that would leave out what was read before it, or after it. All
processes share the machine with Kafka and the simulator, so on a small machine more replicas cannot be faster; what they cost is what
is measured.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import click
from rich.console import Console
from rich.table import Table

from daemon.log.errors import LogError
from daemon.log.kafka.clients import Clients
from tests.bench.core import PAGE_BYTES, measure
from tests.bench.end_to_end import PATIENCE, result_partitions, stable_end
from tests.bench.load import distinct_changes, preload
from tests.bench.restoring import measure_restore
from tests.bench.setting import DIRECTORY, Setting, kafka
from tests.bench.usage import process_seconds
from tests.sandbox.process import SandboxError
from tests.sandbox.replica import Replica

CHANGES = 60_000
MEMBERSHIP: Mapping[str, str] = {"kafka.session_timeout": "5m"}
"""Frozen replicas keep their partitions."""
LOOK_EVERY = 0.05

PROCESSES, PARTITIONS, INTEGRATIONS = (1, 2, 4), (6, 24, 96), (10, 1_000, 20_000)
ONE_PROCESS, FEW_PARTITIONS, SOME_INTEGRATIONS = 1, 6, 20
"""What stays while another of the three is varied."""
UNDER_WAY = (10_000, 100_000, 1_000_000, 3_000_000)


class Rate(NamedTuple):
    processes: int
    partitions: int
    integrations: int
    rate: float
    """Changes a second."""
    daemon_us: float
    """Microseconds of CPU of all processes a change."""
    broker_us: float | None
    mb: float
    """Resident megabytes of a process, the largest."""


def measure_rate(setting: Setting, processes: int, partitions: int, integrations: int) -> Rate:
    """Raises `SandboxError` if the results do not come."""
    name = f"scale-{processes}-{partitions}-{integrations}"
    with setting.stack(name, task_seconds=0.0, settings=MEMBERSHIP, partitions=partitions) as stack:
        replicas = [stack.daemon, *(stack.add_replica() for _ in range(processes - 1))]
        for replica in replicas:
            replica.start()
        for replica in replicas:
            replica.await_ready()
        reader = Clients(stack.addresses.connection).reader()
        try:
            places = result_partitions(reader, stack.addresses)
            for replica in replicas:
                replica.process.freeze()
            preload(stack.addresses, distinct_changes(CHANGES, seed=1, integrations=integrations))

            def wait(results: int) -> tuple[float, float, float]:
                """Until there are so many. When, and the CPU time of daemon and broker."""
                news, last = time.monotonic(), -1
                while (end := stable_end(reader, places)) < results:
                    if end != last:
                        news, last = time.monotonic(), end
                    if time.monotonic() - news > PATIENCE:
                        raise SandboxError(f"{name}: no result for {PATIENCE:.0f} s")
                    stack.assert_running()
                    time.sleep(LOOK_EVERY)
                cpu = sum(process_seconds(replica.process.pid) for replica in replicas)
                broker = process_seconds(setting.broker_pid) if setting.broker_pid is not None else 0.0
                return time.monotonic(), cpu, broker

            began, cpu_began, broker_began = wait(0)
            for replica in replicas:
                replica.process.thaw()
            ended, cpu_ended, broker_ended = wait(CHANGES)
            return Rate(
                processes,
                partitions,
                integrations,
                CHANGES / (ended - began),
                (cpu_ended - cpu_began) / CHANGES * 1e6,
                None if setting.broker_pid is None else (broker_ended - broker_began) / CHANGES * 1e6,
                max(_resident_mb(replica) for replica in replicas),
            )
        finally:
            reader.close()


def _resident_mb(replica: Replica) -> float:
    pages = int(Path(f"/proc/{replica.process.pid}/statm").read_text().split()[1])
    return pages * PAGE_BYTES / 1e6


def _rates() -> list[tuple[int, int, int]]:
    """What is varied, without repetitions."""
    varied = [
        (processes, partitions, SOME_INTEGRATIONS) for partitions in PARTITIONS for processes in PROCESSES
    ]
    return varied + [(ONE_PROCESS, FEW_PARTITIONS, integrations) for integrations in INTEGRATIONS]


def rates_table(rates: Sequence[Rate]) -> Table:
    table = Table(title=f"{CHANGES:,} changes", title_justify="left")
    for column in (
        "processes",
        "partitions",
        "integrations",
        "changes/s",
        "CPU µs a change",
        "broker",
        "MB a process",
    ):
        table.add_column(column, justify="right")
    for rate in rates:
        broker = "" if rate.broker_us is None else f"{rate.broker_us:.0f}"
        table.add_row(
            *(f"{number:,}" for number in rate[:3]),
            f"{rate.rate:,.0f}",
            f"{rate.daemon_us:.0f}",
            broker,
            f"{rate.mb:.0f}",
        )
    return table


def under_way_table(rows: Sequence[tuple[int, float, float, float]]) -> Table:
    table = Table(title="One process, batches of 100", title_justify="left")
    for column in ("changes under way", "MB", "restore, s", "restore, records/s of a bare read's"):
        table.add_column(column, justify="right")
    for count, mb, seconds, ratio in rows:
        table.add_row(f"{count:,}", f"{mb:,.0f}", f"{seconds:.1f}", f"{ratio:.2f}")
    return table


@click.command
@click.option(
    "--repetitions", type=click.IntRange(min=1), default=1, show_default=True, help="Of the restores."
)
def scale(*, repetitions: int) -> None:
    """How rate, CPU, memory and restore grow. Tables go to stderr, one line of JSON to stdout. Takes 10 minutes."""
    console = Console(stderr=True, highlight=False)
    try:
        with kafka(console) as (bootstrap, broker_pid):
            setting = Setting(DIRECTORY, bootstrap, broker_pid)
            rates = []
            for varied in _rates():
                rates.append(measure_rate(setting, *varied))
                console.print(rates_table(rates[-1:]))
            rows = []
            for count in UNDER_WAY:
                restored = measure_restore(bootstrap, repetitions, count)
                mb = measure("in_flight", count)["rss_mb"]
                rows.append((count, mb, restored["restore_seconds"], restored["restore_ratio"]))
                console.print(under_way_table(rows[-1:]))
    except (SandboxError, LogError) as error:
        raise click.ClickException(str(error)) from error
    console.print(rates_table(rates))
    console.print(under_way_table(rows))
    json.dump({"rates": [rate._asdict() for rate in rates], "under_way": rows}, sys.stdout)
    click.echo()


if __name__ == "__main__":
    scale()
