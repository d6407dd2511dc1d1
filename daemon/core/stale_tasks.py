"""Decides whether a task is newer than the submission that it answers (R14), and whether it is too old (R11).

The API creates one task from a body, and returns that task whenever the same body comes again. It compares body and
integration, so each integration has its own *floor*: the largest `created_at` that this shard has seen in a task of
the integration. A batch carries the floor that was known when it was sealed. An older task with the same bytes
contained the same courses in this shard and was seen before sealing, so its `created_at` is at or below that floor. A
task that was created for the batch is above it.

Only times of the API are compared. A wrong clock of the API can therefore set a floor ahead of the API's clock, and
every task created before that clock has passed the floor would look stale. So a batch whose floor is ahead of the
clock waits until the clock has passed it. A wrong clock of the API only delays changes; it makes none of them fail. It
delays only the integrations whose tasks got wrong times, because each integration has its own floor.
"""

from __future__ import annotations

from collections.abc import Mapping

from daemon.core.answers import TaskCompleted, TaskFailed, TaskPending
from daemon.core.journal import FORMAT, Floor, Position
from daemon.core.model import Now

DATE_RESOLUTION_MS = 1_000
"""The `Date` header has whole seconds (RFC 9110, 5.6.7), `created_at` has milliseconds. At the same moment,
`created_at` can be ahead by up to this much.
"""


API_FLOOR_TOLERANCE_MS = 300_000
"""Until an API time is known, the floor is the first start of the shard minus this (R14): tolerance for a host clock
that is ahead of the API's. `coursesyncd check` warns at a larger difference.
"""


def first_position(next_offset: int, topic_id: str, partitions: int, now: Now) -> Position:
    """The initial position of a shard that has no journal yet."""
    floor = now.wall - API_FLOOR_TOLERANCE_MS
    return Position(FORMAT, next_offset, topic_id, partitions, floor)


class ApiFloors:
    """`base` is the floor of an integration of which no task has been seen yet. It excludes tasks that were created
    before the shard started. It never changes.
    """

    def __init__(self, base: int) -> None:
        self._base = base
        self.floors: dict[str, Floor] = {}
        """By integration; each one is in the journal or in the next step."""
        self._clocks: dict[str, tuple[int, float]] = {}
        """The API's clock when last read, and the monotonic time of reading it."""

    def load(self, floors: Mapping[str, Floor], now: Now) -> None:
        """Load the floors from the journal. The API's clock is not known yet. The journal holds by how much a floor
        was ahead of it, and since when, so a restart does not end a wait.
        """
        for integration_id, floor in floors.items():
            self.floors[integration_id] = floor
            if floor.seen_at is not None:
                self._clocks[integration_id] = (floor.created_at - _ahead_by_journal(floor, now), now.mono)

    def floor(self, integration_id: str) -> int:
        """The floor in API time, ms. Tasks created up to it are older than a batch that is sealed now."""
        own = self.floors.get(integration_id)
        return self._base if own is None else max(self._base, own.created_at)

    def saw_date(self, integration_id: str, date: int | None, now: Now) -> Floor | None:
        """The `Date` of an answer which shows that the API serves this integration. Returns the floor to journal if, by the
        journal, a restart would wait less: the API's clock was set back.
        """
        if date is None:
            return None
        self._clocks[integration_id] = (date, now.mono)
        own = self.floors.get(integration_id)
        ahead = None if own is None else self._ahead(integration_id, own.created_at, now)
        if own is None or ahead is None or ahead <= _ahead_by_journal(own, now) + DATE_RESOLUTION_MS:
            return None
        self.floors[integration_id] = Floor(own.created_at, ahead, now.wall)
        return self.floors[integration_id]

    def saw_task(
        self, integration_id: str, answer: TaskPending | TaskCompleted | TaskFailed, now: Now
    ) -> Floor | None:
        """Record the times of a task. Returns the floor to journal if they change it."""
        set_back = self.saw_date(integration_id, answer.api_time, now)
        if answer.created_at <= self.floor(integration_id):
            return set_back
        ahead = self._ahead(integration_id, answer.created_at, now)
        raised = Floor(answer.created_at) if ahead is None else Floor(answer.created_at, ahead, now.wall)
        self.floors[integration_id] = raised
        return raised

    def delay(self, integration_id: str, floor: int, now: Now) -> float:
        """Seconds until a batch with this floor may be submitted; 0 if the API's clock has passed the floor, or is
        not known.
        """
        ahead = self._ahead(integration_id, floor, now)
        return 0.0 if ahead is None else ahead / 1000

    def _ahead(self, integration_id: str, floor: int, now: Now) -> int | None:
        """Milliseconds by which the floor is ahead of the API's clock; None if it is not ahead, or if the clock is
        not known.
        """
        read = self._clocks.get(integration_id)
        if read is None:
            return None
        date, at = read
        clock = date + int((now.mono - at) * 1000)
        return floor - clock if floor > clock + DATE_RESOLUTION_MS else None


def _ahead_by_journal(floor: Floor, now: Now) -> int:
    """Milliseconds by which the floor is still ahead of the API's clock, as far as its record says. A clock of this host that
    was set back does not make a wait longer.
    """
    if floor.seen_at is None:
        return 0
    return max(0, floor.ahead_ms - max(0, now.wall - floor.seen_at))


def is_stale(api_floor: int, created_at: int) -> bool:
    """R14: a task is fresh if the API created it after every task that was known when the batch was sealed."""
    return created_at <= api_floor


def has_outlived(limit: float, created_at: int, api_time: int | None, accepted_for: float) -> bool:
    """R11: whether a task that is still pending is older than `limit` seconds, both by the API's clock and by ours.
    Neither a wrong `Date` nor a wrong clock of this host is sufficient.

    `accepted_for`: seconds since the answer to the POST arrived. The API created the task before that, so the task is
    at least as old, regardless of its own times.
    """
    return api_time is not None and api_time - created_at > limit * 1000 and accepted_for > limit
