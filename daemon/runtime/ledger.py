"""The contract, counted while it runs: what came in has ended, or it is here.

Each term of the balance is counted in a place of its own, and none of them is computed from another::

    restored    in the fold of the journal, before a shard is made of it
    consumed    where the log hands over records, before they are decoded
    resolved    in the transactions that were committed: the results as they were written
    writing     in the transaction that is on its way
    held        by looking at every place in the shard's memory where a change may be: read and not admitted,
                waiting, in an open batch, ended and not yet taken into a transaction

So a change that falls between two of them is missed, and one that ends twice is noticed. All of it is looked at
in one go in the event loop, where a shard is never in the middle of anything: a change has left one place and come
to the next within one call. That is why the balance is right at every such moment, not only after a commit.
"""

from __future__ import annotations

from daemon.core.journal import Fold
from daemon.core.shard import Shard
from daemon.core.step import Step
from daemon.log.port import Transaction


class Ledger:
    """Of one shard, from its restore to its end."""

    def __init__(self, fold: Fold) -> None:
        self._taken_in = len(fold.waits) + sum(len(batch.sealed.items) for batch in fold.batches.values())
        self._resolved = 0
        self._writing = 0

    def consumed(self, records: int) -> None:
        """The log has handed over so many records."""
        self._taken_in += records

    def commit_begins(self, step: Step, written: Transaction) -> None:
        """`written` is what goes to the log for this step. Corrections end nothing."""
        self._writing = len(written.results) - len(step.corrections)

    def committed(self) -> None:
        """It is in the log. A commit that fails ends the shard, and with it this."""
        self._resolved += self._writing
        self._writing = 0

    def imbalance(self, shard: Shard) -> int:
        """Changes that are lost; if negative, ends too many. Costs a step for each lane and open batch."""
        return self._taken_in - self._resolved - self._writing - shard.count_held()
