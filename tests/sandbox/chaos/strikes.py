"""What a strike does when it begins, and how it is healed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

import msgspec

from tests.sandbox.chaos.fleet import Fleet
from tests.sandbox.chaos.schedule import Kind, Strike
from tests.sandbox.simulator.faults import DEMO, AnswerLost, FaultPlan
from tests.sandbox.stack import Stack

Heal = Callable[[], None]

_LOST_ANSWERS: Final = FaultPlan(
    rules=(AnswerLost(probability=0.3, how="cut"), AnswerLost(probability=0.3, how="hang"), *DEMO.rules)
)


class Strikes:
    """`done` counts the strikes that have begun, by kind."""

    def __init__(self, stack: Stack, fleet: Fleet) -> None:
        self._stack = stack
        self._fleet = fleet
        self.done: Counter[Kind] = Counter()

    def begin(self, strike: Strike) -> Heal:
        """Begin the strike, and return the function that heals it."""
        self.done[strike.kind] += 1
        stack = self._stack
        match strike.kind:
            case Kind.BROKER_KILL:
                stack.broker.kill()
                return stack.broker.launch
            case Kind.BROKER_FREEZE:
                stack.broker.freeze()
                return stack.broker.thaw
            case Kind.OUTAGE:
                kind = "cut" if self.done[Kind.OUTAGE] % 2 else "error"
                outage = {"seconds": strike.seconds, "kind": kind}
                stack.tell_simulator("outage", msgspec.json.encode(outage))
                return lambda: None  # it ends by itself
            case Kind.LOST_ANSWERS:
                stack.tell_simulator("faults", msgspec.json.encode(_LOST_ANSWERS))
                return lambda: stack.tell_simulator("faults", msgspec.json.encode(DEMO))
        member = self._fleet[strike.target]
        match strike.kind:
            case Kind.KILL:
                member.kill()
                return member.join
            case Kind.TERM | Kind.REMOVE:
                member.leave()
                return member.join
            case Kind.ADD:
                member.join()
                return member.leave
            case Kind.REPLACE:
                return member.replace()
            case Kind.ZOMBIE | Kind.FREEZE:
                member.freeze()
                return member.thaw
