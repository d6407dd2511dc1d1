"""How long partitions were unread, and how long results took, by the phase in which a change was published. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

Source = tuple[int, int]
"""Partition and offset of a change in the input."""


@dataclass(frozen=True)
class Ending:
    """Of a change. Both in milliseconds since the epoch."""

    consumed_at: int
    resolved_at: int


@dataclass
class Phase:
    name: str
    began_at: int
    """Milliseconds since the epoch. It lasts until the next one begins."""
    notes: list[str] = field(default_factory=list)
    """What was measured in it besides."""


@dataclass(frozen=True)
class Row:
    name: str
    seconds: float
    changes: int
    unread: float
    """Seconds, the longest from the publication of a change until a replica read it."""
    slowest: float
    """Seconds, the longest from the publication of a change until its result."""
    notes: Sequence[str]


def rows(
    phases: Sequence[Phase],
    ended_at: int,
    published: Iterable[tuple[Source, int]],
    endings: dict[Source, Ending],
) -> list[Row]:
    """A row for each phase. `published` has all changes and when they were; those without an ending are not counted here,
    because the checker reports them. The phases are in their order, and the last ends at `ended_at`.
    """
    ends = [*(phase.began_at for phase in phases[1:]), ended_at]
    changes = [0] * len(phases)
    unread, slowest = [0] * len(phases), [0] * len(phases)
    for source, at in published:
        index = sum(phase.began_at <= at for phase in phases) - 1
        if index < 0 or (ending := endings.get(source)) is None:
            continue
        changes[index] += 1
        unread[index] = max(unread[index], ending.consumed_at - at)
        slowest[index] = max(slowest[index], ending.resolved_at - at)
    return [
        Row(
            phase.name,
            (end - phase.began_at) / 1000,
            changes[index],
            unread[index] / 1000,
            slowest[index] / 1000,
            phase.notes,
        )
        for index, (phase, end) in enumerate(zip(phases, ends, strict=True))
    ]
