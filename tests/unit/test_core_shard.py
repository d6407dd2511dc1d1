"""A shard from input to batch: when it seals, what it journals, what a crash leaves."""

import pytest

from daemon.core import journal
from daemon.core.batch import Batch
from daemon.core.step import BatchSealed, Trigger
from tests.unit.core_bench import START, UNANSWERED, Bench, settings_with, succeeded


@pytest.fixture
def bench() -> Bench:
    return Bench(settings_with(batch={"items_max": 4, "bytes_max": 4096}, window={"batches_max": 2}))


def triggers(bench: Bench) -> list[Trigger]:
    return [fact.trigger for fact in bench.facts if isinstance(fact, BatchSealed)]


def offsets(batches: list[Batch]) -> list[list[int]]:
    return [[item.offset for item in batch.items] for batch in batches]


# --- when it seals --------------------------------------------------------------------------------


def test_nothing_is_due_while_there_is_nothing(bench: Bench) -> None:
    assert bench.shard.due() is None
    assert bench.shard.take_step() is None


def test_changes_wait_for_company_no_longer_than_the_linger(bench: Bench) -> None:
    bench.publish("a")
    assert bench.due() == START.mono + bench.settings.batch.linger
    bench.pass_time(0.5)
    bench.publish("b")
    bench.shard.tick(bench.now)
    assert bench.shard.take_step() is None
    bench.pass_time(0.5)
    bench.shard.tick(bench.now)
    assert offsets(bench.commit()) == [[0, 1]]
    assert triggers(bench) == [Trigger.LINGER]
    assert bench.shard.due() is None


def test_a_full_batch_goes_at_once(bench: Bench) -> None:
    bench.publish("a", "b", "c")
    assert bench.due() > bench.now.mono
    bench.publish("d")
    assert bench.due() <= bench.now.mono
    bench.shard.tick(bench.now)
    assert offsets(bench.commit()) == [[0, 1, 2, 3]]
    assert triggers(bench) == [Trigger.ITEMS]


def test_a_batch_full_of_bytes_goes_at_once(bench: Bench) -> None:
    big = b'{"origin_id":"x","course":"' + b"x" * 3000 + b'"}'
    bench.read(bench.change("a", body=big), bench.change("b", body=big))
    bench.shard.tick(bench.now)
    batches = bench.commit()
    assert offsets(batches) == [[0], [1]]
    assert triggers(bench)[0] is Trigger.BYTES


def test_a_change_larger_than_a_batch_goes_alone(bench: Bench) -> None:
    bench.read(bench.change("a"), bench.change("b", body=b'{"x":"' + b"x" * 9000 + b'"}'))
    assert offsets(bench.linger()) == [[0], [1]]


def test_when_one_lane_is_full_those_half_full_go_too_and_the_rest_with_the_linger(bench: Bench) -> None:
    bench.publish("x", integration_id="hr:little")
    bench.publish("x", "y", integration_id="hr:half")
    bench.publish("a", "b", "c", "d", integration_id="hr:full")
    bench.shard.tick(bench.now)
    assert offsets(bench.commit()) == [[1, 2], [3, 4, 5, 6]]
    assert bench.held("x", "hr:little").durable
    assert offsets(bench.linger()) == [[0]]


def test_a_batch_never_mixes_integrations(bench: Bench) -> None:
    for number in range(6):
        bench.publish(f"c{number}", integration_id=f"hr:{number % 2}")
    batches = bench.linger()
    assert {batch.integration_id for batch in batches} == {"hr:0", "hr:1"}
    assert offsets(batches) == [[0, 2, 4], [1, 3, 5]]


def test_the_body_is_what_the_api_expects_and_each_item_as_it_came(bench: Bench) -> None:
    batch = bench.seal("a", "b")
    assert batch.body == (
        b'{"items":[{"origin_id":"a","course":{"title":"version 0"}},'
        b'{"origin_id":"b","course":{"title":"version 1"}}]}'
    )


def test_batch_ids_are_never_given_twice(bench: Bench) -> None:
    """Over restarts, retries and splits: the id is part of what the world sees."""
    seen = set()
    for _ in range(3):
        batch = bench.accepted("a", "b")
        seen.add(batch.id)
        bench.poll_answer(batch, bench.task_failed("REMOTE.INPUT_INVALID"))
        halves = list(bench.shard._memory.batches.values())
        assert seen.isdisjoint(half.id for half in halves)
        seen |= {half.id for half in halves}
        for half in halves:
            bench.accept(half)
            bench.poll_answer(half, bench.task_failed("REMOTE.SERVICE_UNAVAILABLE"))
        bench.crash()
        bench.pass_time(120)
        bench.shard.tick(bench.now)
        for again in bench.commit() + bench.linger():
            assert again.id not in seen
            seen.add(again.id)
            bench.accept(again)
            bench.poll_answer(again, bench.task_failed("LMS.COURSE_ARCHIVED"))
    assert len(seen) == 3 * 4


