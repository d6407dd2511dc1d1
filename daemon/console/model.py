"""All that the console knows, from the records of the topics. Pure: time is an argument. Used in one thread."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from daemon.codec import decode_control
from daemon.config import Topics
from daemon.console.journals import Journals
from daemon.console.records import Location, RecordIndex
from daemon.console.results import Results
from daemon.console.work import Stage, Work
from daemon.core.control import Control, GiveUp, Pause, covers
from daemon.core.journal import Position
from daemon.log.port import InputFacts
from daemon.log.topic_access import TopicRecord
from daemon.log.topic_following import Place

COURSES_MAX = 2_000_000
"""Records of the courses topic that can be found: 32 MB."""
DECISIONS_KEPT = 50
"""Last decisions of operators that are shown."""

Decision = Pause | GiveUp


class Look(NamedTuple):
    """A look at one partition of the input."""

    facts: InputFacts
    position: Position | None
    """What the journal said before the look: the input cannot have ended before it then."""


class Held(NamedTuple):
    """What the replica says that holds a partition."""

    replica: str
    """Its address."""
    state: str
    reason: str | None
    """Why it is blocked and what to do."""
    warning: str | None
    """What delays it, and what to do."""


@dataclass
class Reading:
    """How far the topics have been read."""

    behind: dict[Place, int] = field(default_factory=dict)
    is_loaded: bool = False
    """Everything that was there at the start has been read."""
    read_at: int = 0
    """When the end of all topics was last reached or records arrived, wall clock, ms."""
    error: str | None = None
    """Why the topics cannot be read at the moment."""
    facts_error: str | None = None
    """Why the input cannot be looked at."""
    missing: list[str] = field(default_factory=list)
    unreadable: dict[Place, str] = field(default_factory=dict)

    @property
    def left(self) -> int:
        return sum(self.behind.values())


class Model:
    def __init__(self, topics: Topics) -> None:
        self.topics = topics
        self.journals = Journals()
        self.results = Results()
        self.courses = RecordIndex(("course",), COURSES_MAX)
        self.control = Control()
        self.decisions: list[tuple[int, Decision]] = []
        """The last ones, with their offsets in the control topic."""
        self.looks: dict[int, Look] = {}
        """At the input, by partition."""
        self.held: dict[int, Held] = {}
        """By partition, as far as replicas were asked."""
        self.replicas: int | None = None
        """Replicas that have answered; None if none is asked."""
        self.halted_reason: str | None = None
        """Why a replica submits nothing, for any integration."""
        self.reading = Reading()

    def apply(self, records: Iterable[TopicRecord]) -> None:
        topics = self.topics
        for record in records:
            if record.topic == topics.journal:
                self.journals.apply(record.partition, record.key, record.value)
            elif record.topic == topics.results:
                self.results.apply(Location(record.partition, record.offset), record.value)
            elif record.topic == topics.courses:
                # The key is that of `core.course.course_key`. The record itself is read when somebody asks for it.
                self.courses.add(Location(record.partition, record.offset), (record.key,))
            elif record.topic == topics.control:
                self._decided(record)

    def begin_again(self, place: Place) -> None:
        """A partition is read from its beginning; what was read of it before no longer counts."""
        topic, partition = place
        if topic == self.topics.journal:
            self.journals.clear(partition)
        elif topic == self.topics.control:
            self.control.clear()
            self.decisions.clear()

    def advance(self, wall: int) -> None:
        """It is this time now (ms, wall clock)."""
        if self.reading.is_loaded:
            self.control.loaded()
        self.control.advance(wall)

    def position(self, partition: int) -> Position | None:
        """What its journal says."""
        kept = self.journals.partitions.get(partition)
        return None if kept is None else kept.position

    def integrations(self) -> set[str]:
        """All that are known, with the patterns that are paused."""
        paused = {each.integration for each in self.control.pauses}
        return {*self.journals.work, *self.results.integrations, *self.control.given_up, *paused}

    def work(self, integration_id: str) -> Work:
        return self.journals.work.get(integration_id) or Work()

    def decisions_about(self, integration_id: str) -> list[Decision]:
        """The last decisions about one integration, the newest first."""
        return [
            each
            for _, each in reversed(self.decisions)
            if covers(each.integration if isinstance(each, Pause) else each.integration_id, integration_id)
        ]

    def ages(self, wall: int, bounds_minutes: tuple[int, ...]) -> Mapping[Stage, list[int]]:
        """Changes without a result by their age. One number for each bound, of the changes that are younger than that and not
        younger than the one before, and one for the rest.
        """
        now = wall // 60_000
        found: dict[Stage, list[int]] = {}
        for stage, minutes in self.journals.minutes.items():
            counts = [0] * (len(bounds_minutes) + 1)
            for minute, changes in minutes.items():
                age = now - minute
                counts[next((n for n, bound in enumerate(bounds_minutes) if age < bound), -1)] += changes
            found[stage] = counts
        return found

    def _decided(self, record: TopicRecord) -> None:
        if record.value is None:
            return  # the decision holds until compaction removes it
        try:
            decision = decode_control(record.value)
        except ValueError:
            return
        self.control.apply(record.offset, decision)
        self.decisions.append((record.offset, decision))
        del self.decisions[:-DECISIONS_KEPT]
