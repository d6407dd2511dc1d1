"""The events that the runtime reports: typed values, sent through one port to all subscribers.

The runtime calls `notify` once for each event, after it happened. It never calls metrics, health or logs directly.
`telemetry.subscribers` defines the subscribers and how each of them handles an event. An event is a frozen value and is
not stored.

A restore repeats no events: they report what happens in this process, not what the journal records of earlier processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from daemon.core.answers import PollAnswer, SubmitAnswer
from daemon.core.control import Pause
from daemon.core.judge import KeyEvidence
from daemon.core.model import Now
from daemon.core.placement import Misplaced
from daemon.core.step import Step
from daemon.core.verdict import SubmitVerdict
from daemon.telemetry.labels import DropReason

# --- the process ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DrainStarted:
    timeout: float
    """Seconds."""


@dataclass(frozen=True, slots=True)
class DrainTimedOut:
    timeout: float


@dataclass(frozen=True, slots=True)
class DrainFinished:
    pass


@dataclass(frozen=True, slots=True)
class Halted:
    """The API refuses our own key or address. Nothing is sent."""

    code: str
    reason: str
    """The code, and the API's message, which may contain anything."""
    is_news: bool
    """Whether to log it: the halt has just begun, or a reminder is due."""


@dataclass(frozen=True, slots=True)
class Resumed:
    reason: str


@dataclass(frozen=True, slots=True)
class PoliciesUsed:
    """The tables of integrations were read again and have no mistakes."""

    tables: Sequence[str]
    """Their names."""
    is_news: bool
    """Whether they differ from the earlier ones."""


@dataclass(frozen=True, slots=True)
class PoliciesRejected:
    """The configuration was read again and has mistakes. The earlier tables of integrations still count."""

    mistakes: Sequence[str]


@dataclass(frozen=True, slots=True)
class RestartNeeded:
    """Settings have changed in a file that do not change while the process runs."""

    settings: Sequence[str]
    """Their names."""


@dataclass(frozen=True, slots=True)
class DefectFound:
    """Code failed that should never fail. It affects one partition."""

    partition: int
    error: Exception
    batch: str | None = None
    task: str | None = None


# --- operators ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ControlChanged:
    """Operators have decided something, or the pauses were loaded, or a pause has ended by itself (R19)."""

    pauses: Sequence[Pause]
    given_up: int
    """Number of integrations of which changes are given up."""


@dataclass(frozen=True, slots=True)
class ControlUnreadable:
    """The control topic cannot be read at the moment. What was known last holds."""

    error: str
    read_ms: int
    """When it was last read to its end, or the start; wall clock."""


@dataclass(frozen=True, slots=True)
class ControlRecordInvalid:
    """A record of the control topic is ignored."""

    offset: int
    error: str


# --- partitions -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PartitionsRevoked:
    """The partitions were revoked. They may be assigned again at once."""

    partitions: frozenset[int]


@dataclass(frozen=True, slots=True)
class PartitionsAssigned:
    partitions: frozenset[int]
    """All partitions that are held now."""
    gone: Sequence[int]
    """Partitions that were held before and are no longer held."""


@dataclass(frozen=True, slots=True)
class PartitionRestoring:
    partition: int
    warning: str | None
    """What keeps it from being restored, for operators."""


@dataclass(frozen=True, slots=True)
class RestoreProgressed:
    records: int


@dataclass(frozen=True, slots=True)
class RestoreFinished:
    seconds: float


@dataclass(frozen=True, slots=True)
class CoursesLoaded:
    """The index of the known courses is complete: changes can end as `UNCHANGED`."""

    partition: int
    courses: int
    seconds: float


@dataclass(frozen=True, slots=True)
class CoursesNotLoaded:
    """The courses topic cannot be read at the moment. It is read again; until then no change ends as `UNCHANGED`."""

    partition: int
    error: str


@dataclass(frozen=True, slots=True)
class PartitionRestored:
    """Its shard has been restored and starts to run. `PartitionRunning` follows."""

    partition: int
    offset: int
    batches: int
    tasks: int
    waiting: int


@dataclass(frozen=True, slots=True)
class PartitionRunning:
    partition: int


