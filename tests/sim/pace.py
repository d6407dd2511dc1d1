"""How a process uses what the API allows: how many POSTs of an integration at a time, how many calls a second.

Everything is counted anew from what left and what was heard, in the plainest way. A POST may leave while

* fewer are in flight than the last answer that told a limit has told, and than `window.batches_max`;
* fewer are in flight than that answer left us: at most the most of ours that were under way at a time while
  its request was, and the API may have counted, plus what remains. (More nobody can know who does not know
  when the API counted: answers are on their way as well.) One may always go, to find out;
* one is in flight at most, as long as nothing was heard at all;
* no refusal for too many was heard within the pause that the vendor asks for, and after one no more than half
  of those that were in flight are so again, and one more for each answer that was good since.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from daemon.config import Settings
from daemon.core.answers import Accepted, Done, NoAnswer, Refused, SubmitAnswer
from daemon.core.flow import KNOWN_SECONDS
from daemon.core.rate import BURST_SECONDS
from tests.sim.policies import InForce
from tests.sim.seen import Who

TOO_MANY = "PLATFORM.CONCURRENCY_LIMIT_EXCEEDED"
PAUSE_MIN = 0.75
"""Of the first back-off: what jitter leaves of it."""
EPSILON = 0.001


@dataclass
class Sent:
    """Of one integration."""

    in_flight: set[int] = field(default_factory=set)
    counts: list[int] = field(default_factory=list)
    """By number of a POST: how many were in flight when it had left."""
    allowed: int | None = None
    """What the last answer that told anything allows."""
    resumes_at: float = 0.0
    heard_at: float | None = None
    is_started: bool = False
    """A POST was accepted, and nothing has happened since that lets it begin anew."""
    halved: int | None = None
    forgiven: int = -1
    """POSTs up to this number are reason for no further halving."""


@dataclass
class Calls:
    """Under one rate."""

    left: float | None = None
    at: float = 0.0

    def exceed(self, now: float, rate: float, burst: float) -> bool:
        """Another call leaves now. Whether it is one too many."""
        left = burst if self.left is None else self.left
        self.left = min(burst, left + (now - self.at) * rate) - 1
        self.at = now
        return self.left < -EPSILON


class Pace:
    """Of one process. `accuse` is called with the kind of the violation and a sentence."""

    def __init__(
        self, who: Who, settings: Settings, in_force: InForce, accuse: Callable[[str, str], None]
    ) -> None:
        self._who = who
        self._name = who[0]
        self._settings = settings
        self._in_force = in_force
        self._accuse = accuse
        self._sent: defaultdict[str, Sent] = defaultdict(Sent)
        self._calls = Calls()
        self._own_calls: defaultdict[str, Calls] = defaultdict(Calls)

    # --- calls a second ---------------------------------------------------------------------------

    def _burst(self, rate: float) -> float:
        """What may go at once: two full buckets, and what had its turn just before and waited for a lease."""
        share = self._settings.http.poll_share
        buckets = [max(1.0, rate * part * BURST_SECONDS) for part in (share, 1 - share)]
        return sum(buckets) + rate * BURST_SECONDS

    def called(self, now: float, integration_id: str | None) -> None:
        """A POST or a GET leaves. None: it is made for no integration."""
        rate = self._settings.http.requests_per_second_max
        if rate is not None and self._calls.exceed(now, rate, self._burst(rate)):
            self._accuse("hurry", f"{self._name} makes more calls than {rate:g} a second")
        if integration_id is None:
            return
        rates = self._in_force.values(self._who, integration_id, "http.requests_per_second_max")
        if None in rates or len(set(rates)) > 1:
            self._own_calls.pop(integration_id, None)  # a limit that has changed begins with full buckets
        elif self._own_calls[integration_id].exceed(now, rates[0], self._burst(rates[0])):
            self._accuse(
                "hurry", f"{self._name} makes more calls for {integration_id} than {rates[0]:g} a second"
            )

    # --- how many at a time -----------------------------------------------------------------------

    def posted(self, now: float, integration_id: str) -> int:
        """Returns the number of this POST, for when it comes back."""
        self.called(now, integration_id)
        sent = self._sent[integration_id]
        idle_since = None if sent.in_flight else sent.heard_at
        if idle_since is not None and now - idle_since > KNOWN_SECONDS - 1:
            sent.is_started, sent.halved = False, None
        number = len(sent.counts)
        sent.in_flight.add(number)
        sent.counts.append(len(sent.in_flight))
        most, why = self._most(integration_id, sent)
        if len(sent.in_flight) > most:
            self._accuse(
                "crowded", f"{self._name} has {sent.counts[-1]} POSTs for {integration_id} in flight: {why}"
            )
        if now < sent.resumes_at - EPSILON:
            self._accuse(
                "hurry",
                f"{self._name} POSTs for {integration_id} before {sent.resumes_at:.3f} s, too soon after a refusal "
                "for too many",
            )
        return number

    def _most(self, integration_id: str, sent: Sent) -> tuple[int, str]:
        window = max(self._in_force.values(self._who, integration_id, "window.batches_max"))
        if sent.heard_at is None:
            return 1, "nothing was heard yet"
        limits = [(window, f"the window is {window}")]
        if sent.allowed is not None:
            limits.append((sent.allowed, f"the last answer allows {sent.allowed}"))
        if sent.halved is not None:
            limits.append((sent.halved, f"after too many there were to be {sent.halved}"))
        return min(limits)

    def heard(self, now: float, integration_id: str, number: int, answer: SubmitAnswer) -> None:
        sent = self._sent[integration_id]
        peak = max(sent.counts[number:])
        sent.in_flight.remove(number)
        sent.heard_at = now
        if not isinstance(answer, NoAnswer):
            told = [answer.concurrency_limit] if answer.concurrency_limit is not None else []
            if answer.concurrency_remaining is not None:
                told.append(peak + answer.concurrency_remaining)
            if told:
                sent.allowed = max(1, min(told))
        if isinstance(answer, Accepted | Done):
            sent.is_started = True
            sent.halved = None if sent.halved is None else sent.halved + 1
        elif isinstance(answer, Refused) and answer.error.code == TOO_MANY:
            self._too_many(sent, number, peak)
            pauses = self._in_force.values(self._who, integration_id, "retry.backoff_min")
            sent.resumes_at = now + PAUSE_MIN * min(pauses)
        else:
            self.unwell(integration_id)

    def _too_many(self, sent: Sent, number: int, peak: int) -> None:
        if number > sent.forgiven:
            sent.forgiven = len(sent.counts) - 1
            if sent.is_started:
                before = peak if sent.halved is None else min(peak, sent.halved)
                sent.halved = max(1, before // 2)

    def unwell(self, integration_id: str) -> None:
        """Something was heard after which the integration may begin anew with one."""
        sent = self._sent[integration_id]
        sent.is_started, sent.halved = False, None
