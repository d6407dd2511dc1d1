"""Decides which request goes out next: one instance per process, over all shards.

Submissions queue per integration and are served round robin, so that a slow, throttled or parked integration does not
delay another one. In the queue of an integration, what is bulk comes after what is not (R21). The answers of the API
determine how many submissions of an integration may be in flight, and whether it backs off (`integration`). Submissions
and polls each have a share of all requests in flight, and of the rate if one is set (`rate`), also of one integration
(`own_rates`). Each kind may use the idle share of the other until that kind needs it. So a flood of submissions does not
make finished tasks wait, and a flood of polls does not delay submissions.

Nothing here is durable, and nothing here depends on what a submission is: a `ref` belongs to the caller.
"""

from __future__ import annotations

import heapq
import random
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from daemon.config import Policies, Settings
from daemon.core.answers import SubmitAnswer
from daemon.core.breaker import BackOff, BackOffs, Breaker, Census, IntegrationState, by_reason
from daemon.core.concurrency import Window
from daemon.core.integration import Integration
from daemon.core.model import Error
from daemon.core.own_rates import OwnRates
from daemon.core.rate import BURST_SECONDS, Call, Rate
from daemon.core.schedule import Schedule
from daemon.core.verdict import SubmitVerdict

Ref = TypeVar("Ref")

KNOWN_SECONDS = 60.0
"""How long an idle integration is remembered. It is longer than the default linger, so that what its answers have
shown lasts from one batch to the next. It is short enough that this does not become outdated.
"""


@dataclass(slots=True)
class Permit(Generic[Ref]):
    """A submission that was taken from the queue. It counts as in flight until it is `released` or done."""

    integration_id: str
    ref: Ref
    taken_at: float
    number: int = 0
    """Its number among the sent submissions of its integration; 0 until it is sent."""


class _Delayed(NamedTuple, Generic[Ref]):
    """A submission that waits for its own time. No two have the same `number`, so nothing behind it is compared."""

    until: float
    number: int
    integration_id: str
    ref: Ref
    bulk: bool


