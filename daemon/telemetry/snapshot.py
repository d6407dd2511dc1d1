"""What the runtime holds at one moment, in figures: asked for at each scrape, never kept.

Gauges are read from here instead of being counted up and down beside the state that they describe: so
they can not drift from it, and what goes away (a revoked partition) is gone at the next scrape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from daemon.core.waiting import WaitReason, Waits


@dataclass(frozen=True, slots=True)
class Lag:
    """How far the reading of one input partition has come; None where it is not known yet."""

    records: int | None
    last_record_ms: int | None
    """The log's time of the record that was consumed last."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Times are milliseconds since the epoch. Taken in the event loop, in one go."""

    now_ms: int
    pending_created_ms: Iterable[int]
    """For each task that is accepted and not known to have ended, in any order: when the API created
    it, or as long as no poll has told that, when it was accepted. Read once: a generator will do."""
    pending_tasks_max: int
    """Of all partitions that run here together."""
    pending_items: int
    waiting: Mapping[WaitReason, Waits]
    """Changes held back, and when the oldest was consumed; a reason that is missing has none."""
    blind_tasks: int
    blind_since_ms: int | None
    """Since when the task that has been blind longest has been so."""
    http_in_flight: Mapping[str, int]
    """Calls under way, by `Endpoint`."""
    integrations: Mapping[str, int]
    """How many of those that were sent to lately, or are not well, are in which `IntegrationState`."""
    commit_since_ms: int | None
    """When the oldest commit that is still under way began."""
    paused: int
    """Partitions whose input stands still at a limit."""
    restore_remaining: int
    """Journal records that are still to be read, over all partitions that are being restored."""
    imbalance: Mapping[int, int]
    """By input partition, of those that run: changes that are lost, or, if negative, ends too many."""
    topic_partitions: int | None
    lag: Mapping[int, Lag]
    """By input partition; only those that are held."""


SnapshotProvider = Callable[[], Snapshot]


def nothing_yet() -> Snapshot:
    """Before there is a runtime to ask."""
    return Snapshot(
        now_ms=0,
        pending_created_ms=(),
        pending_tasks_max=0,
        pending_items=0,
        waiting={},
        blind_tasks=0,
        blind_since_ms=None,
        http_in_flight={},
        integrations={},
        commit_since_ms=None,
        paused=0,
        restore_remaining=0,
        imbalance={},
        topic_partitions=None,
        lag={},
    )
