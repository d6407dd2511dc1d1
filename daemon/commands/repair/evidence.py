"""Determines from the evidence in the topics how a hanging transaction of coursesyncd was decided. Pure.

A step of a shard is one atomic transaction of position, journal records and results (R2). If the brokers have not ended it
on the journal partition, the results show the decision of its coordinator: they are visible, or they were aborted.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from daemon.core.journal_fold import Fold


class TransactionEnd(StrEnum):
    COMMIT = "commit"
    ABORT = "abort"


class UndecidedError(Exception):
    """The evidence is not sufficient. The message says what is missing."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """The changes that the step has resolved, by input offset, and where their results are."""

    resolved: frozenset[int]
    visible: frozenset[int]
    """The changes whose result is visible to readers of committed records."""
    hanging: frozenset[int]
    """The changes whose result hangs like the journal, so nobody has seen it yet."""
    gone: tuple[str, ...] = ()
    """Descriptions of deleted records that could have been evidence."""


def unresolved(fold: Fold) -> frozenset[int]:
    """The offsets of changes without a result. The changes of a watched, timed-out task have a result."""
    waiting = (wait.item.offset for wait in fold.waits.values())
    sealed = (item.offset for batch in fold.batches.values() for item in batch.items)
    return frozenset((*waiting, *sealed))


def decided(evidence: Evidence) -> tuple[TransactionEnd, str]:
    """How the transaction must end on all partitions, and why.

    * A result is visible: it was committed.
    * Results are missing although nothing hangs or was deleted on their partitions: it was aborted.
    * Nothing could have been seen (there are no results, or all of them hang too): both ends are consistent. It is
      committed, because the daemon may have received the acknowledgement and sent the batches that it sealed.
      Forgetting those could open two submissions of one course.

    Raises:
        UndecidedError: results are missing, but they may have been deleted.
    """
    count = len(evidence.resolved)
    if evidence.visible:
        return (
            TransactionEnd.COMMIT,
            f"{len(evidence.visible)} of its {count} results are visible: it was committed",
        )
    if not evidence.resolved:
        if evidence.gone:
            raise UndecidedError("; ".join(evidence.gone))
        return (
            TransactionEnd.COMMIT,
            "it has no results, so nobody could see it: the batches that the daemon sealed in it are kept",
        )
    if evidence.resolved <= evidence.hanging:
        return (
            TransactionEnd.COMMIT,
            f"all of its {count} results hang too, so nobody has seen them: they are kept together",
        )
    if evidence.gone:
        raise UndecidedError("; ".join(evidence.gone))
    missing = len(evidence.resolved - evidence.hanging)
    return (
        TransactionEnd.ABORT,
        f"{missing} of its {count} results are missing: it was aborted, and its changes are read again",
    )
