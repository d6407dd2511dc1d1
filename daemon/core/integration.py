"""What the process knows about one integration, and what the answers to its submissions change in that.

An answer opens or closes the breaker (`core.breaker`), and changes how many submissions may be in flight
(`core.concurrency`). `core.flow` has all integrations, and decides whose turn it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar, assert_never

from daemon.config import RetrySettings
from daemon.core.answers import Accepted, Done, NoAnswer, Refused, SubmitAnswer
from daemon.core.breaker import BackOff, Breaker, IntegrationState
from daemon.core.concurrency import Window
from daemon.core.priority import TurnQueue
from daemon.core.verdict import OVERLOAD, SubmitVerdict, is_throttle

Ref = TypeVar("Ref")


@dataclass(slots=True)
class Integration(Generic[Ref]):
    """What the process currently knows about one integration."""

    window: Window
    breaker: Breaker
    queue: TurnQueue[Ref] = field(default_factory=TurnQueue)
    delayed: int = 0
    """The number of submissions that each wait for their own time."""
    in_flight: int = 0
    paused: bool = False
    """An operator has paused it (R19)."""
    listed: bool = False
    """It is in the round robin."""
    paced: bool = False
    """Its own rate allows no submission at the moment."""
    key_refused: bool = False
    """It backs off for no other reason than that our own key or address was refused."""

    @property
    def has_work(self) -> bool:
        """Whether submissions are queued, delayed or in flight."""
        return bool(self.queue or self.delayed or self.in_flight)

    @property
    def may_send(self) -> bool:
        """Whether the next submission in its queue may go out."""
        held_back = self.paused or self.paced or self.breaker.until is not None
        return bool(self.queue) and not held_back and self.in_flight < self.window.allowed

    def answered(
        self,
        number: int,
        answer: SubmitAnswer,
        verdict: SubmitVerdict,
        retry: RetrySettings,
        back_off: BackOff,
    ) -> float | None:
        """Submission `number` has ended. Returns for how many seconds the integration has to back off; None if it does
        not.
        """
        if isinstance(answer, NoAnswer):
            self.window.answered(number, None, None)
        else:
            self.window.answered(number, answer.concurrency_limit, answer.concurrency_remaining)
        match verdict:
            case SubmitVerdict.RETRY:
                return self._refused(number, answer, retry, back_off)
            case SubmitVerdict.PARK:
                return self.slow_down(IntegrationState.PARKED, reason_of(answer), back_off)
            case SubmitVerdict.FATE_UNKNOWN | SubmitVerdict.OUR_SIDE:
                by_key = verdict is SubmitVerdict.OUR_SIDE and self.breaker.until is None
                wait = self.slow_down(IntegrationState.BREAKER_OPEN, reason_of(answer), back_off)
                self.key_refused = by_key
                return wait
            case SubmitVerdict.HALT | SubmitVerdict.REKEYED:
                return None  # it concerns our key, not this integration
            case (
                SubmitVerdict.ACCEPTED
                | SubmitVerdict.DONE
                | SubmitVerdict.SPLIT
                | SubmitVerdict.FAIL
                | SubmitVerdict.UNCONFIRMED
            ):
                self.window.good(number)
                self.breaker.succeeded()
                return None
            case _:
                assert_never(verdict)

    def slow_down(self, into: IntegrationState, reason: str, back_off: BackOff) -> float:
        """It is probed at growing intervals from now on. Returns the seconds until the next probe."""
        self.window.restart()
        before = self.breaker.strike(into)
        self._backs_off_because(reason)
        return back_off.slow(before)

    def _refused(self, number: int, answer: SubmitAnswer, retry: RetrySettings, back_off: BackOff) -> float:
        self._backs_off_because(reason_of(answer))
        retry_after = answer.retry_after if isinstance(answer, Refused) else None
        if isinstance(answer, Refused) and answer.error.code == OVERLOAD:
            self.window.overloaded(number)
            before = self.breaker.strike(IntegrationState.THROTTLED)
            return back_off.after_overload(retry, before, retry_after)
        throttled = isinstance(answer, Refused) and is_throttle(answer.error.code, answer.status)
        self.window.restart()
        before = self.breaker.strike(
            IntegrationState.THROTTLED if throttled else IntegrationState.BREAKER_OPEN
        )
        return back_off.after_failure(retry, before, retry_after)

    def _backs_off_because(self, reason: str) -> None:
        self.breaker.reason, self.key_refused = reason, False


def reason_of(answer: SubmitAnswer) -> str:
    """What a back-off after this answer starts with, in a few words."""
    match answer:
        case NoAnswer():
            return answer.reason.value
        case Refused():
            return answer.error.code or f"HTTP {answer.status}"
        case Accepted() | Done():
            raise AssertionError("a good answer starts no back-off")
        case _:
            assert_never(answer)
