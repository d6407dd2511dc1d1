"""What operators have decided about integrations, from the control topic (R19).

    pause     nothing of the integration is sealed or sent, until a time or until it is resumed. Open tasks are polled.
    give up   the changes of an integration, or of one of its courses, before these offsets of the input end.

A pause or its end names one integration, or many by a pattern: the first characters of their ids and `*`. Of all decisions
that name an integration, the last one counts. A pause whose time is over does not count at all.
"""

from __future__ import annotations

import msgspec

from daemon.core.model import Error

PATTERN_END = "*"
GIVEN_UP = Error(
    "COURSESYNC.GIVEN_UP",
    "An operator has given up this change. Publish it again if the course must be brought up to date.",
    "Given up by an operator",
)


class Pause(msgspec.Struct, frozen=True):
    """An integration is paused, or goes on."""

    integration: str
    """Its id, or a pattern."""
    paused: bool
    """False: it goes on."""
    until: int | None
    """Wall clock, ms. None: until it is resumed."""
    by: str
    reason: str | None
    decided_at: int
    """By the clock of the operator's host, ms."""

    def holds(self, wall: int) -> bool:
        return self.until is None or wall < self.until


class GiveUp(msgspec.Struct, frozen=True):
    """Changes end that came before these offsets of the input. It can be applied any number of times."""

    integration_id: str
    origin_id: str | None
    """None: all courses."""
    open_tasks: bool
    """Open tasks end as well, as `TIMED_OUT`, and stay watched (R12)."""
    topic_id: str
    """Of the input. In a topic that was created again the offsets mean other records."""
    before: tuple[int, ...]
    """By partition: the first offset that is not concerned."""
    by: str
    reason: str | None
    decided_at: int


Decision = Pause | GiveUp


class Control:
    """All decisions that count. Before they are loaded, every integration is paused."""

    def __init__(self) -> None:
        self.is_loaded = False
        self.version = 0
        """Grows with every change."""
        self._pauses: dict[str, tuple[int, Pause]] = {}
        """With the offset of the decision, by integration or pattern."""
        self._patterns: dict[str, tuple[int, Pause]] = {}
        """Those with a pattern, by its first characters."""
        self._given_up: dict[str, dict[str | None, GiveUp]] = {}

    def apply(self, offset: int, decision: Decision) -> None:
        """A decision that was written at this offset of the control topic."""
        self.version += 1
        match decision:
            case Pause(integration=name) if name.endswith(PATTERN_END):
                self._patterns[name.removesuffix(PATTERN_END)] = offset, decision
            case Pause():
                self._pauses[decision.integration] = offset, decision
            case GiveUp():
                self._given_up.setdefault(decision.integration_id, {})[decision.origin_id] = decision

    def loaded(self) -> None:
        """The topic was read to its end."""
        if not self.is_loaded:
            self.version += 1
            self.is_loaded = True

    def pause(self, integration_id: str, wall: int) -> Pause | None:
        """The decision by which this integration is paused; None if it is not."""
        found = [each for prefix, each in self._patterns.items() if integration_id.startswith(prefix)]
        if (exact := self._pauses.get(integration_id)) is not None:
            found.append(exact)
        last = max((each for each in found if each[1].holds(wall)), key=lambda each: each[0], default=None)
        return last[1] if last is not None and last[1].paused else None

    def is_paused(self, integration_id: str, wall: int) -> bool:
        return not self.is_loaded or (
            bool(self._pauses or self._patterns) and self.pause(integration_id, wall) is not None
        )

    def pauses(self, wall: int) -> list[Pause]:
        """The pauses that hold, of integrations and patterns."""
        every = [*self._pauses.values(), *self._patterns.values()]
        return [
            decision
            for _, decision in sorted(every, key=lambda each: each[0])
            if decision.paused and decision.holds(wall)
        ]

    def next_end(self, wall: int) -> int | None:
        """When the next pause ends by itself (wall clock, ms); None if none does."""
        every = [*self._pauses.values(), *self._patterns.values()]
        ends = [each.until for _, each in every if each.until is not None and each.until > wall]
        return min(ends, default=None)

    @property
    def gives_up(self) -> frozenset[str]:
        """The integrations of which changes are given up."""
        return frozenset(self._given_up)

    def give_up(
        self, integration_id: str, origin_id: str, topic_id: str, partition: int, offset: int
    ) -> GiveUp | None:
        """The decision by which the change at this offset of the input is given up; None if it is not. Of several, one
        that ends open tasks as well.
        """
        decisions = self._given_up.get(integration_id)
        if decisions is None:
            return None
        found = None
        for each in (decisions.get(None), decisions.get(origin_id)):
            if each is None or each.topic_id != topic_id or partition >= len(each.before):
                continue
            if offset < each.before[partition] and (found is None or each.open_tasks):
                found = each
        return found
