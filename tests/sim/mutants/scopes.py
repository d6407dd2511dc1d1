"""Bugs about failures that the items of a batch share."""

from __future__ import annotations

from collections.abc import Sequence

from daemon.core import judge, result_factory, settle
from daemon.core.batch import Batch
from daemon.core.journal import Attempt
from daemon.core.judge import ItemRuling
from daemon.core.memory import Memory
from daemon.core.model import FailureScope, Item, Now
from tests.sim.mutants.registry import Patch, mutant


@mutant("C3", "A batch whose items failed together is not halved.")
def shared_failure_ends_all(patch: Patch) -> None:
    patch(judge, "SHARED_SPLITS_MAX", 0)


@mutant("C3", "Of a batch whose items failed together, the second half ends.")
def second_half_is_dropped(patch: Patch) -> None:
    halves = settle._seal_halves

    def first_half(
        memory: Memory, batch: Batch, entries: Sequence[tuple[Item, bytes]], splits: int, now: Now
    ) -> None:
        halves(
            memory,
            batch,
            entries if splits == batch.splits else entries[: max(1, len(entries) // 2)],
            splits,
            now,
        )

    patch(settle, "_seal_halves", first_half)


@mutant("C3", "Items that failed together count as if each had failed by itself.")
def shared_failure_is_own(patch: Patch) -> None:
    def own(attempt: Attempt) -> FailureScope | None:
        found = scope(attempt)
        return FailureScope.OWN if found is FailureScope.BATCH else found

    scope = result_factory._scope
    patch(result_factory, "_scope", own)


@mutant("C3", "All items of a batch count as having failed together when one of them has failed.")
def one_failure_is_shared(patch: Patch) -> None:
    def any_failed(items: Sequence[ItemRuling]) -> bool:
        return len(items) > 1 and any(item.error is not None for item in items)

    patch(settle, "failed_together", any_failed)