@dataclass(frozen=True, slots=True)
class PartitionUnconfirmed:
    """No heartbeat has confirmed yet that this replica still owns the partition (R4)."""

    partition: int


@dataclass(frozen=True, slots=True)
class PartitionDropped:
    """Its memory and its producer were dropped."""

    partition: int
    reason: DropReason
    error: str | None
    """None if the partition was only revoked."""


@dataclass(frozen=True, slots=True)
class PartitionBlocked:
    partition: int
    sentence: str
    is_news: bool
    """False if it was already blocked with this sentence."""


@dataclass(frozen=True, slots=True)
class PartitionReopened:
    """A blocked partition is opened again."""

    partition: int
    sentence: str


@dataclass(frozen=True, slots=True)
class InputUnreadable:
    partition: int
    offset: int
    sentence: str


@dataclass(frozen=True, slots=True)
class InputUnseen:
    """The log does not answer requests about the input at the moment."""

    partition: int
    error: str


@dataclass(frozen=True, slots=True)
class InputHeldBack:
    """A transaction that stays open keeps the partition from being read."""

    partition: int
    sentence: str
    is_news: bool


@dataclass(frozen=True, slots=True)
class RecordsMisplaced:
    """Changes that their partitioner would have put into another partition, all for the same reason."""

    partition: int
    count: int
    first: Misplaced
    partitioner: str
    is_news: bool
    """The first for this reason since the partition was opened."""


@dataclass(frozen=True, slots=True)
class InputReleased:
    partition: int
    offset: int | None
    """None if nothing was held back before."""


@dataclass(frozen=True, slots=True)
class JournalUnreadable:
    partition: int
    batch: str
    error: str


@dataclass(frozen=True, slots=True)
class StepCommitted:
    """A transaction is committed to the log; its success is confirmed."""

    partition: int
    step: Step
    now: Now
    seconds: float


# --- calls ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BatchDelayed:
    """A batch waits until the API's clock has passed its floor (R14)."""

    batch: str
    integration: str
    seconds: float


@dataclass(frozen=True, slots=True)
class BatchAnswered:
    partition: int
    batch: str
    integration: str
    items: int
    answer: SubmitAnswer
    verdict: SubmitVerdict
    is_open: bool
    """The same bytes will be POSTed again."""
    again_in: float
    """Seconds until they may be, at the earliest."""


@dataclass(frozen=True, slots=True)
class PollStarted:
    delay: float
    """Seconds between the due time and the start."""


@dataclass(frozen=True, slots=True)
class PollFailed:
    """The poll brought no new information about the task."""

    task: str
    answer: PollAnswer


@dataclass(frozen=True, slots=True)
class KeyProbed:
    """Because an integration was denied, a call that is made for no integration has checked our own key."""

    evidence: KeyEvidence
    answer: PollAnswer


Event = (
    DrainStarted
    | DrainTimedOut
    | DrainFinished
    | Halted
    | Resumed
    | PoliciesUsed
    | PoliciesRejected
    | RestartNeeded
    | DefectFound
    | PartitionsRevoked
    | PartitionsAssigned
    | PartitionRestoring
    | RestoreProgressed
    | RestoreFinished
    | ControlChanged
    | ControlUnreadable
    | ControlRecordInvalid
    | CoursesLoaded
    | CoursesNotLoaded
    | PartitionRestored
    | PartitionRunning
    | PartitionUnconfirmed
    | PartitionDropped
    | PartitionBlocked
    | PartitionReopened
    | InputUnreadable
    | InputUnseen
    | InputHeldBack
    | InputReleased
    | RecordsMisplaced
    | JournalUnreadable
    | StepCommitted
    | BatchDelayed
    | BatchAnswered
    | PollStarted
    | PollFailed
    | KeyProbed
)


class Observer(Protocol):
    def notify(self, event: Event) -> None:
        """Called in the event loop's thread. Must neither block nor raise."""
        ...


class Observers:
    """Passes each event to all subscribers in order."""

    def __init__(self, *subscribers: Observer) -> None:
        self._subscribers = subscribers

    def notify(self, event: Event) -> None:
        for subscriber in self._subscribers:
            subscriber.notify(event)
