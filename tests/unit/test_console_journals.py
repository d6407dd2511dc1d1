"""The console's fold of the journals: it knows what the daemon's own fold knows, in less memory."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.console.journals import MINUTE, Journals
from daemon.console.packed import ERROR_MESSAGE_MAX, ERRORS_MAX, Errors, packed_wait, unpacked_wait
from daemon.console.work import Stage
from daemon.core import journal
from daemon.core.journal import Attempt, Late, Position, Refusal, SealedBatch, Task, Wait
from daemon.core.journal_fold import Fold
from daemon.core.model import Error, Item
from tests.unit.console_world import BODY, item

LIMITED = Error("PLATFORM.RATE_LIMIT_EXCEEDED", "Too many requests.")
REPAIR = Error("INTEGRATION.AUTHENTICATION_INVALID", "The credentials are wrong.")
INTEGRATIONS = ("tool:1", "tool:2")


def records() -> st.SearchStrategy[tuple[bytes, journal.Value | None]]:
    """Of few keys, so that later ones replace earlier ones."""
    offsets = st.integers(0, 5)
    times = st.integers(1, 10 * MINUTE)
    items = st.builds(
        Item,
        st.sampled_from("abc"),
        offsets,
        st.sampled_from(("chg-1", "chg-2")),
        times,
        st.just(1),
        st.integers(0, 3),
    )
    attempts = st.builds(Attempt, st.just("b"), st.sampled_from((None, LIMITED, REPAIR)))
    waits = st.builds(Wait, items, st.just(BODY)) | st.builds(
        Wait, items, st.just(BODY), st.none() | times, attempts
    )
    batches = st.builds(
        SealedBatch,
        st.sampled_from(INTEGRATIONS),
        times,
        st.just(0),
        st.lists(items, min_size=1, max_size=3).map(tuple),
        st.just(BODY),
    )
    lates = st.builds(
        Late,
        st.just("b1"),
        st.sampled_from(INTEGRATIONS),
        st.lists(items, max_size=2).map(tuple),
        times,
        times,
    )
    refusals = st.builds(
        Refusal, st.sampled_from(("park", "retry")), st.sampled_from((LIMITED, REPAIR)), times, times
    )
    ids = st.sampled_from(("b1", "b2"))
    return st.one_of(
        st.tuples(
            st.builds(journal.wait_key, st.sampled_from(INTEGRATIONS), st.sampled_from("abc")),
            st.none() | waits,
        ),
        st.tuples(st.builds(journal.batch_key, ids), st.none() | batches),
        st.tuples(st.builds(journal.task_key, ids), st.none() | st.builds(Task, st.just("t"), times)),
        st.tuples(st.builds(journal.refusal_key, ids), st.none() | refusals),
        st.tuples(st.builds(journal.late_key, ids, st.just("t")), st.none() | lates),
    )


@given(st.lists(st.tuples(st.integers(0, 1), records()), max_size=40))
def test_it_counts_what_the_fold_of_the_daemon_holds(
    written: list[tuple[int, tuple[bytes, journal.Value | None]]],
) -> None:
    journals, folds = Journals(), (Fold(), Fold())
    for partition, (key, value) in written:
        encoded = None if value is None else journal.encode_value(value)
        folds[partition].apply(0, key, encoded)
        journals.apply(partition, key, encoded)

    for name in INTEGRATIONS:
        waits = [wait for fold in folds for (of, _), wait in fold.waits.items() if of == name]
        found = [
            (id_, fold, each)
            for fold in folds
            for id_, each in fold.batches.items()
            if each.sealed.integration_id == name
        ]
        late = [each for fold in folds for each in fold.late.values() if each.record.integration_id == name]
        work = journals.work.get(name)
        if not (waits or found or late):
            assert work is None
            continue
        assert work is not None
        assert work.waiting == len(waits)
        assert work.retries == sum(wait.last is not None for wait in waits)
        assert work.for_customer == sum(wait.last is not None and wait.last.error == REPAIR for wait in waits)
        assert len(work.watched) == len(late)
        assert work.tasks == sum(each.task is not None for _, _, each in found)
        stages = Counter(dict.fromkeys(Stage, 0))
        for _, _, each in found:
            stages[Stage.SEALED if each.task is None else Stage.TASK] += len(each.items)
        assert work.changes[Stage.SEALED] == stages[Stage.SEALED]
        assert work.changes[Stage.TASK] == stages[Stage.TASK]
        refused = [
            fold.refusals[id_] for id_, fold, each in found if each.task is None and id_ in fold.refusals
        ]
        assert work.is_parked == (work.for_customer > 0 or any(each.verdict == "park" for each in refused))
        times = [wait.item.consumed_at for wait in waits]
        times += [one.consumed_at for _, _, each in found for one in each.items]
        assert work.oldest == min(times, default=None)
        nexts = [wait.not_before for wait in waits if wait.not_before is not None]
        nexts += [each.not_before for each in refused if each.not_before is not None]
        assert work.next_attempt == min(nexts, default=None)

    minutes: dict[Stage, Counter[int]] = {stage: Counter() for stage in Stage}
    for fold in folds:
        minutes[Stage.WAITING].update(wait.item.consumed_at // MINUTE for wait in fold.waits.values())
        for each in fold.batches.values():
            stage = Stage.SEALED if each.task is None else Stage.TASK
            minutes[stage].update(one.consumed_at // MINUTE for one in each.items)
    assert journals.minutes == minutes
    for number, fold in enumerate(folds):
        kept = journals.partitions.get(number)
        counts = (0, 0, 0, 0) if kept is None else (kept.waiting, kept.sealed, kept.tasks, kept.watched)
        accepted = sum(each.task is not None for each in fold.batches.values())
        assert counts == (len(fold.waits), len(fold.batches) - accepted, accepted, len(fold.late))

    journals.clear(0)
    journals.clear(1)
    assert journals.work == {}
    assert not any(counted for counted in journals.minutes.values())


def test_a_packed_change_is_the_one_that_was_packed() -> None:
    errors = Errors()
    attempt = Attempt("b-1", LIMITED, "task-1", 1, 2)
    wait = Wait(Item("course", 7, "chg-7", 5, 2, 3), BODY, 99, attempt, bulk=True)
    found = unpacked_wait(packed_wait(wait, errors), errors)
    assert found == (5, 99, 7, True, False, True, 3, LIMITED, "chg-7", "b-1", "task-1")
    first = unpacked_wait(packed_wait(Wait(item(1, "c", 4), BODY), errors), errors)
    assert (first.is_retry, first.not_before, first.error, first.batch_id) == (False, None, None, None)


def test_numbers_that_no_clock_has_are_taken_too() -> None:
    errors = Errors()
    odd = Wait(Item("c", -1, "x", -5, 1, 10**9), BODY, 2**70, Attempt("b"))
    found = unpacked_wait(packed_wait(odd, errors), errors)
    assert (found.consumed_at, found.offset, found.failures) == (0, 0, 65_535)


def test_different_messages_of_errors_are_bounded() -> None:
    errors = Errors()
    numbers = {
        errors.number(Error("CODE", f"task {number} failed {'x' * 1000}"))
        for number in range(ERRORS_MAX + 50)
    }
    assert len(numbers) == ERRORS_MAX + 1
    last = errors[max(numbers)]
    assert last == Error("CODE", "")
    first = errors[min(numbers)]
    assert first is not None
    assert len(first.message) == ERROR_MESSAGE_MAX


def test_a_record_that_cannot_be_read_counts_until_its_key_has_another() -> None:
    journals = Journals()
    key = journal.wait_key("tool:1", "a")
    journals.apply(0, key, b"damaged")
    assert len(journals.partitions[0].unreadable) == 1
    journals.apply(0, key, journal.encode_value(Wait(item(1, "a", 1), BODY)))
    assert journals.partitions[0].unreadable == {}
    journals.apply(0, key, b"damaged")
    journals.apply(0, key, None)
    assert journals.partitions[0].unreadable == {}


def test_a_newer_journal_is_recognised() -> None:
    journals = Journals()
    newer = Position(journal.FORMAT + 1, 1, "id", 1, 0)
    journals.apply(0, journal.POSITION_KEY, journal.encode_value(newer))
    (error,) = journals.partitions[0].unreadable.values()
    assert isinstance(error, journal.NewerJournalError)


def test_the_oldest_waiting_changes_come_first() -> None:
    journals = Journals()
    for offset, age in enumerate((5, 1, 9, 3)):
        wait = Wait(item(offset, f"c{offset}", 1000 - age), BODY)
        journals.apply(offset % 2, journal.wait_key("tool:1", f"c{offset}"), journal.encode_value(wait))
    assert [each.origin_id for each in journals.oldest_waiting("tool:1", 3)] == ["c2", "c0", "c3"]
    assert journals.oldest_waiting("unknown", 3) == []


@pytest.mark.parametrize("wanted", ["chg-2", "b-2", "task-2"])
def test_a_waiting_change_is_found_by_its_ids_and_not_by_a_part_of_one(wanted: str) -> None:
    journals = Journals()
    for offset in (2, 22):
        last = Attempt(f"b-{offset}", LIMITED, f"task-{offset}")
        wait = Wait(item(offset, f"c{offset}", 1), BODY, 5, last)
        journals.apply(0, journal.wait_key("tool:1", f"c{offset}"), journal.encode_value(wait))
    assert [each.origin_id for each in journals.waits_with(wanted, 10)] == ["c2"]
