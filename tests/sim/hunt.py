"""Hunts mutants: how many histories does it take until the checker catches each?"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from dataclasses import dataclass

from tests.sim.history import run
from tests.sim.mutants import MUTANTS, Mutant
from tests.sim.telling import quiet

HISTORIES_MAX = 1500
"""A mutant that is not caught within so many histories has escaped."""
FIRST_SEED = 4_000_000_000
"""Apart from those of the campaigns."""


@dataclass(frozen=True)
class Hunt:
    mutant: str
    histories: int
    """Up to and with the one that caught it; all of them if none did."""
    caught_by: tuple[str, ...]
    """The kinds of violations that the catching history shows; empty: the mutant has escaped."""
    seed: int
    line: str


def hunt(mutant: Mutant, first_seed: int = FIRST_SEED, histories_max: int = HISTORIES_MAX) -> Hunt:
    with mutant.applied():
        for number in range(histories_max):
            outcome = run(first_seed + number, mutant.kind)
            if not outcome.ok:
                kinds = tuple(kind for kind, _ in outcome.counts.most_common())
                return Hunt(mutant.name, number + 1, kinds, outcome.seed, outcome.lines[0])
    return Hunt(mutant.name, histories_max, (), 0, "")


def hunt_all(processes: int | None = None, first_seed: int = FIRST_SEED) -> Iterator[Hunt]:
    """One after another in the order of the list, on all processors."""
    with multiprocessing.get_context("spawn").Pool(processes or os.cpu_count() or 1, quiet) as pool:
        yield from pool.imap(_hunt_by_number, [(number, first_seed) for number in range(len(MUTANTS))])


def _hunt_by_number(task: tuple[int, int]) -> Hunt:
    number, first_seed = task
    return hunt(MUTANTS[number], first_seed)


def table(hunts: list[Hunt]) -> str:
    """The mutants and what it took, as Markdown."""
    rows = ["| breaks | mutant | what it does | histories | caught as |", "|---|---|---|---|---|"]
    found = {one.mutant: one for one in hunts}
    for mutant in sorted(
        MUTANTS, key=lambda m: (m.rule[0], int(m.rule[1:]) if m.rule[1:].isdigit() else 0, m.name)
    ):
        one = found[mutant.name]
        caught = ", ".join(one.caught_by[:3]) or "**escaped**"
        rows.append(f"| {mutant.rule} | `{mutant.name}` | {mutant.breaks} | {one.histories} | {caught} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(table(list(hunt_all())))
