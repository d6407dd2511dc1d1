"""How a transaction that hangs was decided, from its traces."""

from __future__ import annotations

import msgspec
import pytest

from daemon.commands.repair.evidence import Evidence, TransactionEnd, UndecidedError, decided, unresolved
from daemon.core import journal
from daemon.core.journal_fold import Fold
from daemon.core.model import Item

DELETED = ("older records are deleted",)


def evidence(
    resolved: set[int], visible: set[int], hanging: set[int], gone: tuple[str, ...] = ()
) -> Evidence:
    return Evidence(frozenset(resolved), frozenset(visible), frozenset(hanging), gone)


@pytest.mark.parametrize(
    ("found", "outcome"),
    [
        (evidence({1, 2}, {1, 2}, set()), TransactionEnd.COMMIT),
        (evidence({1, 2}, {1}, {2}), TransactionEnd.COMMIT),
        (evidence({1, 2}, {1}, set(), DELETED), TransactionEnd.COMMIT),
        (evidence({1, 2}, set(), set()), TransactionEnd.ABORT),
        (evidence({1, 2}, set(), {2}), TransactionEnd.ABORT),
        (evidence({1, 2}, set(), {1, 2}), TransactionEnd.COMMIT),
        (evidence({1, 2}, set(), {1, 2}, DELETED), TransactionEnd.COMMIT),
        (evidence(set(), set(), set()), TransactionEnd.COMMIT),
    ],
)
def test_the_results_tell(found: Evidence, outcome: TransactionEnd) -> None:
    assert decided(found)[0] is outcome


@pytest.mark.parametrize(
    "found",
    [
        evidence({1}, set(), set(), DELETED),
        evidence({1, 2}, set(), {2}, DELETED),
        evidence(set(), set(), set(), DELETED),
    ],
)
def test_what_may_be_deleted_is_not_taken_for_aborted(found: Evidence) -> None:
    with pytest.raises(UndecidedError, match="older records are deleted"):
        decided(found)


def test_changes_that_wait_or_are_sealed_have_no_result_and_those_that_are_watched_have() -> None:
    def item(offset: int) -> Item:
        return Item(f"o{offset}", offset, f"c{offset}", 0, 1, 0)

    body = msgspec.Raw(b"{}")
    records: dict[bytes, journal.Value] = {
        journal.wait_key("i", "o1"): journal.Wait(item(1), body),
        journal.batch_key("b"): journal.SealedBatch("i", 0, 0, (item(2), item(3)), body),
        journal.task_key("b"): journal.Task("t", 0),
        journal.late_key("a", "u"): journal.Late("a", "i", (item(4),), 0, 0),
    }
    fold = Fold()
    for offset, (key, record) in enumerate(records.items()):
        fold.apply(offset, key, journal.encode_value(record))
    assert unresolved(fold) == {1, 2, 3}