class Flow(Generic[Ref]):
    """All times are monotonic seconds. `rng` only draws jitter."""

    def __init__(
        self,
        settings: Settings,
        policy: Policies,
        rng: random.Random,
        is_paused: Callable[[str], bool] = lambda _integration_id: False,
    ) -> None:
        """`is_paused` says of an integration whether an operator has paused it."""
        self._is_paused = is_paused
        http = settings.http
        self._settings = settings
        self._policy = policy
        self._back_off = BackOff(settings, rng)
        self._rate = Rate(http.requests_per_second_max, http.poll_share)
        self._own_rates = OwnRates(policy, http.poll_share)
        self._in_flight_max = http.in_flight_max
        self._submissions_max = max(1, int(http.in_flight_max * (1 - http.poll_share)))
        self._polls_min = http.in_flight_max - self._submissions_max
        self._integrations: dict[str, Integration[Ref]] = {}
        self._census: Census = Census()
        self._idle: OrderedDict[str, float] = OrderedDict()
        """Integrations with nothing to send and no back-off, and since when; the longest idle one is first."""
        self._round: deque[str] = deque()
        self._blocked: Schedule[str] = Schedule()
        self._paced: Schedule[str] = Schedule()
        self._delayed: list[_Delayed[Ref]] = []
        self._sequence = 0
        self._submissions = 0
        self._polls = 0
        self.halted: Error | None = None
        self._probe_at = 0.0

    # --- submissions ------------------------------------------------------------------------------

    def offer(
        self, integration_id: str, ref: Ref, not_before: float | None = None, *, bulk: bool = False
    ) -> None:
        """Queue a submission. `not_before` delays only this one. If it is `bulk`, the others of its integration come first
        (R21).
        """
        state = self._known(integration_id)
        if not_before is not None:
            self._sequence += 1
            state.delayed += 1
            heapq.heappush(self._delayed, _Delayed(not_before, self._sequence, integration_id, ref, bulk))
            return
        state.queue.append(ref, bulk=bulk)
        self._list(integration_id, state)

    def next_submission(self, now: float) -> Permit[Ref] | None:
        """Take the next submission that may go out now. It counts as in flight until `submission_done` or `released`."""
        self._wake(now)
        self._set_paced_aside(now)
        if not self._round or not self._submissions_have_room or not self._may_start(Call.SUBMIT, now):
            return None
        integration_id = self._round.popleft()
        state = self._integrations[integration_id]
        state.listed = False
        if (own := self._own_rates.of(integration_id, now)) is not None:
            own.take(Call.SUBMIT, now)
        permit = Permit(integration_id, state.queue.popleft(), now)
        state.in_flight += 1
        self._submissions += 1
        self._list(integration_id, state)
        return permit

    def try_send(self, permit: Permit[Ref], now: float) -> bool:
        """Whether a submission that was taken may be sent at this moment. While it waited for its lease, an operator may
        have paused the integration, or an answer may have asked for a pause or for fewer concurrent requests. If the
        result is False, the caller must release it.
        """
        state = self._integrations[permit.integration_id]
        until = state.breaker.until
        if state.paused or (until is not None and until > now) or state.in_flight > state.window.allowed:
            return False
        if now - permit.taken_at > BURST_SECONDS:
            # Its tokens are outdated: other calls have used the rates since.
            own = self._own_rates.of(permit.integration_id, now)
            if not self._rate.take(Call.SUBMIT, now) or (own and not own.take(Call.SUBMIT, now)):
                return False
        permit.number = state.window.sent()
        return True

    def submission_done(
        self, permit: Permit[Ref], answer: SubmitAnswer, verdict: SubmitVerdict, now: float
    ) -> float:
        """A submission that was sent has ended. `verdict` is the judge's verdict on its answer.

        Returns when the next submission of this integration may go out.
        """
        state = self._integrations[permit.integration_id]
        retry = self._policy(permit.integration_id).retry
        wait = state.answered(permit.number, answer, verdict, retry, self._back_off)
        if wait is not None:
            self._block(permit.integration_id, state, now + wait)
        self.released(permit, now)
        return state.breaker.until if state.breaker.until is not None else now

    def released(self, permit: Permit[Ref], now: float) -> None:
        """A submission that was taken no longer counts as in flight."""
        state = self._integrations[permit.integration_id]
        state.in_flight -= 1
        self._submissions -= 1
        self._update_lists(permit.integration_id, state, now)

    def drop(self, keep: Callable[[Ref], bool], now: float) -> None:
        """Drop the queued submissions for which `keep` is false."""
        kept = []
        for entry in self._delayed:
            if keep(entry.ref):
                kept.append(entry)
            else:
                self._integrations[entry.integration_id].delayed -= 1
        heapq.heapify(kept)
        self._delayed = kept
        for integration_id, state in self._integrations.items():
            state.queue.keep(keep)
            self._update_lists(integration_id, state, now)

    def obey(self, now: float) -> None:
        """What is paused may have changed (R19)."""
        for integration_id, state in self._integrations.items():
            state.paused = self._is_paused(integration_id)
            self._update_lists(integration_id, state, now)

    def policies_changed(self, now: float) -> None:
        """The policies answer something else from now on."""
        for integration_id, state in self._integrations.items():
            state.window.most = self._policy(integration_id).window.batches_max
            self._list(integration_id, state)
        for integration_id in list(self._paced):
            self._paced.push(now, integration_id)

    def _set_paced_aside(self, now: float) -> None:
        """Take integrations from the head of the round robin whose own rate allows no submission now."""
        while self._round:
            integration_id = self._round[0]
            own = self._own_rates.of(integration_id, now)
            due = None if own is None else own.due(Call.SUBMIT, now)
            if due is None:
                return
            state = self._integrations[integration_id]
            state.paced = True
            self._paced.push(due, integration_id)
            self._list(integration_id, state)

    # --- back-offs --------------------------------------------------------------------------------

    def park(self, integration_id: str, reason: str, now: float) -> None:
        """The integration waits for its customer. It is probed at growing intervals."""
        state = self._known(integration_id)
        wait = state.slow_down(IntegrationState.PARKED, reason, self._back_off)
        self._block(integration_id, state, now + wait)

    def _block(self, integration_id: str, state: Integration[Ref], until: float) -> None:
        self._blocked.push(state.breaker.open(until), integration_id)
        self._list(integration_id, state)

    # --- known integrations -----------------------------------------------------------------------

    def _known(self, integration_id: str) -> Integration[Ref]:
        self._idle.pop(integration_id, None)
        state = self._integrations.get(integration_id)
        if state is None:
            state = Integration(
                Window(self._policy(integration_id).window.batches_max), Breaker(self._census)
            )
            state.paused = self._is_paused(integration_id)
            self._integrations[integration_id] = state
        return state

    def _wake(self, now: float) -> None:
        """End the back-offs and delays that are over, and forget integrations that have been idle for long enough."""
        while (popped := self._blocked.pop_due(now)) is not None:
            state = self._integrations[popped[1]]
            state.breaker.back_off_ended()
            self._update_lists(popped[1], state, now)
        while (popped := self._paced.pop_due(now)) is not None:
            state = self._integrations[popped[1]]
            state.paced = False
            self._list(popped[1], state)
        while self._delayed and self._delayed[0].until <= now:
            over = heapq.heappop(self._delayed)
            self._integrations[over.integration_id].delayed -= 1
            self.offer(over.integration_id, over.ref, bulk=over.bulk)
        self._forget(now)

    def _forget(self, now: float) -> None:
        self._own_rates.forget(now)
        while self._idle:
            integration_id, since = next(iter(self._idle.items()))
            if since + KNOWN_SECONDS > now:
                return
            del self._idle[integration_id]
            self._paced.discard(integration_id)
            self._integrations.pop(integration_id).breaker.leave_census()

    def _update_lists(self, integration_id: str, state: Integration[Ref], now: float) -> None:
        """Update the round robin and the idle list for this integration."""
        self._list(integration_id, state)
        if not state.has_work and state.breaker.until is None and integration_id not in self._idle:
            self._idle[integration_id] = now

    def _list(self, integration_id: str, state: Integration[Ref]) -> None:
        """The round robin contains the integrations that may send."""
        may_send = state.may_send
        if may_send and not state.listed:
            self._round.append(integration_id)
        elif state.listed and not may_send:
            self._round.remove(integration_id)
        state.listed = may_send

    # --- polls ------------------------------------------------------------------------------------

    def may_poll(self, now: float, integration_id: str | None = None) -> bool:
        """Whether a poll may start. If so it counts as in flight until `poll_done`. For a poll of an integration, ask
        `own_poll_due` first.
        """
        if not self._polls_have_room or not self._may_start(Call.POLL, now):
            return False
        if integration_id is not None and (own := self._own_rates.of(integration_id, now)) is not None:
            own.take(Call.POLL, now)
        self._polls += 1
        return True

    def own_poll_due(self, integration_id: str, now: float) -> float | None:
        """When the own rate of this integration allows the next poll. None if it does now."""
        own = self._own_rates.of(integration_id, now)
        return None if own is None else own.due(Call.POLL, now)

    def poll_done(self) -> None:
        """A poll has ended. A submission may have waited for its place."""
        self._polls -= 1

    def poll_due(self, now: float) -> float | None:
        """The next time at which a poll may start, if places are free. Call it when no poll may start now."""
        times = (self.probe_due(now), self._rate.due(Call.POLL, now))
        return max((time for time in times if time is not None), default=None)

    # --- places -----------------------------------------------------------------------------------

    @property
    def _submissions_have_room(self) -> bool:
        return self._submissions < self._submissions_max and self.in_flight < self._in_flight_max

    @property
    def _polls_have_room(self) -> bool:
        """Polls beyond their share use places of submissions. No further such poll starts while a submission waits
        for one of these places.
        """
        wanted_back = bool(self._round) and self._submissions < self._submissions_max
        return self.in_flight < self._in_flight_max and not (self._polls >= self._polls_min and wanted_back)

    # --- the whole process ------------------------------------------------------------------------

    def halt(self, error: Error, now: float) -> None:
        """The API refuses our own key or address: nothing goes out except an occasional probe."""
        self.halted = error
        self._probe_at = now + self._settings.park.probe_min

    def resume(self, now: float) -> None:
        """The API has accepted our key again, or the key was replaced. Back-offs because of the key end."""
        self.halted = None
        for integration_id, state in self._integrations.items():
            if state.key_refused and state.breaker.until is not None:
                state.breaker.until = now
                self._blocked.push(now, integration_id)
            state.key_refused = False

    def _may_start(self, call: Call, now: float) -> bool:
        """Whether such a call may start. If so it counts for the rate, and as the probe of a halted process."""
        if self.halted is None:
            return self._rate.take(call, now)
        if now < self._probe_at or self.in_flight or not self._rate.take(call, now):
            return False
        self._probe_at = now + self._settings.park.probe_min
        return True

    def due(self, now: float) -> float | None:
        """The next time at which a submission may start. Call it after `next_submission`."""
        times = [self._blocked.due(), self._paced.due(), self.probe_due(now)]
        times.append(self._delayed[0].until if self._delayed else None)
        if self._round and self._submissions_have_room:
            times.append(self._rate.due(Call.SUBMIT, now))
        return min((time for time in times if time is not None), default=None)

    def probe_due(self, now: float) -> float | None:
        """The next time at which a probe may start in a halted process. None if the process is not halted, or if a
        probe may start as soon as no other call is in flight.
        """
        return self._probe_at if self.halted is not None and self._probe_at > now else None

    # --- counts -----------------------------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        return self._submissions + self._polls

    def back_offs(self) -> list[BackOffs]:
        """The integrations that are not healthy, by state and reason, those that end last first."""
        return by_reason(state.breaker for state in self._integrations.values())

    def states(self, now: float) -> dict[str, int]:
        """The number of integrations in each state, counting those that have something to send, that are not healthy,
        or that were sent to within the last minute.
        """
        self._forget(now)
        return {state: self._census[state] for state in IntegrationState}
