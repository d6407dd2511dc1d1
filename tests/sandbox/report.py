"""The report of a sandbox run: a JSON file for programs, tables for people."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from daemon.core.model import Status
from tests.sandbox.checker.verdict import Verdict


def write_report(path: Path, verdict: Verdict, *, kills: int, seconds: float, log: str) -> None:
    """Write all counts of the checker, how often the daemon was ended by kill -9, the seconds from the first change to the
    last result, and the log that the changes went through."""
    report = {**verdict.as_dict(), "kills": kills, "seconds": round(seconds, 1), "log": log}
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")


def print_results(console: Console, latencies: Mapping[str, Sequence[float]]) -> None:
    """Print results by status. `latencies` are seconds from the change's record to its result's record."""
    table = Table(title="Results", title_justify="left")
    table.add_column("status")
    for heading in ("changes", "p50", "p90", "p99", "slowest"):
        table.add_column(heading, justify="right")
    for status in Status:
        if of_status := latencies.get(status):
            table.add_row(status, f"{len(of_status):,}", *_quantiles(of_status))
    if every := [latency for of_status in latencies.values() for latency in of_status]:
        table.add_section()
        table.add_row("all", f"{len(every):,}", *_quantiles(every))
    console.print("\n", table, sep="")  # the progress bars leave the cursor at the end of their last line


def print_api(console: Console, stats: Mapping[str, Any]) -> None:
    """Print what the simulator has counted. `stats` is its /_sim/stats."""
    tasks: Mapping[str, int] = stats["tasks"]
    count = sum(tasks.values())
    by_status = ", ".join(f"{number} {status.lower()}" for status, number in sorted(tasks.items()))
    console.print(
        f"API: {count} tasks ({by_status}); {_ratio(stats['items'], count)} items and "
        f"{_ratio(stats['polls'], count)} polls per task.",
        soft_wrap=True,
    )
    requests = ", ".join(f"{number} {name}" for name, number in stats["requests"].items())
    console.print(f"Its answers: {requests}.", highlight=False, soft_wrap=True)


def _quantiles(seconds: Sequence[float]) -> list[str]:
    cuts = statistics.quantiles(seconds, n=100, method="inclusive") if len(seconds) > 1 else [seconds[0]] * 99
    return [f"{value:.2f} s" for value in (cuts[49], cuts[89], cuts[98], max(seconds))]


def _ratio(amount: int, count: int) -> str:
    return f"{amount / count:.1f}" if count else "no"
