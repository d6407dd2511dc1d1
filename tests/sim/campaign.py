"""Many histories over all processors, and one line of JSON at the end."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from tests.sim.drawing import draw
from tests.sim.history import run
from tests.sim.outcome import Outcome
from tests.sim.parameters import Kind
from tests.sim.reducing import Without, shrink
from tests.sim.telling import quiet, report, tell

CHUNK = 20
"""Histories that a processor takes at a time."""
SHOWN_MAX = 3
"""Failing histories that are shrunk and shown."""
NAMED = ("lost", "duplicate", "false_successes", "misordered", "unconverged")
"""Violations with a column of their own; the others stand together."""
NAMED_FAULTS = ("crashes", "zombies", "rebalances")


def run_many(seeds: Iterable[int], processes: int) -> Iterator[Outcome]:
    """The outcomes in order of the seeds, without their traces."""
    with multiprocessing.get_context("spawn").Pool(processes, quiet) as pool:
        yield from pool.imap(run_slim, seeds, CHUNK)


def run_slim(seed: int) -> Outcome:
    outcome = run(seed)
    outcome.trace = []
    return outcome


def seeds_of(campaign: int, histories: int) -> range:
    """The seeds of a campaign: those of two campaigns do not overlap."""
    first = campaign * 10_000_000
    return range(first, first + histories)


def summary(campaign: int, outcomes: Iterable[Outcome], seconds: float) -> dict[str, object]:
    results, happened, counts, kinds = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    changes = bad = 0
    for outcome in outcomes:
        kinds[outcome.kind] += 1
        changes += outcome.changes
        bad += not outcome.ok
        results.update(outcome.results)
        happened.update(outcome.faults)
        counts.update(outcome.counts)
    return {
        "histories": kinds.total(),
        "seed": campaign,
        "changes": changes,
        **{name: happened[name] for name in NAMED_FAULTS},
        **{name: counts[name] for name in NAMED},
        "seconds": round(seconds, 1),
        "bad_histories": bad,
        "other_violations": {k: v for k, v in sorted(counts.items()) if k not in NAMED},
        "kinds": dict(sorted(kinds.items())),
        "results": dict(sorted(results.items())),
        "other_faults": {k: v for k, v in sorted(happened.items()) if k not in NAMED_FAULTS},
    }


def show(seed: int, kind: Kind | None, without: Without) -> Outcome:
    """Run one history and print everything that happens in it."""
    outcome = run(seed, kind, without, tell)
    quiet()
    parts = ["python -m tests.sim --only", str(seed), f"--kind {kind}" if kind else "", without.arguments()]
    report(outcome, " ".join(part for part in parts if part))
    return outcome


def shrink_and_show(failed: Outcome) -> None:
    """The smallest history that this one can be reduced to and that breaks the same promise."""

    def fails(without: Without) -> bool:
        return bool(run(failed.seed, without=without).counts.keys() & failed.counts.keys())

    show(failed.seed, None, shrink(draw(random.Random(failed.seed)), fails))


class Arguments(argparse.Namespace):
    """Of the command line."""

    histories: int
    seed: int
    only: int | None
    kind: Kind | None
    without: str
    changes: int | None
    skip: int

    @property
    def left_out(self) -> Without:
        names = frozenset(name for name in self.without.split(",") if name)
        return Without(names, self.changes, self.skip)


def parse(arguments: Sequence[str] | None = None) -> Arguments:
    parser = argparse.ArgumentParser(
        prog="python -m tests.sim", description="Deterministic simulation: one seed, one history."
    )
    parser.add_argument("--histories", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1, help="number of the campaign")
    parser.add_argument("--only", type=int, help="run this single history (a seed from a report)")
    parser.add_argument("--kind", type=Kind, choices=list(Kind), help="with --only: of another kind")
    parser.add_argument("--without", default="", help="with --only: what to leave out (from a report)")
    parser.add_argument("--changes", type=int, help="with --only: only so many changes")
    parser.add_argument("--skip", type=int, default=0, help="with --only: without so many of the first ones")
    return parser.parse_args(arguments, Arguments())


def main() -> None:
    arguments = parse()
    quiet()
    if arguments.only is None:
        good = campaign(arguments.seed, arguments.histories)
    else:
        good = show(arguments.only, arguments.kind, arguments.left_out).ok
    sys.exit(0 if good else 1)


def campaign(number: int, histories: int) -> bool:
    """Run them all; tells whether all were good."""
    started = time.monotonic()
    outcomes, failed = [], []
    for outcome in run_many(seeds_of(number, histories), os.cpu_count() or 1):
        outcomes.append(outcome)
        if not outcome.ok:
            failed.append(outcome)
        if sys.stderr.isatty() and len(outcomes) % 100 == 0:
            print(f"\r{len(outcomes)} of {histories}, {len(failed)} bad ", end="", file=sys.stderr)
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    figures = summary(number, outcomes, time.monotonic() - started)
    for outcome in failed[:SHOWN_MAX]:
        shrink_and_show(outcome)
    if len(failed) > SHOWN_MAX:
        print(
            f"\nAnd {len(failed) - SHOWN_MAX} more: {', '.join(str(o.seed) for o in failed[SHOWN_MAX:][:50])}"
        )
    print(json.dumps(figures))
    return not failed
