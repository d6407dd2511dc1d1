"""The remedy for each failure of a partition: one table from exception to remedy."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from daemon.codec.texts import ERROR_CHARS_MAX, describe
from daemon.config import Topics
from daemon.core.journal import JournalError
from daemon.core.shard import Shard
from daemon.log.errors import (
    CommitFailedError,
    CorruptJournalError,
    FatalLogError,
    FencedError,
    HeldBackError,
    LogError,
    RecordRefusedError,
    TransientRefusalError,
)
from daemon.runtime import operator_messages
from daemon.runtime.opening import BlockedError
from daemon.runtime.step_transaction import StepFailedError
from daemon.telemetry.labels import DropReason


class InputLostError(LogError):
    """The input cannot be read from the current position on. The message names the remedy."""


class InputChangedError(LogError):
    """The input topic has changed since the partition was opened."""


class LostInput(NamedTuple):
    """Why reading of the input cannot continue. When the partition is reopened, it is blocked for this reason, unless
    opening finds a more specific one.
    """

    sentence: str
    offset: int | None = None
    """The first offset that cannot be read; None if it is not known."""
    read_to: int = 0
    """How far the shard had read when it was found."""

    def holds(self, shard: Shard) -> bool:
        """Whether the offset is still ahead of the shard, that is, it was not skipped; and everything before it that the
        shard had read was committed.
        """
        return self.offset is None or self.read_to <= shard.next_read <= self.offset


class StoppedInput(NamedTuple):
    """Reading has stopped at a limit of the shard, and the shard was fenced."""

    sentence: str
    offset: int

    def holds(self, shard: Shard) -> bool:
        """Whether the journal has this stop, that is, it was neither skipped nor allowed to be rejected. A stop that the fenced shard
        could not commit is found again.
        """
        return shard.rejection_limit.stopped_at == self.offset


class Remedy(StrEnum):
    REOPEN = "reopen"
    """Drop memory and producer, and restore (R4)."""
    REFUSED = "refused"
    """As `REOPEN`, but the partition is blocked after `REFUSALS_MAX` such failures."""
    DEFER = "defer"
    """As `REOPEN`, but the wait grows with each such failure, whatever is committed in between."""
    BLOCK = "block"
    """Wait for an operator, until a record is written to the journal."""
    BLOCK_HERE = "block here"
    """Wait for an operator, until the process is restarted."""
    DIE = "die"
    """End the process."""


@dataclass(frozen=True, slots=True)
class Failure:
    remedy: Remedy
    sentence: str
    """What is wrong and what to do, for operators. The admin port shows it if the partition is blocked, so it contains no id
    of a course, a task or an integration, and no text of an error that may contain one.
    """
    reason: DropReason = DropReason.ERROR
    error: str | None = None
    """The text that is logged when the partition is reopened. None: the sentence is logged."""
    warning: str | None = None
    """What keeps the partition from being restored, although it is not blocked."""
    is_defect: bool = False
    """The error was not expected, so it is logged with a traceback."""


def failure_of(error: Exception, partition: int, topics: Topics) -> Failure:
    match error:
        case BlockedError():
            return Failure(Remedy.BLOCK, str(error))
        case JournalError() | CorruptJournalError():
            return Failure(Remedy.BLOCK_HERE, operator_messages.unreadable_journal(partition, error, topics))
        case RecordRefusedError():
            return Failure(
                Remedy.REFUSED,
                operator_messages.refused_record(partition),
                error=describe(error, ERROR_CHARS_MAX),
            )
        case TransientRefusalError():
            sentence = operator_messages.record_refused_for_now(partition, error.summary)
            return Failure(Remedy.DEFER, sentence, error=describe(error, ERROR_CHARS_MAX), warning=sentence)
        case StepFailedError():
            return Failure(
                Remedy.REFUSED,
                operator_messages.failed_step(partition, error.summary),
                error=describe(error, ERROR_CHARS_MAX),
            )
        case FencedError():
            return Failure(Remedy.REOPEN, str(error), DropReason.FENCED)
        case FatalLogError() | MemoryError():
            return Failure(Remedy.DIE, str(error))
        case HeldBackError():
            warning = operator_messages.held_back_journal(error)
            return Failure(Remedy.REOPEN, warning, warning=warning)
        case CommitFailedError() | LogError():
            return Failure(Remedy.REOPEN, str(error))
        case _:
            # A defect in this code. It affects only this partition, whose memory can no longer be trusted (R4).
            return Failure(
                Remedy.REFUSED,
                operator_messages.failed_step(partition, type(error).__name__),
                error=describe(error, ERROR_CHARS_MAX),
                is_defect=True,
            )
