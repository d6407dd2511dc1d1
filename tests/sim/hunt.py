"""Hunts the mutants: how many histories does it take until the checker catches each?

``python -m tests.sim.hunt`` hunts all of them and writes the table into `docs/simulation.md`. The test hunts them too, and
begins each with the history that the table names. ``--stale`` hunts only those that this history does not catch any more.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import multiprocessing
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.sim.history import run
from tests.sim.mutants import MUTANTS, Mutant
from tests.sim.telling import quiet

HISTORIES_MAX = 1500
"""A mutant that is not caught within so many histories has escaped. Most are caught within ten; but every
change of the daemon shuffles the histories, and a rare one must not escape by that.
"""
PLAIN_MAX = 60
"""For so long, at least, it is looked for in what it leaves behind."""
FIRST_SEED = 4_000_000_000
"""Apart from those of the campaigns."""
PAGE = Path(__file__).parents[2] / "docs" / "simulation.md"
BEGIN, END = "<!-- mutants: made by python -m tests.sim.hunt -->", "<!-- end of mutants -->"


@dataclass(frozen=True)
class Hunt:
    mutant: str
    histories: int
    """Up to and with the one that caught it; all of them if none did."""
    caught_by: tuple[str, ...]
    """The kinds of violations that the catching history shows; empty: the mutant has escaped."""
    plain: int | None = None
    """Histories until it is seen in what it leaves behind, not only on the way. None: not looked for, or in
    vain.
    """


def hunt(mutant: Mutant, histories_max: int = HISTORIES_MAX, *, to_the_end: bool = False) -> Hunt:
    """`to_the_end`: go on until it is seen in what it leaves behind."""
    caught: Hunt | None = None
    with mutant.applied():
        for number in range(histories_max):
            outcome = run(FIRST_SEED + number, mutant.kind)
            if outcome.ok:
                continue
            kinds = tuple(kind for kind, _ in outcome.counts.most_common())
            caught = caught or Hunt(mutant.name, number + 1, kinds)
            if not outcome.plain:
                return dataclasses.replace(caught, plain=number + 1)
            if not to_the_end or number >= PLAIN_MAX:
                break
    return caught or Hunt(mutant.name, histories_max, ())


def hunt_again(mutant: Mutant, hint: int) -> Hunt:
    """Begin with the history of this number, which has caught it once. If it does not any more, hunt from the first one."""
    with mutant.applied():
        outcome = run(FIRST_SEED + hint - 1, mutant.kind)
    if outcome.ok:
        return hunt(mutant)
    return Hunt(mutant.name, hint, tuple(kind for kind, _ in outcome.counts.most_common()))


def hunt_all(function: Callable[[int], Hunt]) -> Iterator[Hunt]:
    """All mutants by their numbers, on all processors, in the order of the list."""
    with multiprocessing.get_context("spawn").Pool(os.cpu_count(), quiet) as pool:
        yield from pool.imap(function, range(len(MUTANTS)))


def hunt_to_the_end(number: int) -> Hunt:
    return hunt(MUTANTS[number], to_the_end=True)


def hunt_by_the_page(number: int) -> Hunt:
    mutant = MUTANTS[number]
    return hunt_again(mutant, hints().get(mutant.name, 1))


def hunt_stale(number: int) -> Hunt:
    """As the page says, if the history that it names still catches the mutant."""
    mutant = MUTANTS[number]
    told = page_rows().get(mutant.name)
    if told is not None:
        again = hunt_again(mutant, told.histories)
        if again.histories == told.histories:
            return dataclasses.replace(again, plain=told.plain)
    return hunt(mutant, to_the_end=True)


@functools.cache
def page_rows() -> dict[str, Hunt]:
    """What the table on the page says."""
    found = re.findall(
        r"^\|[^|]+\| `([\w-]+)` \|.*\| (\d+) \| ([^|]*) \| *(\d*) *\|$", PAGE.read_text(), re.MULTILINE
    )
    return {
        name: Hunt(name, int(number), tuple(kinds.split(", ")), int(plain) if plain else None)
        for name, number, kinds, plain in found
    }


@functools.cache
def hints() -> dict[str, int]:
    """The number of the history that caught each mutant, by the table on the page."""
    return {name: told.histories for name, told in page_rows().items()}


def table(hunts: Sequence[Hunt]) -> str:
    """The mutants and what it took, as Markdown."""
    rows = ["| breaks | bug | what it does | caught after | as | visible after |", "|-|-|-|-|-|-|"]
    found = {one.mutant: one for one in hunts}
    for mutant in sorted(MUTANTS, key=_place):
        one = found[mutant.name]
        caught = ", ".join(one.caught_by[:3]) or "**escaped**"
        plain = "" if one.plain is None else one.plain
        rows.append(
            f"| {mutant.rule} | `{mutant.name}` | {mutant.breaks} | {one.histories} | {caught} | {plain} |"
        )
    return "\n".join(rows)


def _place(mutant: Mutant) -> tuple[str, int, str]:
    """C1 to C10, R1 to R21, then what has no number."""
    letter, number = mutant.rule[:1], mutant.rule[1:]
    return (letter, int(number), mutant.name) if number.isdigit() else ("z", 0, mutant.name)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.sim.hunt",
        description="Hunts all deliberate bugs, and writes the table into docs/simulation.md.",
    )
    parser.add_argument(
        "--stale", action="store_true", help="only those that the history on the page does not catch any more"
    )
    stale = parser.parse_args().stale
    quiet()
    started, hunts = time.monotonic(), []
    for one in hunt_all(hunt_stale if stale else hunt_to_the_end):
        hunts.append(one)
        if sys.stderr.isatty():
            print(f"\r\033[K{len(hunts)} of {len(MUTANTS)}: {one.mutant}", end="", file=sys.stderr)
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{table(hunts)}\n{END}{after}")
    escaped = [one.mutant for one in hunts if not one.caught_by]
    print(
        f"\n{len(hunts)} mutants in {time.monotonic() - started:.0f} s; escaped: {', '.join(escaped) or 'none'}"
    )
    sys.exit(1 if escaped else 0)


if __name__ == "__main__":
    main()
