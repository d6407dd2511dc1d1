"""Which strikes come when: a pure function of the number of kills and a seed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from random import Random
from types import MappingProxyType
from typing import NamedTuple

REPLICAS = 3
"""That always are; one more comes and goes."""
BROKER, API, EXTRA = -1, -2, REPLICAS
"""Targets that are none of these replicas: the broker, the API, and the replica that comes and goes."""

STORM_SECONDS = 12.0
"""In which the strikes of a storm begin; some last longer."""
STORM_KILLS_MAX = 5
STORM_OTHERS = 5
"""Strikes beside the kills in a storm: half of their kinds, so that two storms have them all."""
MEASURE_EVERY = 20
"""Of so many kills one is a take-over that is measured, and one a restart that is measured."""
SETTLE_SECONDS = 0.2
"""Between the end of a strike and the next one on the same target; a replica may still be starting."""


class Kind(StrEnum):
    KILL = "kill -9"
    TERM = "SIGTERM"
    ZOMBIE = "SIGSTOP for longer than the session time-out"
    REPLACE = "SIGSTOP, and replaced under the same name"
    FREEZE = "SIGSTOP"
    ADD = "one more replica"
    REMOVE = "one replica less"
    BROKER_KILL = "kill -9 of the broker"
    BROKER_FREEZE = "SIGSTOP of the broker"
    OUTAGE = "outage of the API"
    LOST_ANSWERS = "lost answers"


class Strike(NamedTuple):
    """Something goes wrong `at` seconds after its round began, and is healed `seconds` later."""

    at: float
    kind: Kind
    target: int
    """A replica's number, `EXTRA`, `BROKER` or `API`."""
    seconds: float


class Round(NamedTuple):
    strikes: Sequence[Strike]
    measured: bool
    """A single kill -9 of which is measured how long its partitions did not run."""


OTHERS = tuple(kind for kind in Kind if kind is not Kind.KILL)

_FIXED_TARGETS: Mapping[Kind, int] = MappingProxyType(
    {
        Kind.ADD: EXTRA,
        Kind.BROKER_KILL: BROKER,
        Kind.BROKER_FREEZE: BROKER,
        Kind.OUTAGE: API,
        Kind.LOST_ANSWERS: API,
    }
)


def rounds(kills: int, seed: int, session_timeout: float) -> list[Round]:
    """Rounds with so many kill -9 of replicas in all, and everything else between them.

    Equal arguments give equal rounds. `session_timeout` in seconds is the one that replicas run with: how
    long a zombie sleeps depends on it.
    """
    rng = Random(seed)
    measured = _measured(kills, session_timeout)
    storm_kills = kills - len(measured)
    storms = [
        _storm(rng, share, others, session_timeout)
        for share, others in zip(_shares(storm_kills), _others(rng), strict=False)
    ]
    # Measurements are spread evenly: they are to see young journals and old ones.
    merged = [(index / len(storms), storm) for index, storm in enumerate(storms)] if storms else []
    merged += [((index + 0.5) / len(measured), one) for index, one in enumerate(measured)]
    return [one for _, one in sorted(merged, key=lambda pair: pair[0])]


def _measured(kills: int, session_timeout: float) -> list[Round]:
    """In turns: one that stays away, so that the others take over, and one that is back at once."""
    count = kills if kills < 2 else 2 * max(1, kills // MEASURE_EVERY)
    away = 2 * session_timeout
    return [
        Round([Strike(0.0, Kind.KILL, index % REPLICAS, 0.0 if index % 2 else away)], measured=True)
        for index in range(min(count, kills))
    ]


def _shares(kills: int) -> list[int]:
    """As many storms as it takes, with about as many kills each."""
    storms = math.ceil(kills / STORM_KILLS_MAX)
    return [(kills + index) // storms for index in range(storms)]


def _others(rng: Random) -> Iterator[list[Kind]]:
    """The kinds of strikes beside the kills for each storm, from a bag that is filled again when it is empty."""
    bag: list[Kind] = []
    while True:
        if len(bag) < STORM_OTHERS:
            bag += rng.sample(OTHERS, len(OTHERS))
        yield bag[:STORM_OTHERS]
        del bag[:STORM_OTHERS]


def _storm(rng: Random, kills: int, others: Sequence[Kind], session_timeout: float) -> Round:
    """Each target bears one strike at a time; different ones overlap as chance has it."""
    kinds = [Kind.KILL] * kills + list(others)
    wishes = sorted((rng.uniform(0.0, STORM_SECONDS), kind) for kind in kinds)
    free_at: dict[int, float] = {}
    strikes = []
    for wish, kind in wishes:
        seconds = _seconds(rng, kind, session_timeout)
        target = _FIXED_TARGETS.get(kind)
        if target is None:
            idle = [t for t in range(REPLICAS) if free_at.get(t, 0.0) <= wish]
            target = rng.choice(idle) if idle else min(range(REPLICAS), key=lambda t: free_at[t])
        at = max(wish, free_at.get(target, 0.0))
        free_at[target] = at + seconds + SETTLE_SECONDS
        strikes.append(Strike(at, kind, target, seconds))
    return Round(sorted(strikes), measured=False)


def _seconds(rng: Random, kind: Kind, session_timeout: float) -> float:
    match kind:
        case Kind.KILL if rng.random() < 0.8:
            return rng.uniform(0.0, 2.0)
        case Kind.KILL | Kind.REMOVE | Kind.ZOMBIE:  # the others take over
            return session_timeout + rng.uniform(0.5, 4.0)
        case Kind.TERM:
            return rng.uniform(0.0, 3.0)
        case Kind.REPLACE:  # and thawed before the session time-out, or after it
            return session_timeout + (
                rng.uniform(-3.0, -0.5) if rng.random() < 0.5 else rng.uniform(0.5, 4.0)
            )
        case Kind.FREEZE:
            return rng.uniform(0.1, 0.8 * session_timeout)
        case Kind.ADD:
            return rng.uniform(3.0, 9.0)
        case Kind.BROKER_KILL:
            return rng.uniform(0.0, 3.0)
        case Kind.BROKER_FREEZE:
            return rng.uniform(0.2, 1.3 * session_timeout)
        case Kind.OUTAGE | Kind.LOST_ANSWERS:
            return rng.uniform(1.0, 5.0)