# --- the window -----------------------------------------------------------------------------------


def test_no_more_batches_than_the_window_are_open_and_the_rest_goes_on_collapsing(bench: Bench) -> None:
    bench.publish(*"abcdefgh")
    bench.publish("i", "j")
    assert len(bench.linger()) == 2
    assert bench.waiting() == {"window": 2}
    bench.publish("i")
    assert bench.linger() == []
    assert bench.statuses() == {8: ("SUPERSEDED", None)}
    batch = next(iter(bench.shard._memory.batches.values()))
    bench.accept(batch)
    bench.poll_answer(batch, bench.completed(*map(succeeded, "abcd")))
    assert offsets(bench.linger()) == [[10, 9]], "a newer change inherits the place of the one it replaces"


def test_the_window_of_one_integration_does_not_hold_back_another(bench: Bench) -> None:
    bench.publish(*"abcdefghi", integration_id="hr:1")
    bench.linger()
    bench.publish("a", integration_id="hr:2")
    assert len(bench.linger()) == 1


def test_the_window_is_folded_from_the_journal(bench: Bench) -> None:
    bench.publish(*"abcdefghi")
    bench.linger()
    bench.crash()
    assert bench.linger() == []
    assert bench.shard.waiting == 1


def test_a_place_that_was_freed_is_taken_at_once_by_a_full_lane(bench: Bench) -> None:
    bench.publish(*"abcdefghijkl")
    batches = bench.linger()
    assert len(batches) == 2
    bench.accept(batches[0])
    bench.poll_answer(batches[0], bench.completed(*map(succeeded, "abcd")))
    assert bench.due() <= bench.now.mono
    bench.shard.tick(bench.now)
    assert offsets(bench.commit()) == [[8, 9, 10, 11]]


# --- steps ----------------------------------------------------------------------------------------


def test_the_position_moves_only_with_what_was_decided(bench: Bench) -> None:
    """Offsets have no gaps: every change before the position is in a result, a batch or a wait record."""
    bench.publish("a", "b")
    bench.shard.want_position()
    assert bench.step().next_offset == 0
    bench.shard.tick(bench.now._replace(mono=bench.now.mono + 2))
    step = bench.step()
    assert (step.next_offset, step.consumed) == (2, 2)


def test_records_that_hold_nothing_for_us_move_the_position_too(bench: Bench) -> None:
    """Transaction markers and aborted records take offsets."""
    bench.shard.read([], 7, bench.now)
    bench.linger()
    bench.crash()
    assert bench.shard.next_read == 7


def test_a_position_can_be_asked_for_to_prove_ownership(bench: Bench) -> None:
    """R5, R6: an empty transaction of a fenced producer commits; one with a record does not."""
    assert bench.shard.take_step() is None
    bench.shard.want_position()
    step = bench.step()
    assert [key for key, _ in step.journal] == [journal.POSITION_KEY]
    assert bench.shard.take_step() is None


def test_a_crash_before_the_commit_reads_the_same_changes_again(bench: Bench) -> None:
    bench.publish("a")
    bench.pass_time(1)
    bench.shard.tick(bench.now)
    lost = bench.step()
    assert lost.batches
    bench.crash()
    assert bench.shard.next_read == 0
    assert bench.shard._memory.batches == {}


def test_what_arrives_while_a_step_is_being_committed_joins_the_next(bench: Bench) -> None:
    bench.publish("a")
    bench.pass_time(1)
    bench.shard.tick(bench.now)
    step = bench.step()
    bench.publish("b")
    bench.pass_time(1)
    bench.shard.tick(bench.now)
    assert offsets(bench.land(step)) == [[0]]
    assert offsets(bench.commit()) == [[1]]


def test_a_wait_that_came_and_went_within_a_step_is_not_written(bench: Bench) -> None:
    bench.publish("a", "a")
    bench.linger()
    assert [key for _, key, _ in bench.records if b"wait" in key] == []


