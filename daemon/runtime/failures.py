"""What each failure of a partition leads to: one table, from the exception to the remedy."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from daemon.config import Topics
from daemon.core.journal import JournalError
from daemon.core.shard import Shard
from daemon.log.port import (
    CommitFailedError,
    CorruptJournalError,
    FatalLogError,
    FencedError,
    HeldBackError,
    LogError,
    RecordRefusedError,
)
from daemon.runtime import trouble
from daemon.runtime.opening import BlockedError
from daemon.runtime.outbound import StepFailedError, describe
from daemon.telemetry.labels import DropReason


class InputLostError(LogError):
    """The input cannot be read on from where we are. The message names the remedy."""


class InputChangedError(LogError):
    """The input is no longer the topic that it was when the partition was opened."""


class LostInput(NamedTuple):
    """Why the input cannot be read on. A partition that is opened anew is blocked for it, unless there is a better
    reason.
    """

    sentence: str
    offset: int | None = None
    """The first one that cannot be read, where that is known."""

    def holds(self, shard: Shard) -> bool:
        """Nobody has skipped it."""
        return self.offset is None or shard.next_read <= self.offset


class Remedy(StrEnum):
    REOPEN = "reopen"
    """Give up memory and producer, and restore (R4)."""
    REFUSED = "refused"
    """The same; but a failure that comes every time blocks the partition in the end."""
    BLOCK = "block"
    """Wait for a person, or for somebody who writes to the journal."""
    BLOCK_HERE = "block here"
    """Wait for a person: until the process starts anew."""
    DIE = "die"
    """End the process."""


@dataclass(frozen=True, slots=True)
class Failure:
    remedy: Remedy
    sentence: str
    """What is wrong and what to do, for people."""
    reason: DropReason = DropReason.ERROR
    error: str | None = None
    """As the log has it when the partition is opened anew; None: the sentence."""
    warning: str | None = None
    """What keeps the partition from being restored though it is not blocked."""
    is_defect: bool = False
    """Nobody foresaw it: the log needs a traceback."""


def failure_of(error: Exception, partition: int, topics: Topics) -> Failure:
    match error:
        case BlockedError():
            return Failure(Remedy.BLOCK, str(error))
        case JournalError() | CorruptJournalError():
            return Failure(Remedy.BLOCK_HERE, trouble.unreadable_journal(partition, error, topics))
        case RecordRefusedError():
            return Failure(Remedy.REFUSED, trouble.refused_record(partition, error), error=describe(error))
        case StepFailedError():
            return Failure(Remedy.REFUSED, trouble.failed_step(partition, error), error=describe(error))
        case FencedError():
            return Failure(Remedy.REOPEN, str(error), DropReason.FENCED)
        case FatalLogError() | MemoryError():
            return Failure(Remedy.DIE, str(error))
        case HeldBackError():
            warning = trouble.held_back_journal(error)
            return Failure(Remedy.REOPEN, warning, warning=warning)
        case CommitFailedError() | LogError():
            return Failure(Remedy.REOPEN, str(error))
        case _:
            # A defect of ours: it concerns this partition, whose memory cannot be trusted any more (R4).
            why = describe(error)
            return Failure(Remedy.REFUSED, trouble.failed_step(partition, why), error=why, is_defect=True)
