"""What the results topic says: results a minute, the last errors of each integration, and where each result is."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from datetime import datetime
from typing import NamedTuple

import msgspec

from daemon.codec.result import SyncResult
from daemon.console.packed import ERROR_MESSAGE_MAX
from daemon.console.records import Location, RecordIndex
from daemon.core.model import Status

MINUTE = 60_000
KEPT_MINUTES = 24 * 60
"""How long results a minute are kept."""
RESULTS_MAX = 500_000
"""Results that can be found by an id: 24 MB."""
ERRORS_KEPT = 10
"""Last errors of one integration."""
INTEGRATIONS_MAX = 20_000
"""Integrations whose last results are kept. Ids come from outside, so their number has no other limit."""

CORRECTED = "course.sync.corrected"
COLUMNS = ("course", "origin", "change", "batch", "task")
OURS = "COURSESYNC."
"""How the error codes begin that are not the API's."""
_BAD = (Status.FAILED, Status.TIMED_OUT, Status.REJECTED)


class ResultEvent(msgspec.Struct):
    """A record of the results topic."""

    type: str
    data: SyncResult

    @property
    def is_correction(self) -> bool:
        return self.type == CORRECTED


decode_result = msgspec.json.Decoder(ResultEvent).decode
"""Raises msgspec.MsgspecError, UnicodeDecodeError or RecursionError for what is not a result."""


class LastError(NamedTuple):
    resolved_at: int
    status: Status
    origin_id: str | None
    code: str | None
    message: str


class LastResults:
    """Of one integration."""

    def __init__(self) -> None:
        self.last_at = 0
        """Wall clock of the daemon, ms."""
        self.failed_in_a_row = 0
        """Changes that the API has refused since it took one. Rejected records and what we end ourselves, such as changes that
        were given up, say nothing about the integration."""
        self.errors: deque[LastError] = deque(maxlen=ERRORS_KEPT)


class Results:
    def __init__(self, records_max: int = RESULTS_MAX) -> None:
        self.index = RecordIndex(COLUMNS, records_max)
        self.minutes: dict[int, Counter[Status]] = {}
        """By the minute in which they were resolved. Corrections do not count."""
        self.integrations: OrderedDict[str, LastResults] = OrderedDict()
        """The one with the newest result last."""
        self.not_results = 0

    def apply(self, location: Location, value: bytes | None) -> None:
        try:
            event = decode_result(value or b"")
            resolved_at = _ms(event.data.resolved_at)
        except (ValueError, RecursionError):  # msgspec's errors and those of text are ValueErrors
            self.not_results += 1
            return
        data = event.data
        course = None if data.origin_id is None else (data.integration_id, data.origin_id)
        self.index.add(location, (course, data.origin_id, data.change_id, data.batch_id, data.task_id))
        if not event.is_correction:
            self._count(resolved_at // MINUTE, data.status)
        if data.integration_id is not None:
            self._note(data.integration_id, resolved_at, data)

    def _count(self, minute: int, status: Status) -> None:
        counted = self.minutes.get(minute)
        if counted is None:
            if len(self.minutes) >= KEPT_MINUTES and minute < min(self.minutes):
                return
            counted = self.minutes[minute] = Counter()
            while len(self.minutes) > KEPT_MINUTES:
                del self.minutes[min(self.minutes)]
        counted[status] += 1

    def _note(self, integration_id: str, resolved_at: int, data: SyncResult) -> None:
        last = self.integrations.get(integration_id)
        if last is None:
            last = self.integrations[integration_id] = LastResults()
            if len(self.integrations) > INTEGRATIONS_MAX:
                self.integrations.popitem(last=False)
        else:
            self.integrations.move_to_end(integration_id)
        last.last_at = max(last.last_at, resolved_at)
        if data.status is Status.SUCCEEDED:
            last.failed_in_a_row = 0
        elif data.status in _BAD and data.error is not None:
            message = data.error.message[:ERROR_MESSAGE_MAX]
            last.errors.append(LastError(resolved_at, data.status, data.origin_id, data.error.code, message))
            if data.status is Status.FAILED and not (data.error.code or "").startswith(OURS):
                last.failed_in_a_row += 1


def _ms(time: str) -> int:
    return round(datetime.fromisoformat(time).timestamp() * 1000)
