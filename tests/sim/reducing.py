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
NEVER_OFF = ("latency_max", "service_max")


@dataclass(frozen=True)
class Without:
    names: frozenset[str] = frozenset()
    changes: int | None = None
    """Only so many of the changes, in the order in which they are drawn."""
    skip: int = 0
    """Of these, not the first ones."""

    def arguments(self) -> str:
        """As on the command line."""
        parts = [f"--without {','.join(sorted(self.names))}"] if self.names else []
        parts += [] if self.changes is None else [f"--changes {self.changes}"]
        return " ".join(parts + ([f"--skip {self.skip}"] if self.skip else []))


NOTHING = Without()


def switches(parameters: Parameters) -> Iterator[str]:
    """The names of everything that can be switched off in this history and is on."""
    yield from (f.name for f in dataclasses.fields(parameters.strikes) if getattr(parameters.strikes, f.name))
    for part in (parameters.log_faults, parameters.network_faults):
        for entry in dataclasses.fields(part):
            if entry.name not in NEVER_OFF and getattr(part, entry.name):
                yield entry.name
    yield from (f"rule:{index}" for index in range(len(parameters.plan.rules)))
    if parameters.deploy is not None:
        yield "deploy"
    if parameters.decisions:
        yield "decisions"
    if parameters.repetitions:
        yield "repetitions"
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
        deploy=None if "deploy" in names else parameters.deploy,
        decisions=0 if "decisions" in names else parameters.decisions,
        repetitions=0 if "repetitions" in names else parameters.repetitions,
        replicas=1 if "replicas" in names else parameters.replicas,
        partitions=1 if "partitions" in names else parameters.partitions,
        changes=parameters.changes if without.changes is None else min(without.changes, parameters.changes),
        skipped=without.skip,
    )


def _off(part: Part, names: frozenset[str]) -> Part:
    mine = {f.name: type(getattr(part, f.name))(0) for f in dataclasses.fields(part) if f.name in names}
    return dataclasses.replace(part, **mine)


def shrink(parameters: Parameters, fails: Callable[[Without], bool]) -> Without:
    """The least that still fails, as far as greed finds it. `fails` runs the history."""
    smallest = _fewer_changes(parameters.changes, NOTHING, fails)
    for name in list(switches(parameters)):
        without = dataclasses.replace(smallest, names=smallest.names | {name})
        if fails(without):
            smallest = without
    return _fewer_changes(smallest.changes or parameters.changes, smallest, fails)


def _fewer_changes(changes: int, smallest: Without, fails: Callable[[Without], bool]) -> Without:
    """Drop changes from the end, then from the beginning, in steps that become smaller."""
    for field in ("changes", "skip"):
        step = changes // 2
        while step:
            kept = smallest.changes if smallest.changes is not None else changes
            at = kept - step if field == "changes" else smallest.skip + step
            fewer = (
                dataclasses.replace(smallest, changes=at)
                if field == "changes"
                else dataclasses.replace(smallest, skip=at)
            )
            if smallest.skip < at <= kept and fails(fewer):
                smallest = fewer
            else:
                step //= 2
    return smallest
