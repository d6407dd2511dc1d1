"""How a transaction of coursesyncd that hangs was decided, from the traces that it has left. Pure.

A step of a shard is one transaction: position, journal records and results, together or not at all (R2). When the
brokers have forgotten to end it on the journal's partition, the results tell how its coordinator had decided: readers
see them, or they were aborted.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from daemon.core.journal import Fold


class TransactionEnd(StrEnum):
    COMMIT = "commit"
    ABORT = "abort"


class UndecidedError(Exception):
    """The traces do not tell. The message says which are missing."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """By their offsets in the input, the changes to which the step has given a result; and where these results are."""

    resolved: frozenset[int]
    visible: frozenset[int]
    """Those whose result readers of committed records see."""
    hanging: frozenset[int]
    """Those whose result hangs as the journal does: nobody has seen it yet."""
    gone: tuple[str, ...] = ()
    """What could have held more traces and is deleted, in words."""


def unresolved(fold: Fold) -> frozenset[int]:
    """The offsets of the changes that have no result yet. A timed-out task that is still watched has had them."""
    waiting = (wait.item.offset for wait in fold.waits.values())
    sealed = (item.offset for batch in fold.batches.values() for item in batch.sealed.items)
    return frozenset((*waiting, *sealed))


def decided(evidence: Evidence) -> tuple[TransactionEnd, str]:
    """How the transaction has to end everywhere, and why, in words.

    * A result that readers see: it was committed.
    * Results that nobody sees although their partitions are in order: it was aborted.
    * Nothing that anybody could have seen (no results, or all of them hang too): both ends are consistent. It is
      committed, since the daemon may have been told so, and have sent what it had sealed: forgetting that could let
      two submissions of one course be open.

    Raises:
        UndecidedError: results are missing, and they may have been deleted.
    """
    count = len(evidence.resolved)
    if evidence.visible:
        return (
            TransactionEnd.COMMIT,
            f"of its {count} results readers see {len(evidence.visible)}: it was committed",
        )
    if not evidence.resolved:
        if evidence.gone:
            raise UndecidedError("; ".join(evidence.gone))
        return (
            TransactionEnd.COMMIT,
            "it has no results, so nobody could see it: what the daemon has sealed in it is kept",
        )
    if evidence.resolved <= evidence.hanging:
        return (
            TransactionEnd.COMMIT,
            f"all its {count} results hang as well, so nobody has seen them: they are kept together",
        )
    if evidence.gone:
        raise UndecidedError("; ".join(evidence.gone))
    missing = len(evidence.resolved - evidence.hanging)
    return (
        TransactionEnd.ABORT,
        f"of its {count} results {missing} are not there: it was aborted, the changes come again",
    )
