"""The contents of the runtime at one moment, in numbers. A snapshot is taken at each scrape and not stored.

Gauges are read from a snapshot instead of being counted up and down beside the state that they describe. So they cannot
drift from that state, and a revoked partition disappears at the next scrape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from daemon.core.breaker import IntegrationState
from daemon.core.waiting import WaitReason, Waits
from daemon.telemetry.labels import HALTED, INTEGRATION_STATES


@dataclass(frozen=True, slots=True)
class Lag:
    """How far one input partition has been read. A value is None if it is not known yet."""

    records: int | None
    last_record_ms: int | None
    """The log's timestamp of the last record that was consumed."""


@dataclass(frozen=True, slots=True)
class BackOff:
    """The integrations that back off in one state for one reason, without their ids."""

    state: IntegrationState
    reason: str
    """The API's code, the HTTP status of an answer without one, or why there was no answer."""
    integrations: int
    first_until_ms: int | None
    """When the first and the last of these back-offs end. None if the integrations are being probed."""
    last_until_ms: int | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Taken in the event loop, in one uninterrupted call. Times are milliseconds since the epoch."""

    now_ms: int
    pending_created_ms: Iterable[int]
    """For each task that is accepted and not known to have ended, in any order: when the API created it or, until a poll has
    returned that time, when it was accepted. It is read only once, so a generator is sufficient."""
    pending_timeout_ratio: float
    """The age of such a task divided by its own time-out: the largest of all."""
    pending_tasks_max: int
    """The sum over all partitions that run here."""
    pending_items: int
    waiting: Mapping[WaitReason, Waits]
    """Changes held back, and when the oldest one was consumed. A missing reason has none."""
    blind_tasks: int
    blind_since_ms: int | None
    """When the task that has been blind longest became blind."""
    http_in_flight: Mapping[str, int]
    """Calls in flight, by `Endpoint`."""
    integrations: Mapping[str, int]
    """Number of integrations in each `IntegrationState`, among those that were sent to recently or are not healthy. This is
    what `Flow` knows; `integrations_by_state` is for people."""
    back_offs: Sequence[BackOff]
    """Those that end last come first."""
    commit_since_ms: int | None
    """When the oldest commit that is still running began."""
    paused: int
    """Number of partitions whose input is paused at a limit."""
    stopped: int
    """Number of partitions whose reading has stopped because too many records were rejected."""
    restore_remaining: int
    """Number of journal records that still have to be read, over all partitions that are being restored."""
    known_courses: int
    """Number of courses whose known state is in memory."""
    courses_loading: int
    """Number of partitions whose known courses are being loaded."""
    pauses: int
    """Number of pauses by operators that hold, each of an integration or a pattern."""
    control_read_ms: int | None
    """When the control topic was last read to its end; None if it was not."""
    imbalance: Mapping[int, int]
    """By input partition, of those that run: number of lost changes; negative if changes ended more than once."""
    topic_partitions: int | None
    lag: Mapping[int, Lag]
    """By input partition, of those that are held."""

    def integrations_by_state(self, *, halted: bool) -> dict[str, int]:
        """By `INTEGRATION_STATES`. `halted` is whether the process is."""
        found = {state: self.integrations.get(state, 0) for state in INTEGRATION_STATES}
        if halted:
            found[HALTED], found[IntegrationState.HEALTHY] = found[IntegrationState.HEALTHY], 0
        return found


SnapshotProvider = Callable[[], Snapshot]


def nothing_yet() -> Snapshot:
    """The snapshot before the runtime exists."""
    return Snapshot(
        now_ms=0,
        pending_created_ms=(),
        pending_timeout_ratio=0.0,
        pending_tasks_max=0,
        pending_items=0,
        waiting={},
        blind_tasks=0,
        blind_since_ms=None,
        http_in_flight={},
        integrations={},
        back_offs=(),
        commit_since_ms=None,
        paused=0,
        stopped=0,
        restore_remaining=0,
        known_courses=0,
        courses_loading=0,
        pauses=0,
        control_read_ms=None,
        imbalance={},
        topic_partitions=None,
        lag={},
    )
