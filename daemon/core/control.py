"""What operators have decided about integrations, from the control topic (R19).

    pause     nothing of the integration is sealed or sent, until a time or until it is resumed. Open tasks are polled.
    give up   the changes of an integration, or of one of its courses, before these offsets of the input end.

A pause or its end names one integration, or many by a pattern: the first characters of their ids and `*`. Of all decisions
that name an integration, the last one counts. A pause whose time is over does not count at all.
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from daemon.core.model import Error

PATTERN_END = "*"
GIVEN_UP = "COURSESYNC.GIVEN_UP"


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
    """All decisions that count at the moment. Before they are loaded, every integration is paused."""

    def __init__(self) -> None:
        self.version = self.give_up_version = 0
        """They grow with every change, and with every change of what is given up."""
        self.clear()

    def clear(self) -> None:
        """The topic is read from its beginning."""
        self.is_loaded = False
        self._wall = 0
        self._pauses: dict[str, tuple[int, Pause]] = {}
        """With the offset of the decision, by integration or pattern."""
        self._exact: dict[str, tuple[int, Pause]] = {}
        self._patterns: list[tuple[str, tuple[int, Pause]]] = []
        """Those that have not ended by themselves. A pattern by its first characters."""
        self._given_up: dict[str, dict[str | None, GiveUp]] = {}
        self.version += 1
        self.give_up_version += 1

    def apply(self, offset: int, decision: Decision) -> None:
        """A decision that was written at this offset of the control topic. `advance` follows."""
        self.version += 1
        if isinstance(decision, Pause):
            self._pauses[decision.integration] = offset, decision
        else:
            self._given_up.setdefault(decision.integration_id, {})[decision.origin_id] = decision
            self.give_up_version += 1

    def loaded(self) -> None:
        """The topic was read to its end."""
        if not self.is_loaded:
            self.version += 1
            self.is_loaded = True

    def advance(self, wall: int) -> None:
        """It is this time now (ms, wall clock): some pauses may have ended by themselves."""
        if any(_holds(each, self._wall) and not _holds(each, wall) for _, each in self._pauses.values()):
            self.version += 1
        self._wall = wall
        holding = {name: each for name, each in self._pauses.items() if _holds(each[1], wall)}
        self._exact = {name: each for name, each in holding.items() if not is_pattern(name)}
        self._patterns = [
            (name.removesuffix(PATTERN_END), each) for name, each in holding.items() if is_pattern(name)
        ]

    def pause(self, integration_id: str) -> Pause | None:
        """The decision by which this integration is paused; None if it is not."""
        last = self._exact.get(integration_id)
        for prefix, each in self._patterns:
            if integration_id.startswith(prefix) and (last is None or each[0] > last[0]):
                last = each
        return last[1] if last is not None and last[1].paused else None

    def is_paused(self, integration_id: str) -> bool:
        return not self.is_loaded or self.pause(integration_id) is not None

    @property
    def pauses(self) -> list[Pause]:
        """The pauses that hold, of integrations and patterns, in the order in which they were decided. A pause is left out if
        a later decision names all of its integrations.
        """
        return self.pauses_within(PATTERN_END)

    def pauses_within(self, name: str) -> list[Pause]:
        """Those of `pauses` that count for any of the integrations that this pattern, or id, names."""
        holding = sorted(
            [*self._exact.values(), *(each for _, each in self._patterns)], key=lambda each: each[0]
        )
        return [
            decision
            for number, (_, decision) in enumerate(holding)
            if decision.paused
            and (common := _common(decision.integration, name)) is not None
            and not any(covers(later.integration, common) for _, later in holding[number + 1 :])
        ]

    @property
    def given_up(self) -> Collection[str]:
        """The integrations of which changes are given up."""
        return self._given_up.keys()

    def given_up_of(self, integration_id: str) -> list[GiveUp]:
        """The decisions by which changes of this integration are given up."""
        return list(self._given_up.get(integration_id, {}).values())

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


def is_pattern(name: str) -> bool:
    return name.endswith(PATTERN_END)


def covers(name: str, other: str) -> bool:
    """Whether a pattern, or an id, names every integration that another one names."""
    if is_pattern(name):
        return other.removesuffix(PATTERN_END).startswith(name.removesuffix(PATTERN_END))
    return name == other


def _common(one: str, other: str) -> str | None:
    """What names the integrations that both of two patterns, or ids, name; None if there can be none."""
    if covers(one, other):
        return other
    return one if covers(other, one) else None


def nothing_decided() -> Control:
    """Nobody has ever decided anything."""
    control = Control()
    control.loaded()
    return control


def _holds(pause: Pause, wall: int) -> bool:
    return pause.until is None or wall < pause.until


def given_up_error(decision: GiveUp) -> Error:
    """What the results of given up changes say."""
    why = "" if decision.reason is None else f": {decision.reason}"
    return Error(
        GIVEN_UP,
        f"{decision.by} has given up this change{why}. Publish it again if the course has to be brought up to date.",
        "Given up by an operator",
    )
