"""Many histories over all processors, and one line of JSON at the end."""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator

import structlog

from tests.sim.history import run
from tests.sim.outcome import Outcome

CHUNK = 20
"""Histories that a processor takes at a time."""
SHOWN_MAX = 5


def quiet() -> None:
    """A simulated kill leaves coroutines that never end; Python would tell of each."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    warnings.simplefilter("ignore", RuntimeWarning)
    sys.unraisablehook = lambda _: None


def run_many(seeds: Iterable[int], processes: int) -> Iterator[Outcome]:
    """The outcomes in order of the seeds; without their traces where all is well."""
    with multiprocessing.get_context("spawn").Pool(processes, quiet) as pool:
        yield from pool.imap(run_slim, seeds, CHUNK)


def run_slim(seed: int) -> Outcome:
    outcome = run(seed)
    if outcome.ok:
        outcome.trace = []
    return outcome


def seeds_of(campaign: int, histories: int) -> range:
    """The seeds of a campaign: those of two campaigns do not overlap."""
    first = campaign * 10_000_000
    return range(first, first + histories)


def summary(campaign: int, outcomes: Iterable[Outcome], seconds: float) -> dict[str, object]:
    total, faults, counts, histories = Counter[str](), Counter[str](), Counter[str](), 0
    changes = bad = 0
    for outcome in outcomes:
        histories += 1
        changes += outcome.changes
        bad += not outcome.ok
        total.update(outcome.results)
        faults.update(outcome.faults)
        counts.update(outcome.counts)
    named = ("lost", "duplicate", "false_successes", "misordered", "unconverged")
    return {
        "histories": histories,
        "seed": campaign,
        "changes": changes,
        "results": dict(sorted(total.items())),
        "crashes": faults["crashes"],
        "zombies": faults["zombies"],
        "rebalances": faults["rebalances"],
        "other_faults": {
            k: v for k, v in sorted(faults.items()) if k not in ("crashes", "zombies", "rebalances")
        },
        **{name: counts[name] for name in named},
        "other_violations": {k: v for k, v in sorted(counts.items()) if k not in named},
        "bad_histories": bad,
        "seconds": round(seconds, 1),
    }


def report(outcome: Outcome) -> None:
    print(f"\nHistory {outcome.seed} broke the contract: {dict(outcome.counts)}")
    for line in outcome.lines[:10]:
        print(f"  {line}")
    print("  its trace:")
    for at, text in outcome.trace:
        print(f"  {at:9.3f} s  {text}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Deterministic simulation: one seed, one history.")
    parser.add_argument("--histories", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1, help="number of the campaign")
    parser.add_argument("--only", type=int, help="run this single history (a seed from a report)")
    arguments = parser.parse_args()
    quiet()
    if arguments.only is not None:
        outcome = run(arguments.only)
        report(outcome)
        sys.exit(0 if outcome.ok else 1)
    started = time.monotonic()
    outcomes = []
    shown = 0
    for outcome in run_many(seeds_of(arguments.seed, arguments.histories), os.cpu_count() or 1):
        outcomes.append(outcome)
        if not outcome.ok and shown < SHOWN_MAX:
            shown += 1
            report(outcome)
        if sys.stderr.isatty() and len(outcomes) % 200 == 0:
            print(f"\r{len(outcomes)} of {arguments.histories}", end="", file=sys.stderr)
    if sys.stderr.isatty():
        print("\r", end="", file=sys.stderr)
    figures = summary(arguments.seed, outcomes, time.monotonic() - started)
    print(json.dumps(figures))
    sys.exit(1 if figures["bad_histories"] else 0)
