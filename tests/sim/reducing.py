"""A failing history with less in it: faults are switched off one by one while it still fails.

Every switch has a name, so that a report can say how to run the smaller history again:
``python -m tests.sim --only SEED --without pauses,commit_late,rule:3 --changes 12``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from tests.sim.parameters import Parameters

Part = TypeVar("Part", bound=Any)
NEVER_OFF = ("latency_max",)


@dataclass(frozen=True)
class Without:
    names: frozenset[str] = frozenset()
    changes: int | None = None
    """Only so many of the changes, the first ones drawn."""

    def arguments(self) -> str:
        """As on the command line."""
        parts = [f"--without {','.join(sorted(self.names))}"] if self.names else []
        return " ".join(parts + ([] if self.changes is None else [f"--changes {self.changes}"]))


NOTHING = Without()


def switches(parameters: Parameters) -> Iterator[str]:
    """The names of everything that can be switched off in this history and is on."""
    yield from (f.name for f in dataclasses.fields(parameters.strikes) if getattr(parameters.strikes, f.name))
    for part in (parameters.log_faults, parameters.network_faults):
        for entry in dataclasses.fields(part):
            if entry.name not in NEVER_OFF and getattr(part, entry.name):
                yield entry.name
    yield from (f"rule:{index}" for index in range(len(parameters.plan.rules)))
    if parameters.replicas > 1:
        yield "replicas"
    if parameters.partitions > 1:
        yield "partitions"


def reduce(parameters: Parameters, without: Without) -> Parameters:
    names = without.names
    rules = tuple(r for i, r in enumerate(parameters.plan.rules) if f"rule:{i}" not in names)
    return dataclasses.replace(
        parameters,
        strikes=_off(parameters.strikes, names),
        log_faults=_off(parameters.log_faults, names),
        network_faults=_off(parameters.network_faults, names),
        plan=msgspec.structs.replace(parameters.plan, rules=rules),
        replicas=1 if "replicas" in names else parameters.replicas,
        partitions=1 if "partitions" in names else parameters.partitions,
        changes=parameters.changes if without.changes is None else min(without.changes, parameters.changes),
    )


def _off(part: Part, names: frozenset[str]) -> Part:
    mine = {f.name: type(getattr(part, f.name))(0) for f in dataclasses.fields(part) if f.name in names}
    return dataclasses.replace(part, **mine)


def shrink(parameters: Parameters, fails: Callable[[Without], bool]) -> Without:
    """The least that still fails, as far as greed finds it. `fails` runs the history."""
    smallest = NOTHING
    changes = parameters.changes
    while changes > 1:
        fewer = dataclasses.replace(smallest, changes=changes // 2)
        if not fails(fewer):
            break
        smallest, changes = fewer, changes // 2
    for name in list(switches(parameters)):
        without = dataclasses.replace(smallest, names=smallest.names | {name})
        if fails(without):
            smallest = without
    for fewer_changes in range(changes - 1, 0, -1):
        fewer = dataclasses.replace(smallest, changes=fewer_changes)
        if not fails(fewer):
            break
        smallest = fewer
    return smallest
