"""Bugs in how fast the daemon goes: what the API allows of an integration, and what one integration may cost
the others. Most show in histories of kind `crowded` alone.
"""

from __future__ import annotations

from typing import Any

from daemon.core.breaker import BackOff, IntegrationState
from daemon.core.concurrency import Window
from daemon.core.flow import Flow, Permit
from daemon.core.rate import Call, Rate
from tests.sim.mutants.registry import Patch, mutant
from tests.sim.parameters import Kind


@mutant("C5", "While one integration is throttled, nothing is sent to any other.", Kind.ISOLATION)
def one_throttled_stops_all(patch: Patch) -> None:
    next_submission = Flow.next_submission

    def next_one(flow: Flow[Any], now: float) -> Any:
        flow._wake(now)
        states = {name: state.breaker.state for name, state in flow._integrations.items()}
        if IntegrationState.THROTTLED in states.values():
            ready = [name for name in flow._round if states[name] is IntegrationState.THROTTLED]
            if not ready:
                return None
            flow._round.remove(ready[0])
            flow._round.appendleft(ready[0])
        return next_submission(flow, now)

    patch(Flow, "next_submission", next_one)


@mutant("C6", "The state of an integration is never deleted.")
def integrations_are_never_forgotten(patch: Patch) -> None:
    patch(Flow, "_forget", lambda flow, now: None)


@mutant("pace", "The concurrency limit in an answer is ignored.", Kind.CROWDED)
def limit_is_not_read(patch: Patch) -> None:
    answered = Window.answered
    patch(
        Window, "answered", lambda window, number, limit, remaining: answered(window, number, None, remaining)
    )


@mutant("pace", "The remaining requests in an answer are ignored.", Kind.CROWDED)
def remaining_is_not_read(patch: Patch) -> None:
    answered = Window.answered
    patch(Window, "answered", lambda window, number, limit, remaining: answered(window, number, limit, None))


@mutant("pace", "Submissions do not wait for the first answer of an integration.", Kind.CROWDED)
def all_at_once(patch: Patch) -> None:
    def begin(window: Window) -> None:
        window._size, window._started = window.most, True

    patch(Window, "__post_init__", begin)


@mutant("pace", "A concurrency refusal does not reduce the number in flight.", Kind.CROWDED)
def never_halved(patch: Patch) -> None:
    patch(Window, "overloaded", lambda window, number: None)


@mutant("pace", "After a concurrency refusal, each good answer doubles the limit.", Kind.CROWDED)
def doubled_by_each_answer(patch: Patch) -> None:
    good = Window.good

    def double(window: Window, number: int) -> None:
        good(window, number)
        window._size = min(window._size * 2, window.most)

    patch(Window, "good", double)


@mutant("pace", "A concurrency refusal causes no pause.", Kind.CROWDED)
def too_many_without_a_pause(patch: Patch) -> None:
    patch(BackOff, "after_overload", lambda back_off, retry, before, retry_after: 0.0)


@mutant("pace", "Answers that arrive while a submission waits for its lease do not affect it.", Kind.CROWDED)
def leaves_whatever_was_heard(patch: Patch) -> None:
    def try_send(flow: Flow[Any], permit: Permit[Any], _: float) -> bool:
        permit.number = flow._integrations[permit.integration_id].window.sent()
        return True

    patch(Flow, "try_send", try_send)


@mutant("pace", "Submissions and polls each have the full rate.", Kind.CROWDED)
def a_rate_for_each(patch: Patch) -> None:
    init = Rate.__init__

    def make(rate: Rate, per_second: float | None, poll_share: float) -> None:
        init(rate, per_second, poll_share)
        for bucket in (rate._buckets or {}).values():
            bucket.per_second = per_second or 0.0

    patch(Rate, "__init__", make)


@mutant("pace", "Polls do not count towards the rate.", Kind.CROWDED)
def polls_go_beside_the_rate(patch: Patch) -> None:
    take = Rate.take
    patch(Rate, "take", lambda rate, call, now: call is Call.POLL or take(rate, call, now))
