"""Bulk does not delay an edit (R21): who is sealed and sent first, which places stay free, and that nobody starves."""

from __future__ import annotations

import random

import msgspec
import pytest

from daemon.config import Policies, Settings
from daemon.core.answers import Accepted, TaskCompleted
from daemon.core.batch import Batch
from daemon.core.flow import Flow
from daemon.core.lane import QUEUE_SLACK
from daemon.core.model import Change
from daemon.core.priority import NORMAL_IN_A_ROW_MAX, TurnQueue, bulk_places
from daemon.core.verdict import SubmitVerdict
from tests.unit.core_bench import Bench, failed, settings_with, succeeded


@pytest.fixture
def bench() -> Bench:
    return Bench(settings_with(batch={"items_max": 2}, window={"batches_max": 4}))


def bulk(change: Change) -> Change:
    return msgspec.structs.replace(change, bulk=True)


def load(bench: Bench, *origin_ids: str, integration_id: str = "hr:1") -> None:
    """Bulk changes of these courses are read."""
    bench.read(*[bulk(bench.change(origin_id, integration_id)) for origin_id in origin_ids])


def courses(batches: list[Batch]) -> list[list[str]]:
    return [[item.origin_id for item in batch.items] for batch in batches]


def complete(bench: Bench, batch: Batch) -> None:
    bench.accept(batch)
    bench.poll_answer(
        batch,
        TaskCompleted(
            bench.created_at, bench.created_at, tuple(succeeded(item.origin_id) for item in batch.items)
        ),
    )


# --- sealing --------------------------------------------------------------------------------------


def test_what_is_bulk_is_sealed_after_what_is_not_and_never_with_it(bench: Bench) -> None:
    load(bench, "l1", "l2", "l3")
    bench.publish("e1")
    batches = bench.linger()
    assert courses(batches) == [["e1"], ["l1", "l2"], ["l3"]]
    assert [batch.bulk for batch in batches] == [False, True, True]


def test_a_single_edit_goes_before_a_full_batch_of_bulk_and_does_not_linger(bench: Bench) -> None:
    bench.publish("e1")
    load(bench, "l1", "l2")
    bench.shard.tick(bench.now)
    assert courses(bench.commit()) == [["e1"], ["l1", "l2"]]


def test_bulk_never_takes_the_whole_window(bench: Bench) -> None:
    load(bench, *(f"l{number}" for number in range(20)))
    assert courses(bench.linger()) == [["l0", "l1"], ["l2", "l3"], ["l4", "l5"]]
    assert bench.shard.due() is None, "nothing is due until a place is free"
    bench.publish("e1")
    (edit,) = bench.linger()
    assert courses([edit]) == [["e1"]]
    bench.publish("e2")
    assert bench.linger() == [], "the window is full"
    first = next(iter(bench.shard._memory.batches.values()))
    complete(bench, first)
    bench.commit()
    assert courses(bench.linger()) == [["e2"]], "a place that bulk leaves goes to an edit"
    complete(bench, edit)
    bench.shard.tick(bench.now)
    assert courses(bench.commit()) == [["l6", "l7"]], "one of the places that bulk had"


@pytest.mark.parametrize(("places", "for_bulk"), [(1, 1), (2, 1), (3, 2), (4, 3), (8, 6), (100, 75)])
def test_how_many_places_bulk_may_take(places: int, for_bulk: int) -> None:
    assert bulk_places(places) == for_bulk


def test_among_many_slow_lanes_an_edit_passes_the_bulk_batch_of_its_own(bench: Bench) -> None:
    """`window.batches_max_per_partition`: its second half is for lanes without an open batch."""
    bench = Bench(settings_with(window={"batches_max_per_partition": 4}))
    for number in range(2):
        load(bench, "l", integration_id=f"hr:{number}")
    assert len(bench.linger()) == 2
    load(bench, "m", integration_id="hr:0")
    assert bench.linger() == []
    bench.publish("e", integration_id="hr:0")
    assert courses(bench.linger()) == [["e"]]
    bench.publish("f", integration_id="hr:0")
    assert bench.linger() == [], "it has one open now"


def test_bulk_is_not_starved() -> None:
    """Every eighth batch is bulk while both wait, even where a bulk batch would not be full."""
    bench = Bench(settings_with(batch={"items_max": 1}, window={"batches_max": 100}))
    load(bench, "l0", "l1")
    bench.publish(*(f"e{number}" for number in range(20)))
    bench.shard.tick(bench.now)
    sealed = courses(bench.commit())
    edits = NORMAL_IN_A_ROW_MAX
    assert [course.startswith("l") for (course,) in sealed[: 2 * edits + 2]] == [
        *[False] * edits,
        True,
        *[False] * edits,
        True,
    ]
    assert len(sealed) == 22


def test_edits_that_meet_no_bulk_do_not_count_for_its_turn() -> None:
    bench = Bench(settings_with(batch={"items_max": 1}, window={"batches_max": 100}))
    bench.publish(*(f"e{number}" for number in range(20)))
    bench.shard.tick(bench.now)
    bench.commit()
    load(bench, "l0")
    bench.publish("f0")
    bench.shard.tick(bench.now)
    assert courses(bench.commit()) == [["f0"], ["l0"]]


# --- one course -----------------------------------------------------------------------------------


def test_an_edit_that_supersedes_a_waiting_bulk_change_does_not_stand_in_its_queue(bench: Bench) -> None:
    load(bench, *(f"l{number}" for number in range(10)))
    bench.linger()
    bench.publish("l9")
    assert courses(bench.linger()) == [["l9"]]
    assert bench.results[9].status == "SUPERSEDED"
    assert not bench.shard._memory.waiting.lanes["hr:1"].bulk.get("l9")


