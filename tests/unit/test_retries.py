"""How the waits of a partition follow from its failures."""

from __future__ import annotations

from daemon.runtime.reopening import CALM, REFUSALS_MAX, Retries


def test_failures_count_until_a_commit() -> None:
    retries = Retries()
    assert not retries.unconfirmed
    for count in range(1, 5):
        retries.failed()
        assert retries.in_a_row(0.0) == count
        assert retries.unconfirmed
    retries.committed()
    assert retries.in_a_row(0.0) == 0
    assert not retries.unconfirmed


def test_refusals_block_whatever_is_committed_in_between() -> None:
    retries = Retries()
    for _ in range(REFUSALS_MAX - 1):
        assert not retries.refused()
        retries.failed()
        retries.committed()
    assert retries.refused()


def test_transient_refusals_wait_ever_longer_whatever_is_committed_in_between() -> None:
    retries = Retries()
    for count in range(1, 20):
        retries.deferred(10.0 * count)
        retries.failed()
        retries.committed()
        assert retries.in_a_row(10.0 * count) == count
    assert not retries.unconfirmed


def test_a_transient_refusal_that_has_not_come_back_is_over() -> None:
    retries = Retries()
    for _ in range(9):
        retries.deferred(100.0)
    assert retries.in_a_row(100.0 + CALM) == 9
    assert retries.in_a_row(100.1 + CALM) == 0
    retries.deferred(100.1 + CALM)
    assert retries.in_a_row(100.1 + CALM) == 1
