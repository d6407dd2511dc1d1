"""Checks the contract at run time: every change that came in has ended or is still held.

Each term of the balance is counted independently, and none is computed from another::

    restored    in the fold of the journal, before a shard is created from it
    consumed    where the log delivers records, before they are decoded
    resolved    in the transactions that were committed: the results as they were written
    writing     in the transaction that is being written
    held        by visiting every place in the shard's memory where a change can be: read and not admitted,
                waiting, in an open batch, ended and not yet added to a transaction

So the balance shows a change that is lost between two places, and a change that ends twice. All terms are read in one
uninterrupted call in the event loop. At that moment no shard is in the middle of an operation: a change moves from one
place to the next within one call. So the balance is exact whenever it is read, not only after a commit.
"""

from __future__ import annotations

from daemon.core.journal_fold import Fold
from daemon.core.shard import Shard
from daemon.core.step import Step
from daemon.log.port import Transaction


class Ledger:
    """The ledger of one shard, from its restore to its end."""

    def __init__(self, fold: Fold) -> None:
        self._taken_in = len(fold.waits) + sum(len(batch.items) for batch in fold.batches.values())
        self._resolved = 0
        self._writing = 0

    def consumed(self, records: int) -> None:
        """The log has delivered this many records."""
        self._taken_in += records

    def not_taken(self, records: int) -> None:
        """So many of them are not read by this shard. They will be delivered again."""
        self._taken_in -= records

    def commit_begins(self, step: Step, written: Transaction) -> None:
        """`written` is the transaction of this step. Corrections do not end a change, so they are not counted."""
        self._writing = len(written.results) - len(step.corrections)

    def committed(self) -> None:
        """The transaction is in the log. A commit that fails ends the shard, and the ledger with it."""
        self._resolved += self._writing
        self._writing = 0

    def imbalance(self, shard: Shard) -> int:
        """Number of changes that are lost; negative if changes ended more than once. The cost is proportional to the
        number of lanes and open batches.
        """
        return self._taken_in - self._resolved - self._writing - shard.count_held()
