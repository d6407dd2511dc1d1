"""The daemon beside what one would write instead, and beside the limit: `python -m tests.bench.beside`.

First the rates and CPU of the daemon, of `tests.bench.plain` and of bare copying, alternately over the same changes. Then the
daemon and the plain program each work on the same changes while the API misbehaves, and are killed in the same way
(`tests.bench.killed`). A table in Markdown, that of the README, goes to stderr, and one line of JSON to stdout. It ends with
exit code 1 if the daemon broke the contract.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
from collections.abc import Mapping, Sequence

import click
from rich.console import Console

from daemon.log.errors import LogError
from tests.bench.killed import Killed, run_killed
from tests.bench.rates import PLAIN, Rates, measure_rates
from tests.bench.setting import DIRECTORY, Setting, kafka
from tests.sandbox.checker import EvidenceError, Kind
from tests.sandbox.process import SandboxError

ROWS: Mapping[str, Sequence[Kind]] = {
    "changes without a result": (Kind.LOST,),
    "results too many": (Kind.DUPLICATE,),
    "successes that are not true": (Kind.FALSE_SUCCESS,),
    "other results that are not true": (
        Kind.FALSE_FAILURE,
        Kind.REJECTION,
        Kind.SUPERSESSION,
        Kind.CORRECTION,
        Kind.KNOWN,
        Kind.MALFORMED,
    ),
    "courses submitted in the wrong order, or twice at once": (Kind.MISORDERED,),
    "courses that differ from their newest change": (Kind.UNCONVERGED,),
    "submissions that no valid change asked for": (Kind.UNASKED,),
}
"""All findings of the checker, as the table names them."""


@click.command
@click.option("--changes", type=click.IntRange(min=1000), default=60_000, show_default=True, help="A rate.")
@click.option("--repetitions", type=click.IntRange(min=1), default=3, show_default=True, help="Of the rates.")
@click.option("--kills", type=click.IntRange(min=1), default=8, show_default=True, help="Of each program.")
@click.option("--seed", type=int, default=1, show_default=True, help="Decides changes, faults and kills.")
def beside(*, changes: int, repetitions: int, kills: int, seed: int) -> None:
    """The daemon beside what one would write instead: rates, and what goes wrong when both are killed."""
    console = Console(stderr=True, highlight=False)
    try:
        with kafka(console) as (bootstrap, broker_pid):
            setting = Setting(DIRECTORY, bootstrap, broker_pid)
            rates = []
            for number in range(1, repetitions + 1):
                console.print(f"Rates, {number} of {repetitions}: {changes:,} changes …")
                rates.append(measure_rates(setting, changes, seed=number))
            console.print(f"kill -9 of the plain program, {kills} times …")
            plain = run_killed(setting, "killed-plain", kills, seed, PLAIN)
            console.print(f"kill -9 of the daemon, {kills} times …")
            daemon = run_killed(setting, "killed-daemon", kills, seed)
    except (SandboxError, LogError, EvidenceError) as error:
        raise click.ClickException(str(error)) from error
    figures = _figures(rates)
    console.print(_table(figures, daemon, plain), markup=False, soft_wrap=True)
    line = {
        "changes": changes,
        "cpus": os.cpu_count() or 1,
        **figures,
        "cpus_busy_elsewhere": [round(one.daemon.elsewhere, 2) for one in rates],
        "kills": kills,
        "seed": seed,
        "killed": {"daemon": _killed(daemon), "plain": _killed(plain)},
    }
    click.echo(json.dumps(line))
    sys.exit(0 if daemon.verdict.ok else 1)


def _figures(rates: Sequence[Rates]) -> dict[str, dict[str, float]]:
    """Medians: changes a second, and CPU microseconds a change."""
    return {
        "rate": {
            "copy": round(statistics.median(one.copied.rate for one in rates)),
            "daemon": round(statistics.median(one.daemon.rate for one in rates)),
            "plain": round(statistics.median(one.plain.rate for one in rates)),
        },
        "cpu_us": {
            "copy": round(statistics.median(one.copied.cpu_us for one in rates), 1),
            "daemon": round(statistics.median(one.daemon.cpu_us["daemon"] for one in rates), 1),
            "plain": round(statistics.median(one.plain.cpu_us["daemon"] for one in rates), 1),
        },
    }


def _killed(run: Killed) -> dict[str, object]:
    return {**run.verdict.as_dict(), "idle_kills": run.idle_kills, "seconds": round(run.seconds, 1)}


def _table(figures: Mapping[str, Mapping[str, float]], daemon: Killed, plain: Killed) -> str:
    rate, cpu = figures["rate"], figures["cpu_us"]
    rows = [
        ("", "only copying", "`coursesyncd`", "`tests/bench/plain.py`"),
        ("---", "---:", "---:", "---:"),
        ("changes a second", *(f"{rate[name]:,.0f}" for name in ("copy", "daemon", "plain"))),
        ("CPU microseconds a change", *(f"{cpu[name]:,.0f}" for name in ("copy", "daemon", "plain"))),
        (
            f"changes, with `kill -9` {daemon.kills} times",
            "",
            f"{daemon.verdict.changes:,}",
            f"{plain.verdict.changes:,}",
        ),
    ]
    for name, kinds in ROWS.items():
        counts = (sum(run.verdict.counts[kind] for kind in kinds) for run in (daemon, plain))
        rows.append((name, "", *(f"{count:,}" for count in counts)))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    beside()
