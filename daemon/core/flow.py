"""Which request may go out next: one for the whole process, over all shards.

Submissions queue per integration and are served round robin, so that a slow, throttled or parked
integration delays no other one. An integration that is refused or not answered stands back, longer each
time, and comes back with one probing request. Submissions and polls each have a share of all requests in
flight; what one of them leaves idle the other may borrow until it is wanted back, so that a flood of
submissions never makes finished tasks wait, nor the other way round.

Nothing here is durable, and nothing here knows what a submission is: a `ref` is the caller's.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from daemon.config import Settings
from daemon.core.model import Error
from daemon.core.schedule import Schedule
from daemon.core.verdict import Verdict

Ref = TypeVar("Ref")

DOUBLINGS_MAX = 30
"""Beyond it every wait is at its maximum; keeps the power of two a sane number."""


@dataclass(slots=True)
class Integration(Generic[Ref]):
    """What the process knows of one integration right now."""

    queue: deque[Ref] = field(default_factory=deque)
    delayed: int = 0
    """Submissions that each wait for a time of their own."""
    in_flight: int = 0
    strikes: int = 0
    """How often in a row it had to stand back."""
    parked: bool = False
    blocked_until: float | None = None
    listed: bool = False
    """Stands in the round."""

    def limit(self, most: int) -> int:
        """How many submissions may be in flight: one probe while it is not known to be well again."""
        return 1 if self.strikes or self.parked else most

    def strike(self) -> int:
        """It has to stand back; returns how often in a row it had before. What was under way together is
        refused together, and counts once.
        """
        if self.blocked_until is None or not self.strikes:
            self.strikes += 1
        return min(self.strikes - 1, DOUBLINGS_MAX)


class Flow(Generic[Ref]):
    """All times are monotonic seconds. `rng` draws jitter, nothing else."""

    def __init__(self, settings: Settings, rng: random.Random) -> None:
        http = settings.http
        self._settings = settings
        self._rng = rng
        self._in_flight_max = http.in_flight_max
        self._submissions_max = max(1, int(http.in_flight_max * (1 - http.poll_share)))
        self._polls_min = http.in_flight_max - self._submissions_max
        self._integrations: dict[str, Integration[Ref]] = {}
        self._round: deque[str] = deque()
        self._blocked: Schedule[str] = Schedule()
        self._delayed: list[tuple[float, int, str, Ref]] = []
        self._sequence = 0
        self._submissions = 0
        self._polls = 0
        self.halted: Error | None = None
        self._probe_at = 0.0

    # --- submissions ------------------------------------------------------------------------------

    def offer(self, integration_id: str, ref: Ref, not_before: float | None = None) -> None:
        """Queue a submission; `not_before` holds back this one alone."""
        state = self._integrations.setdefault(integration_id, Integration())
        if not_before is not None:
            self._sequence += 1
            state.delayed += 1
            heapq.heappush(self._delayed, (not_before, self._sequence, integration_id, ref))
            return
        state.queue.append(ref)
        self._list(integration_id, state)

    def next_submission(self, now: float) -> tuple[str, Ref] | None:
        """Take the next submission that may go out now; it counts as in flight until
        `submission_done`.
        """
        self._wake(now)
        if not self._round or not self._submissions_have_room or not self._may_start(now):
            return None
        integration_id = self._round.popleft()
        state = self._integrations[integration_id]
        state.listed = False
        ref = state.queue.popleft()
        state.in_flight += 1
        self._submissions += 1
        self._list(integration_id, state)
        return integration_id, ref

    def submission_done(
        self, integration_id: str, verdict: Verdict | None, now: float, retry_after: float | None = None
    ) -> float:
        """A submission has come back. `RETRY` and `PARK` make the integration stand back, `None`
        (accepted, or not sent at all) and what ended the batch by its content show it well.

        Returns when the next submission of this integration may go out.
        """
        state = self._integrations[integration_id]
        state.in_flight -= 1
        self._submissions -= 1
        match verdict:
            case Verdict.RETRY:
                self._block(integration_id, now + self._retry_delay(state, retry_after))
            case Verdict.PARK:
                self.park(integration_id, now)
            case Verdict.HALT:
                pass
            case _:
                state.strikes, state.parked = 0, False
        self._list(integration_id, state)
        return state.blocked_until if state.blocked_until is not None else now

    def stands_back(self, integration_id: str, now: float) -> bool:
        """Whether its next submission has to wait: also one that was taken before the answer that says so."""
        until = self._integrations[integration_id].blocked_until
        return until is not None and until > now

    def released(self, integration_id: str) -> None:
        """A submission that was taken was not sent: its shard is gone or had no lease."""
        state = self._integrations[integration_id]
        state.in_flight -= 1
        self._submissions -= 1
        self._list(integration_id, state)

    def drop(self, keep: Callable[[Ref], bool]) -> None:
        """Forget the queued submissions that are not to be kept."""
        kept = []
        for entry in self._delayed:
            if keep(entry[3]):
                kept.append(entry)
            else:
                self._integrations[entry[2]].delayed -= 1
        heapq.heapify(kept)
        self._delayed = kept
        for integration_id, state in list(self._integrations.items()):
            state.queue = deque(ref for ref in state.queue if keep(ref))
            if not state.queue and state.listed:
                state.listed = False
                self._round.remove(integration_id)
            self._list(integration_id, state)

    def park(self, integration_id: str, now: float) -> None:
        """The integration waits for its customer; it is probed ever more slowly."""
        state = self._integrations.setdefault(integration_id, Integration())
        park = self._settings.park
        if not state.parked:
            state.parked, state.strikes = True, 0
        delay = min(park.probe_max, park.probe_min * 2.0 ** state.strike())
        self._block(integration_id, now + delay * (0.9 + 0.2 * self._rng.random()))

    def _retry_delay(self, state: Integration[Ref], retry_after: float | None) -> float:
        """Full jitter between nothing and an exponential bound; never less than the server asked for."""
        retry = self._settings.retry
        bound = min(retry.backoff_max, retry.backoff_min * 2.0 ** state.strike())
        return max(retry_after or 0.0, bound * self._rng.random())

    def _block(self, integration_id: str, until: float) -> None:
        state = self._integrations[integration_id]
        state.blocked_until = max(until, state.blocked_until or until)
        self._blocked.push(state.blocked_until, integration_id)
        if state.listed:
            state.listed = False
            self._round.remove(integration_id)

    def _wake(self, now: float) -> None:
        """Bring back what has stood back long enough."""
        while (popped := self._blocked.pop_due(now)) is not None:
            state = self._integrations[popped[1]]
            state.blocked_until = None
            self._list(popped[1], state)
        while self._delayed and self._delayed[0][0] <= now:
            _, _, integration_id, ref = heapq.heappop(self._delayed)
            self._integrations[integration_id].delayed -= 1
            self.offer(integration_id, ref)

    def _list(self, integration_id: str, state: Integration[Ref]) -> None:
        """Put the integration into the round if it may send. Forget it if it has nothing to send and no
        time to sit out: what was learned about it is out of date when it comes back.
        """
        most = self._settings.window.batches_max
        if state.queue:
            if not state.listed and state.blocked_until is None and state.in_flight < state.limit(most):
                state.listed = True
                self._round.append(integration_id)
        elif not state.delayed and not state.in_flight and state.blocked_until is None:
            self._integrations.pop(integration_id, None)

    # --- polls ------------------------------------------------------------------------------------

    def may_poll(self, now: float) -> bool:
        """Whether a poll may start; it then counts as in flight until `poll_done`."""
        if not self._polls_have_room or not self._may_start(now):
            return False
        self._polls += 1
        return True

    def poll_done(self) -> None:
        """A poll has come back; a submission may have waited for its place."""
        self._polls -= 1

    # --- places -----------------------------------------------------------------------------------

    @property
    def _submissions_have_room(self) -> bool:
        return self._submissions < self._submissions_max and self.in_flight < self._in_flight_max

    @property
    def _polls_have_room(self) -> bool:
        """Polls beyond their share stand on the submissions' places: no more of them while one of those
        waits to go.
        """
        wanted_back = bool(self._round) and self._submissions < self._submissions_max
        return self.in_flight < self._in_flight_max and not (self._polls >= self._polls_min and wanted_back)

    # --- the whole process ------------------------------------------------------------------------

    def halt(self, error: Error, now: float) -> None:
        """Our own key or address is refused: nothing goes out but a probe now and then."""
        self.halted = error
        self._probe_at = now + self._settings.park.probe_min

    def resume(self) -> None:
        """The API has taken our key again, or it is a new key."""
        self.halted = None

    def _may_start(self, now: float) -> bool:
        if self.halted is None:
            return True
        if now < self._probe_at or self._submissions or self._polls:
            return False
        self._probe_at = now + self._settings.park.probe_min
        return True

    def due(self, now: float) -> float | None:
        """When the passing of time next lets a submission go; to be asked after `next_submission`."""
        times = [self._blocked.due(), self._delayed[0][0] if self._delayed else None, self.probe_due(now)]
        return min((time for time in times if time is not None), default=None)

    def probe_due(self, now: float) -> float | None:
        """When, after now, a call may go out although the process is halted. None: it is not halted, or a
        probe may go as soon as no other call is in flight.
        """
        return self._probe_at if self.halted is not None and self._probe_at > now else None

    # --- figures ----------------------------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        return self._submissions + self._polls

    @property
    def queued(self) -> int:
        return len(self._delayed) + sum(len(state.queue) for state in self._integrations.values())

    def states(self) -> dict[str, int]:
        """How many integrations that have anything to send, or are not well, are in which state."""
        counts = {"healthy": 0, "throttled": 0, "parked": 0}
        for state in self._integrations.values():
            name = "parked" if state.parked else "throttled" if state.strikes else "healthy"
            counts[name] += 1
        return counts