def test_a_wait_record_is_removed_when_its_change_is_sealed(bench: Bench) -> None:
    first = bench.accepted("a")
    bench.publish("a")
    bench.linger()
    key = journal.wait_key("hr:1", "a")
    assert key in bench.journal_now()
    bench.publish("a")
    bench.poll_answer(first, bench.completed(succeeded("a")))
    bench.linger()
    assert key not in bench.journal_now()
    assert bench.statuses()[1] == ("SUPERSEDED", None)


def test_a_wait_that_replaces_one_in_the_journal_and_is_sealed_at_once_leaves_no_record(bench: Bench) -> None:
    """Replaced and sealed within one step: the tombstone is for the older one's record."""
    first = bench.accepted("a")
    bench.publish("a")
    bench.linger()
    bench.polled(first, bench.completed(succeeded("a")))
    bench.publish("a")
    bench.pass_time(1)
    bench.shard.tick(bench.now)
    (sealed,) = bench.commit()
    assert [item.offset for item in sealed.items] == [2]
    assert bench.journal_of(bench.shard) == bench.journal_now()


# --- clocks ---------------------------------------------------------------------------------------


def test_a_clock_set_back_over_a_restart_makes_no_back_off_longer_than_it_can_be(bench: Bench) -> None:
    batch = bench.accepted("a")
    bench.poll_answer(batch, bench.task_failed("REMOTE.SERVICE_UNAVAILABLE"))
    bench.now = bench.now._replace(wall=bench.now.wall - 30 * 86_400_000)
    bench.crash()
    bench.shard.tick(bench.now)
    assert bench.due() - bench.now.mono <= bench.settings.park.probe_max


def test_a_clock_set_back_while_running_changes_no_back_off(bench: Bench) -> None:
    batch = bench.accepted("a")
    bench.poll_answer(batch, bench.task_failed("REMOTE.SERVICE_UNAVAILABLE"))
    bench.now = bench.now._replace(wall=bench.now.wall - 30 * 86_400_000)
    bench.pass_time(bench.settings.retry.backoff_max)
    bench.shard.tick(bench.now)
    assert len(bench.linger()) == 1


# --- memory ---------------------------------------------------------------------------------------


def test_the_payload_of_an_accepted_batch_is_not_held(bench: Bench) -> None:
    batch = bench.seal("a")
    body = batch.body
    bench.submit_answer(batch, UNANSWERED)
    assert batch.body == body
    bench.accept(batch)
    assert batch.body is None
    assert bench.body(batch) == body
    bench.crash()
    restored = bench.shard._memory.batches[batch.id]
    assert restored.body is None
    assert bench.body(restored) == body


def test_what_was_left_for_the_linger_goes_after_a_restart_without_any_new_input() -> None:
    bench = Bench(settings_with(batch={"items_max": 4}))
    bench.publish("x", integration_id="hr:little")
    bench.publish("a", "b", "c", "d", integration_id="hr:full")
    bench.shard.tick(bench.now)
    assert offsets(bench.commit()) == [[1, 2, 3, 4]]
    bench.crash()
    assert bench.due() <= bench.now.mono
    assert offsets(bench.linger()) == [[0]]


def test_what_has_sat_out_its_back_off_goes_without_any_new_input(bench: Bench) -> None:
    batch = bench.accepted("a")
    bench.poll_answer(batch, bench.task_failed("REMOTE.SERVICE_UNAVAILABLE"))
    sealed = []
    for _ in range(20):
        due = bench.shard.due()
        if due is None:
            break
        bench.pass_time(max(0.0, due - bench.now.mono))
        bench.shard.tick(bench.now)
        sealed += bench.commit()
    assert offsets(sealed) == [[0]]


def test_an_open_task_counts_from_its_creation_and_until_that_is_known_from_its_acceptance() -> None:
    bench = Bench()
    batch = bench.accepted("a")
    accepted = bench.now.wall
    bench.seal("b", integration_id="hr:2")  # without a task
    assert list(bench.shard.created()) == [accepted]

    bench.created_at = accepted - 7
    bench.poll_answer(batch, bench.pending(age=5.0))
    assert list(bench.shard.created()) == [accepted - 7]


def test_an_integration_of_which_nothing_waits_can_be_parked() -> None:
    bench = Bench()
    bench.shard._memory.park("hr:1")
    assert bench.waiting() == {}
    bench.shard._memory.park("hr:1", parked=False)
    assert bench.seal("a").items[0].origin_id == "a"


def test_a_task_that_nobody_watches_is_no_late_task() -> None:
    assert Bench().shard.late_task("task-1") is None