def test_the_queue_does_not_grow_with_courses_that_have_left_it() -> None:
    """C6: edits take all courses of each load out of its queue."""
    bench = Bench(settings_with(batch={"items_max": 1000}, window={"batches_max": 1}))
    bench.seal("first")
    lane = bench.shard._memory.waiting.lanes["hr:1"]
    for turn in range(4):
        names = [f"{turn}-{number}" for number in range(700)]  # those of the turn before are busy
        load(bench, *names)
        bench.publish(*names)
        assert bench.linger() == [], "the window is full"
        complete(bench, next(iter(bench.shard._memory.batches.values())))
        (batch,) = bench.linger()
        assert len(batch.items) == len(names)
        assert len(lane.bulk._courses) <= QUEUE_SLACK


def test_a_bulk_change_that_supersedes_an_edit_keeps_its_place(bench: Bench) -> None:
    load(bench, *(f"l{number}" for number in range(6)))
    bench.linger()
    bench.publish("e1")
    load(bench, "e1")
    assert courses(bench.linger()) == [["e1"]]
    assert bench.results[6].status == "SUPERSEDED"


def test_a_bulk_change_waits_for_the_open_submission_of_its_course_like_any_other(bench: Bench) -> None:
    batch = bench.seal("a")
    load(bench, "a")
    assert bench.linger() == []
    complete(bench, batch)
    bench.commit()
    assert courses(bench.linger()) == [["a"]]


def test_an_edit_that_fails_while_a_bulk_change_of_its_course_waits_leaves_it_its_place(bench: Bench) -> None:
    """R10 ends the edit, which would have been sent again. Whoever waits for it waits for the bulk change now."""
    edit = bench.accepted("e1")
    load(bench, "e1")
    bench.linger()
    assert bench.held("e1").bulk
    bench.poll_answer(edit, bench.task_failed("REMOTE.SERVICE_UNAVAILABLE"))
    bench.commit()
    assert bench.results[0].status == "FAILED"
    assert not bench.held("e1").bulk
    bench.crash()
    assert not bench.held("e1").bulk
    (batch,) = bench.linger()
    assert not batch.bulk


def test_a_bulk_change_that_fails_lends_nothing_to_the_one_that_waits(bench: Bench) -> None:
    load(bench, "l1")
    (batch,) = bench.linger()
    bench.accept(batch)
    load(bench, "l1")
    bench.linger()
    bench.poll_answer(batch, bench.task_failed("REMOTE.SERVICE_UNAVAILABLE"))
    bench.commit()
    assert bench.held("l1").bulk


# --- what becomes of a batch ----------------------------------------------------------------------


def test_the_priority_survives_a_restart(bench: Bench) -> None:
    load(bench, *(f"l{number}" for number in range(10)))
    bench.linger()
    bench.publish("e1")
    bench.shard.tick(bench.now)
    bench.shard.want_position()
    bench.commit()
    bench.crash()
    assert bench.held("l9").bulk
    assert sum(batch.bulk for batch in bench.shard._memory.batches.values()) == 3
    assert all(submission.bulk for submission in bench.shard._memory.batches.values())
    bench.publish("e2")
    assert courses(bench.linger()) == [["e2"]]


def test_a_bulk_change_is_bulk_again_after_a_failure(bench: Bench) -> None:
    load(bench, "l1")
    (batch,) = bench.linger()
    bench.accept(batch)
    outcome = TaskCompleted(bench.created_at, bench.created_at, (failed("l1", "REMOTE.SERVICE_UNAVAILABLE"),))
    bench.poll_answer(batch, outcome)
    bench.commit()
    assert bench.held("l1").bulk
    bench.crash()
    assert bench.held("l1").bulk
    bench.pass_time(120)
    bench.shard.tick(bench.now)
    (batch,) = bench.linger()
    assert batch.bulk


def test_the_halves_of_a_bulk_batch_are_bulk(bench: Bench) -> None:
    load(bench, "l1", "l2")
    (batch,) = bench.linger()
    bench.accept(batch)
    bench.poll_answer(batch, bench.task_failed("REMOTE.INPUT_INVALID"))
    halves = list(bench.shard._memory.batches.values())
    assert courses(halves) == [["l1"], ["l2"]]
    assert all(half.bulk for half in halves)


# --- sending --------------------------------------------------------------------------------------


def test_what_is_bulk_is_sent_after_what_is_not() -> None:
    flow: Flow[str] = Flow(Settings(), Policies(Settings()), random.Random(0))
    for number in range(3):
        flow.offer("i", f"bulk {number}", bulk=True)
    flow.offer("i", "edit")
    flow.offer("i", "late edit", 5.0)
    flow.offer("i", "late bulk", 5.0, bulk=True)
    sent = []
    now = 10.0
    while (permit := flow.next_submission(now)) is not None:
        sent.append(permit.ref)
        assert flow.try_send(permit, now)
        answer = Accepted("task", api_time=None, concurrency_limit=1, concurrency_remaining=0)
        flow.submission_done(permit, answer, SubmitVerdict.ACCEPTED, now)
    assert sent == ["edit", "late edit", "bulk 0", "bulk 1", "bulk 2", "late bulk"]


def test_what_is_bulk_is_sent_in_its_turn() -> None:
    queue: TurnQueue[int] = TurnQueue()
    for number in range(20):
        queue.append(number, bulk=False)
    queue.append(100, bulk=True)
    assert [queue.popleft() for _ in range(9)] == [0, 1, 2, 3, 4, 5, 6, 100, 7]
    queue.keep(lambda number: number > 17)
    assert len(queue) == 2


def test_an_empty_queue_has_no_next() -> None:
    with pytest.raises(IndexError):
        TurnQueue[int]().popleft()
