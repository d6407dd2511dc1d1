"""What the runtime reports: one port, typed events, and whoever subscribes.

The runtime calls `notify` once for each thing that happened, after it happened; it never calls metrics, health or logs
itself. `telemetry.subscribers` has the subscribers, and what each of them makes of an event. An event is a frozen
value; it is not kept.

A restore repeats nothing: events report what happens in this process, not what the journal tells of earlier ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from daemon.core.answers import PollAnswer, SubmitAnswer
from daemon.core.model import Now
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
    """Our own key or address is refused: nothing is sent."""

    reason: str
    is_news: bool
    """Worth a log line: it has just begun, or it is time for a reminder."""


@dataclass(frozen=True, slots=True)
class Resumed:
    reason: str


@dataclass(frozen=True, slots=True)
class DefectFound:
    """Something failed that should never fail; it concerns one partition."""

    partition: int
    error: Exception
    batch: str | None = None
    task: str | None = None


# --- partitions -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PartitionsRevoked:
    """They may come straight back."""

    partitions: frozenset[int]


@dataclass(frozen=True, slots=True)
class PartitionsAssigned:
    partitions: frozenset[int]
    """All that are held now."""
    gone: Sequence[int]
    """Those that were held before and are not any more."""


@dataclass(frozen=True, slots=True)
class PartitionRestoring:
    partition: int
    warning: str | None
    """What keeps it from being restored, for people."""


@dataclass(frozen=True, slots=True)
class RestoreProgressed:
    records: int


@dataclass(frozen=True, slots=True)
class RestoreFinished:
    seconds: float


@dataclass(frozen=True, slots=True)
class PartitionRestored:
    """Its shard has been restored and begins to run; `PartitionRunning` follows."""

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
    """No heartbeat has confirmed yet that the partition is still ours (R4)."""

    partition: int


@dataclass(frozen=True, slots=True)
class PartitionDropped:
    """Its memory and its producer were given up."""

    partition: int
    reason: DropReason
    error: str | None
    """None where it was only taken away."""


@dataclass(frozen=True, slots=True)
class PartitionBlocked:
    partition: int
    sentence: str
    is_news: bool
    """False where it was blocked with this sentence already."""


@dataclass(frozen=True, slots=True)
class PartitionReopened:
    """A partition that was blocked is tried again."""

    partition: int
    sentence: str


@dataclass(frozen=True, slots=True)
class InputUnreadable:
    partition: int
    offset: int
    sentence: str


@dataclass(frozen=True, slots=True)
class InputUnseen:
    """The log does not answer questions about the input now."""

    partition: int
    error: str


@dataclass(frozen=True, slots=True)
class InputHeldBack:
    """A transaction that nobody ends keeps the partition from being read."""

    partition: int
    sentence: str
    is_news: bool


@dataclass(frozen=True, slots=True)
class InputReleased:
    partition: int
    offset: int | None
    """None where nothing had been held back."""


@dataclass(frozen=True, slots=True)
class JournalUnreadable:
    partition: int
    batch: str
    error: str


@dataclass(frozen=True, slots=True)
class StepCommitted:
    """A transaction is in the log for certain."""

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
    """The same bytes are POSTed again."""


@dataclass(frozen=True, slots=True)
class PollStarted:
    delay: float
    """Seconds after it was due."""


@dataclass(frozen=True, slots=True)
class PollFailed:
    """Nothing new is known of the task."""

    task: str
    answer: PollAnswer


Event = (
    DrainStarted
    | DrainTimedOut
    | DrainFinished
    | Halted
    | Resumed
    | DefectFound
    | PartitionsRevoked
    | PartitionsAssigned
    | PartitionRestoring
    | RestoreProgressed
    | RestoreFinished
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
    | JournalUnreadable
    | StepCommitted
    | BatchDelayed
    | BatchAnswered
    | PollStarted
    | PollFailed
)


class Observer(Protocol):
    def notify(self, event: Event) -> None:
        """Called in the event loop's thread; must neither wait nor raise."""
        ...


class Observers:
    """Passes each event on to all subscribers, in their order."""

    def __init__(self, *subscribers: Observer) -> None:
        self._subscribers = subscribers

    def notify(self, event: Event) -> None:
        for subscriber in self._subscribers:
            subscriber.notify(event)
