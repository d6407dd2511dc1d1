"""The times of all strikes: a pure function of the number of kills and a seed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from random import Random
from types import MappingProxyType
from typing import NamedTuple

REPLICAS = 3
"""Number of permanent replicas. One more is added and removed."""
BROKER, API, EXTRA = -1, -2, REPLICAS
"""Targets other than these replicas: the broker, the API, and the additional replica."""

STORM_SECONDS = 12.0
"""Seconds within which the strikes of a storm begin. Some last longer."""
STORM_KILLS_MAX = 5
STORM_OTHERS = 5
"""Number of strikes besides the kills in a storm: half of their kinds, so that two storms include all of them."""
MEASURE_EVERY = 20
"""Of this many kills, one is a measured takeover and one is a measured restart."""
SETTLE_SECONDS = 0.2
"""Seconds between the end of a strike and the next one on the same target. A replica may still be starting then."""


class Kind(StrEnum):
    KILL = "kill -9"
    TERM = "SIGTERM"
    ZOMBIE = "SIGSTOP for longer than the session timeout"
    REPLACE = "SIGSTOP, and replaced under the same name"
    FREEZE = "SIGSTOP"
    ADD = "one more replica"
    REMOVE = "one replica less"
    BROKER_KILL = "kill -9 of the broker"
    BROKER_FREEZE = "SIGSTOP of the broker"
    OUTAGE = "outage of the API"
    LOST_ANSWERS = "lost answers"


class Strike(NamedTuple):
    """A fault that begins `at` seconds after the start of its round and is healed `seconds` later."""

    at: float
    kind: Kind
    target: int
    """A replica's number, `EXTRA`, `BROKER` or `API`."""
    seconds: float


class Round(NamedTuple):
    strikes: Sequence[Strike]
    measured: bool
    """The round is a single kill -9, and the time is measured for which its partitions did not run."""


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
    """Rounds with `kills` kill -9 of replicas in total, and all other strikes between them.

    Equal arguments give equal rounds. `session_timeout`, in seconds, is that of the replicas: the duration of a zombie's
    sleep depends on it.
    """
    rng = Random(seed)
    measured = _measured(kills, session_timeout)
    storm_kills = kills - len(measured)
    storms = [
        _storm(rng, share, others, session_timeout)
        for share, others in zip(_shares(storm_kills), _others(rng), strict=False)
    ]
    # Measurements are spread evenly, so that they cover young and old journals.
    merged = [(index / len(storms), storm) for index, storm in enumerate(storms)] if storms else []
    merged += [((index + 0.5) / len(measured), one) for index, one in enumerate(measured)]
    return [one for _, one in sorted(merged, key=lambda pair: pair[0])]


def _measured(kills: int, session_timeout: float) -> list[Round]:
    """Alternately a kill after which the replica stays away, so that the others take over, and one with a restart at once."""
    count = kills if kills < 2 else 2 * max(1, kills // MEASURE_EVERY)
    away = 2 * session_timeout
    return [
        Round([Strike(0.0, Kind.KILL, index % REPLICAS, 0.0 if index % 2 else away)], measured=True)
        for index in range(min(count, kills))
    ]


def _shares(kills: int) -> list[int]:
    """The number of kills per storm: as few storms as possible, with about the same number each."""
    storms = math.ceil(kills / STORM_KILLS_MAX)
    return [(kills + index) // storms for index in range(storms)]


def _others(rng: Random) -> Iterator[list[Kind]]:
    """The kinds of strikes besides the kills for each storm, drawn from a bag that is refilled when it runs out."""
    bag: list[Kind] = []
    while True:
        if len(bag) < STORM_OTHERS:
            bag += rng.sample(OTHERS, len(OTHERS))
        yield bag[:STORM_OTHERS]
        del bag[:STORM_OTHERS]


def _storm(rng: Random, kills: int, others: Sequence[Kind], session_timeout: float) -> Round:
    """A storm. Each target has one strike at a time; strikes on different targets overlap at random."""
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
        case Kind.REPLACE:  # and thawed before the session timeout, or after it
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
