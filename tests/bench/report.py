"""What the measurements came to: a table for people, a line of JSON for machines."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from rich.console import Console
from rich.table import Table

from tests.bench.end_to_end import Part
from tests.bench.isolation import GROWTH_MAX, Pair, figures
from tests.bench.latency import LINGER, Latency
from tests.bench.rates import Rates

_T = TypeVar("_T")

RATE_MIN = 8_000
RATIO_MIN = 0.25
LATENCY_P99_MAX = 100.0
"""Milliseconds. What is to be reached on two CPUs that broker, simulator and daemon share."""


class Repetition(msgspec.Struct, frozen=True):
    copy_rate: float
    end_to_end_rate: float
    plain_rate: float
    cpus_busy_elsewhere: float
    """While the end-to-end rate was measured: what else the machine had to do."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Rates are records a second, CPU is microseconds a change, latencies are milliseconds. Medians over the
    repetitions, where there are any; `ratio` is that of the medians."""

    changes: int
    cpus: int
    copy_rate: float
    end_to_end_rate: float
    ratio: float
    plain_rate: float
    """Of `tests.bench.plain`, which is what one would write instead of the daemon."""
    cpu_us_per_change: Mapping[str, float]
    """Of the daemon, the broker (where it is ours), the simulator, the bare copy, and the plain program."""
    added_latency_ms: Mapping[str, float]
    """`p50` and `p99` beyond the linger, and how many `samples` they are of."""
    isolation: Mapping[str, Any]
    """Of `tests.bench.isolation.figures`."""
    repetitions: Sequence[Repetition]
    restore: Mapping[str, float]
    """Of `tests.bench.restoring`."""
    core: Mapping[str, float]
    """Of `tests.bench.core`."""

    @classmethod
    def of(
        cls,
        changes: int,
        rates: Sequence[Rates],
        latency: Latency,
        isolation: Sequence[Pair],
        restore: Mapping[str, float],
        core: Mapping[str, float],
    ) -> Report:
        end_to_end = statistics.median(run.daemon.rate for run in rates)
        copy = statistics.median(run.copied.rate for run in rates)
        parts: list[Part] = [
            part for part in ("daemon", "broker", "simulator") if part in rates[0].daemon.cpu_us
        ]
        cpu: dict[str, float] = {
            part: round(statistics.median(run.daemon.cpu_us[part] for run in rates), 1) for part in parts
        }
        return cls(
            changes=changes,
            cpus=os.cpu_count() or 1,
            copy_rate=round(copy),
            end_to_end_rate=round(end_to_end),
            ratio=round(end_to_end / copy, 3),
            plain_rate=round(statistics.median(run.plain.rate for run in rates)),
            cpu_us_per_change={
                **cpu,
                "copy": round(statistics.median(run.copied.cpu_us for run in rates), 1),
                "plain": round(statistics.median(run.plain.cpu_us["daemon"] for run in rates), 1),
            },
            added_latency_ms={
                "p50": round(latency.p50, 1),
                "p99": round(latency.p99, 1),
                "samples": latency.samples,
            },
            isolation=figures(isolation),
            repetitions=[
                Repetition(
                    round(run.copied.rate),
                    round(run.daemon.rate),
                    round(run.plain.rate),
                    round(run.daemon.elsewhere, 2),
                )
                for run in rates
            ],
            restore=restore,
            core=core,
        )

    def as_json(self) -> str:
        return msgspec.json.encode(self).decode()


def print_table(console: Console, report: Report) -> None:
    repetitions, cpu, latency = report.repetitions, report.cpu_us_per_change, report.added_latency_ms
    table = Table(
        title=f"{report.changes:,} changes, {report.cpus} CPUs for everything; medians of {len(repetitions)}",
        title_justify="left",
    )
    table.add_column("measure")
    table.add_column("value", justify="right")
    table.add_column("target", justify="right")
    table.add_column("each time", justify="right")
    table.add_row(
        "copy_rate, records/s: kafka-python alone",
        f"{report.copy_rate:,.0f}",
        "",
        _each(repetitions, lambda one: f"{one.copy_rate:,.0f}"),
    )
    table.add_row(
        "end_to_end_rate, changes/s",
        _judged(f"{report.end_to_end_rate:,.0f}", good=report.end_to_end_rate >= RATE_MIN),
        f"≥ {RATE_MIN:,}",
        _each(repetitions, lambda one: f"{one.end_to_end_rate:,.0f}"),
    )
    table.add_row(
        "ratio",
        _judged(f"{report.ratio:.2f}", good=report.ratio >= RATIO_MIN),
        f"≥ {RATIO_MIN}",
        _each(repetitions, lambda one: f"{one.end_to_end_rate / one.copy_rate:.2f}"),
    )
    table.add_row(
        "plain_rate, changes/s: what one would write instead",
        f"{report.plain_rate:,.0f}",
        "",
        _each(repetitions, lambda one: f"{one.plain_rate:,.0f}"),
    )
    table.add_section()
    for part, microseconds in cpu.items():
        name = "plain program" if part == "plain" else part
        table.add_row(f"CPU of the {name}, µs a change", f"{microseconds:,.1f}", "", "")
    table.add_row(
        "CPUs that others kept busy meanwhile",
        "",
        "",
        _each(repetitions, lambda one: f"{one.cpus_busy_elsewhere:.2f}"),
    )
    table.add_section()
    table.add_row(
        f"change → POST beyond the linger ({LINGER}), idle: p50", f"{latency['p50']:.0f} ms", "", ""
    )
    p99 = _judged(f"{latency['p99']:.0f} ms", good=latency["p99"] <= LATENCY_P99_MAX)
    table.add_row(f"… p99 of {latency['samples']:.0f}", p99, f"≤ {LATENCY_P99_MAX:.0f} ms", "")
    _add_isolation(table, report.isolation)
    table.add_section()
    for name, unit, least, most in _MORE:
        value = {**report.restore, **report.core}[name]
        good = (least is None or value >= least) and (most is None or value <= most)
        bound = f"≥ {least:g}" if least is not None else f"≤ {most:g} {unit}" if most is not None else ""
        table.add_row(
            name, _judged(f"{value:,g} {unit}", good=good) if bound else f"{value:,g} {unit}", bound, ""
        )
    console.print(table)


def _add_isolation(table: Table, isolation: Mapping[str, Any]) -> None:
    table.add_section()
    growth = isolation["post_growth"]
    table.add_row(
        "isolation: growth of p99 change → POST beside four bad integrations",
        _judged(f"{growth:+.0%}", good=growth <= GROWTH_MAX),
        f"≤ {GROWTH_MAX:+.0%}",
        _each(isolation["post_growth_each"], lambda one: f"{one:+.0%}"),
    )
    for name, what in (("post", "change → POST"), ("result", "change → result")):
        alone, beside = isolation[f"{name}_p99_ms_alone"], isolation[f"{name}_p99_ms_beside"]
        table.add_row(f"… p99 {what}, alone and beside", f"{alone:,.0f} and {beside:,.0f} ms", "", "")


_MORE: Sequence[tuple[str, str, float | None, float | None]] = (
    ("raw_read_rate", "records/s", None, None),
    ("restore_rate", "records/s", None, None),
    ("restore_ratio", "", 0.5, None),
    ("shard_mb_live", "MB", None, None),
    ("shard_mb_restored", "MB", None, None),
    ("heapq_pop_push_us", "µs", None, None),
    ("heap_pop_push_us", "µs", None, 4.0),
    ("heap_bytes_per_task", "bytes", None, 400.0),
    ("rss_mb_100k_courses", "MB", None, None),
    ("rss_mb_1m_courses", "MB", None, 500.0),
    ("flow_us_per_submission", "µs", None, None),
    ("core_us_per_change", "µs", None, None),
)
"""Name, unit, and the least or the most that is to be reached."""


def _judged(text: str, *, good: bool) -> str:
    return f"[green]{text} ✓" if good else f"[red]{text} ✗"


def _each(repetitions: Sequence[_T], show: Callable[[_T], str]) -> str:
    return "  ".join(show(one) for one in repetitions)
