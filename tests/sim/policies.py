"""Settings of single integrations in a history: which tables there are, when they change, and which values count.

The values are found in the plainest way and by nothing of the daemon: of all tables that name a setting and match the id,
the exact one, or else the one with the longest name. Each process reads changed tables at a time of its own. What it has
decided just before is seen a moment later, so for that moment the earlier values may count as well.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from daemon.config import PolicyTable, Settings
from tests.sim.seen import Who

LAG_MAX = 4.0
"""Virtual seconds from a decision to the commit, call or poll by which it is seen."""
NOTICED_MAX = 5.0
"""Virtual seconds until a process has read changed tables."""

Tables = tuple[PolicyTable, ...]


@dataclass(frozen=True)
class Plan:
    tables: Tables = ()
    changed: Tables | None = None
    """What they are later. None: they stay."""
    at: float = 0.0
    """When they change, in virtual seconds."""


NO_PLAN = Plan()


def draw_plan(rng: random.Random, integrations: Sequence[str], duration: float, watched: float) -> Plan:
    """`watched`: no task applies anything later, and no combination of tables ends a watch earlier."""
    first = _tables(rng, integrations, watched)
    changed = _tables(rng, integrations, watched) if rng.random() < 0.8 else None
    return Plan(first, changed, rng.uniform(0.2, 0.8) * duration)


def _tables(rng: random.Random, integrations: Sequence[str], watched: float) -> Tables:
    names = list(integrations)
    for id_ in integrations:
        names += [f"{id_}*", f"{id_[:-1]}*", f"{id_[:2]}*"]
    names = [name for name in dict.fromkeys(names) if name != "*"]
    shortest = 4.0
    possible: Mapping[str, tuple[Any, ...]] = {
        "batch.items_max": (1, 2, 5),
        "batch.bytes_max": (700, 512 * 1024),
        "window.batches_max": (1, 2, 4),
        "http.requests_per_second_max": (1.0, 2.0, 5.0),
        "poll.first_after": (0.1, 1.0),
        "poll.interval_max": (1.0, 3.0),
        "task.timeout": (shortest, 7.0, 10.0),
        "task.watch_after_timeout": (watched - shortest, watched),
        "retry.backoff_min": (0.1, 0.5, 1.5),
        "retry.attempts_max": (1, 2, 4),
        "wait.age_max": (5.0, 8.0),
        "unchanged.trust_for": (0.0, 3.0, 604_800.0),
    }
    chosen = rng.sample(names, rng.randint(1, min(5, len(names))))
    tables = []
    for name in chosen:
        values = {key: rng.choice(choice) for key, choice in possible.items() if rng.random() < 0.4}
        if "task.timeout" in values:
            # The common watch is as long as the common time-out needs: too short after a shorter one.
            values.setdefault("task.watch_after_timeout", watched - shortest)
        tables.append(PolicyTable(name, values))
    return tuple(tables)


class InForce:
    """Which values count for an integration in each process, and which ever did."""

    def __init__(self, settings: Settings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._used: defaultdict[Who, list[tuple[float, Tables]]] = defaultdict(list)

    def used(self, who: Who, tables: Tables) -> None:
        """From now on this process uses these tables."""
        self._used[who].append((self._clock(), tables))

    def values(self, who: Who, integration_id: str, setting: str) -> list[Any]:
        """Those of which each may be the reason of what is seen of this process now."""
        now, found = self._clock(), []
        history = self._used[who]
        for (_, tables), until in zip(history, [*(at for at, _ in history[1:]), now], strict=True):
            if until >= now - LAG_MAX:
                found.append(self._value(tables, integration_id, setting))
        return found

    def ever(self, integration_id: str, *settings: str) -> list[tuple[Any, ...]]:
        """The values of these settings, together, in each state that any process has used up to now."""
        states = {id(tables): tables for history in self._used.values() for _, tables in history}
        return [
            tuple(self._value(tables, integration_id, setting) for setting in settings)
            for tables in (states or {0: ()}).values()
        ]

    def _value(self, tables: Tables, integration_id: str, setting: str) -> Any:
        named = [table for table in tables if setting in table.values]
        exact = [table for table in named if table.name == integration_id]
        patterns = [t for t in named if t.name[-1] == "*" and integration_id.startswith(t.name[:-1])]
        best = exact or sorted(patterns, key=lambda table: -len(table.name))
        if best:
            return best[0].values[setting]
        group, _, attribute = setting.partition(".")
        if setting == "http.requests_per_second_max":
            return None  # the common one is over all integrations
        return getattr(getattr(self._settings, group), attribute)
