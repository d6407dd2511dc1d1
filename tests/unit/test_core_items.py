"""The items of open batches are held as bytes, and unpacked when the batch ends."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from daemon.core import items as items_module
from daemon.core import journal
from daemon.core.answers import PollAnswer
from daemon.core.control import GiveUp
from daemon.core.items import Items
from daemon.core.judge import Judge
from daemon.core.model import Item
from daemon.core.verdict import SubmitVerdict
from tests.unit.core_bench import TOPIC_ID, UNANSWERED, Bench, failed, refused, succeeded

DAY = 86_400.0
ITEMS = (
    Item("a", 0, "chg-1", 1_790_000_000_500, 1, 0, b"sixteen bytes, 1"),
    Item("Übung \U0001f600", 2**40, "", 1_790_000_000_000, 3, 12),
)


def test_packed_items_are_the_same_items() -> None:
    packed = Items.pack(ITEMS)
    assert packed.unpack() == tuple(packed) == ITEMS
    assert packed[1] == ITEMS[1]
    assert (len(packed), packed.consumed_at) == (2, 1_790_000_000_000)
    assert packed == Items.pack(ITEMS) != Items.pack(ITEMS[:1])
    assert (len(Items.pack(())), Items.pack(()).unpack()) == (0, ())


def test_a_change_takes_few_bytes() -> None:
    """A million of them are 60 MB."""
    items = [
        Item(f"course-{n:09d}", 10**6 + n, f"chg-1-{n}", 1_790_000_000_000, 1, 0, bytes(16))
        for n in range(100)
    ]
    assert len(Items.pack(items).packed) < 62 * len(items)


# --- when they are unpacked -----------------------------------------------------------------------


def times_unpacked(act: Callable[[], object]) -> int:
    items_module._unpacked.cache_clear()
    act()
    return items_module._unpacked.cache_info().misses


def count_everything(bench: Bench) -> None:
    shard = bench.shard
    assert shard.count_held() == 3
    assert shard.pending_items == sum(len(task.items) for task in shard.tasks())
    shard.submissions()
    shard.waits()
    shard.timeout_ratio(bench.now.wall)


def test_counting_and_polls_that_end_nothing_do_not_unpack() -> None:
    bench = Bench()
    batch = bench.accepted("a", "b")
    bench.seal("c")
    bench.publish("a")
    bench.shard.tick(bench.now)

    def nothing_ends() -> None:
        for answer in (bench.pending(1), UNANSWERED, refused(500), bench.pending(60)):
            bench.poll_answer(batch, answer)
        bench.linger()

    assert times_unpacked(nothing_ends) == 0
    assert bench.waiting() == {"course_busy": 1}


def test_a_restore_packs_and_does_not_unpack() -> None:
    bench = Bench()
    bench.accepted("a", "b")
    bench.seal("c")
    assert times_unpacked(bench.crash) == 0
    assert times_unpacked(lambda: count_everything(bench)) == 0
    bench.publish("a")
    assert bench.linger() == [], "its course is busy"
    assert bench.journal_of(bench.shard) == bench.journal_now()


def test_the_fold_keeps_no_item_as_an_object() -> None:
    bench = Bench()
    batch = bench.accepted("a", "b")
    bench.poll_answer(batch, bench.pending(2 * DAY))
    bench.accepted("c")
    fold = bench.fold(bench.records)
    (kept,), (late,) = fold.batches.values(), fold.late.values()
    assert (kept.sealed.items, late.record.items) == ((), ())
    assert (kept.courses, [item.origin_id for item in kept.items]) == (["c"], ["c"])
    assert [item.origin_id for item in late.items] == ["a", "b"]


ENDS: dict[str, Callable[[Bench], PollAnswer]] = {
    "success": lambda bench: bench.completed(succeeded("a"), succeeded("b"), succeeded("c")),
    "failed together": lambda bench: bench.completed(failed("a"), failed("b"), failed("c")),
    "sent again in part": lambda bench: bench.completed(succeeded("a"), failed("b")),
    "an earlier task": lambda bench: bench.completed(created_at=bench.created_at - 3_600_000),
    "failed": lambda bench: bench.task_failed("REMOTE.UNKNOWN_AND_FINAL"),
    "split": lambda bench: bench.task_failed("REMOTE.INPUT_INVALID"),
    "sent again": lambda bench: bench.task_failed("REMOTE.SERVICE_UNAVAILABLE"),
    "timed out": lambda bench: bench.pending(2 * DAY),
}


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("end", ENDS)
def test_a_verdict_unpacks_once(end: str, restarted: bool) -> None:
    bench = Bench()
    batch = bench.accepted("a", "b", "c")
    if restarted:
        bench.crash()
        batch = bench.shard._memory.batches[batch.id]
    answer = ENDS[end](bench)
    assert times_unpacked(lambda: bench.poll_answer(batch, answer)) == 1
    assert batch.id not in bench.shard._memory.batches
    memory = bench.shard._memory
    places = [item.offset for each in memory.batches.values() for item in each.items]
    places += [held.item.offset for lane in memory.waiting.lanes.values() for held in lane.held.values()]
    assert sorted([*places, *bench.results]) == [0, 1, 2]


def test_a_lost_task_stays_packed_and_its_next_end_unpacks_once() -> None:
    bench = Bench()
    batch = bench.accepted("a", "b")
    assert times_unpacked(lambda: bench.poll_answer(batch, refused(404))) == 0
    bench.accept(batch)
    answer = bench.completed(succeeded("a"), succeeded("b"))
    assert times_unpacked(lambda: bench.poll_answer(batch, answer)) == 1
    assert bench.statuses() == {0: ("SUCCEEDED", None), 1: ("SUCCEEDED", None)}


@pytest.mark.parametrize("restarted", [False, True])
def test_a_late_task_is_packed_as_well(restarted: bool) -> None:
    bench = Bench()
    batch = bench.accepted("a", "b")
    bench.poll_answer(batch, bench.pending(2 * DAY))
    if restarted:
        bench.crash()
    late = bench.late(batch)
    assert late.record.items == ()
    assert (
        times_unpacked(lambda: [bench.late_answer(late, each) for each in (bench.pending(), UNANSWERED)]) == 0
    )
    answer = bench.completed(succeeded("a"), failed("b"))
    assert times_unpacked(lambda: bench.late_answer(late, answer)) == 1
    assert [(each.result.offset, each.result.change_id) for each in bench.corrections] == [
        (offset, bench.results[offset].change_id) for offset in (0, 1)
    ]


def test_the_record_of_a_late_task_has_its_items() -> None:
    bench = Bench()
    batch = bench.accepted("a", "b")
    items = batch.items.unpack()
    bench.poll_answer(batch, bench.pending(2 * DAY))
    (value,) = (value for key, value in bench.journal_now().items() if key.startswith(b'["late"'))
    _, record = journal.decode(journal.late_key(batch.id, "task-1"), value)
    assert isinstance(record, journal.Late)
    assert record.items == items


@pytest.mark.parametrize(("status", "verdict"), [(413, SubmitVerdict.SPLIT), (404, SubmitVerdict.FAIL)])
def test_a_refusal_unpacks_once(status: int, verdict: SubmitVerdict) -> None:
    bench = Bench()
    batch = bench.seal("a", "b")
    answer = refused(status, "PLATFORM.UNKNOWN_AND_FINAL")
    verdicts: list[SubmitVerdict] = []
    assert times_unpacked(lambda: verdicts.append(bench.submit_answer(batch, answer))) == 1
    assert verdicts == [verdict]
    assert batch.id not in bench.shard._memory.batches


def test_what_operators_give_up_unpacks_once() -> None:
    bench = Bench()
    waiting, task = bench.seal("a", "b"), bench.accepted("c", "d")
    bench.poll_answer(task, bench.pending(1))
    decision = GiveUp("hr:1", None, True, TOPIC_ID, (0, 0, 0, bench.published), "op@host", None, 0)
    assert times_unpacked(lambda: bench.decide(decision)) == 2, "one for each batch"
    assert bench.statuses() == {
        **dict.fromkeys((0, 1), ("FAILED", "COURSESYNC.GIVEN_UP")),
        **dict.fromkeys((2, 3), ("TIMED_OUT", "COURSESYNC.GIVEN_UP")),
    }
    assert waiting.id not in bench.shard._memory.batches
    assert len(bench.late(task).items) == 2


def test_batches_in_turn_do_not_take_each_others_items() -> None:
    bench = Bench()
    one, two = bench.accepted("a", "b"), bench.accepted("c")
    judge = Judge(bench.policies)
    answers = {
        one.id: bench.completed(succeeded("a"), failed("b")),
        two.id: bench.completed(succeeded("c")),
    }
    tasks = {batch.id: batch.task() for batch in (one, two)}
    rulings = {}
    for id_, task in tasks.items():
        assert task is not None
        rulings[id_] = judge.poll(task, answers[id_], 0, bench.now)
    for batch in (
        one,
        two,
    ):  # all were judged before the first ruling is carried out, as while a body is read back
        bench.shard.poll_answered(batch.id, answers[batch.id], rulings[batch.id], None, 1, bench.now)
    bench.commit()
    assert [result.origin_id for _, result in sorted(bench.results.items())] == ["a", "b", "c"]
