"""What a shard may hold back: both counts and the bytes, pausing and rejecting, and the window of the shard."""

import random

import msgspec
import pytest

from daemon import config
from daemon.codec import encode_dead_letter
from daemon.core import step
from daemon.core.backlog import RESUME_SHARE, Backlog
from daemon.core.batch import Batch
from daemon.core.model import RejectReason
from daemon.core.verdict import SubmitVerdict
from tests.unit.core_bench import Bench, refused, settings_with, succeeded

FULL = ("REJECTED", "COURSESYNC.BACKLOG_FULL")


def bench_with(
    on_full: str = "pause", window: int = 1, places: int = 10_000, items_max: int = 100, **backlog: int
) -> Bench:
    """Each integration may have one open batch, so that whatever comes behind it waits."""
    return Bench(
        settings_with(
            batch={"items_max": items_max},
            window={"batches_max": window, "batches_max_per_partition": places},
            backlog={"on_full": on_full, **backlog},
        )
    )


def keep_busy(bench: Bench, *integration_ids: str) -> None:
    for integration_id in integration_ids or ("hr:1",):
        bench.accepted("busy", integration_id=integration_id)


def paused(bench: Bench, was: bool = False) -> bool:
    return bench.shard.backlog_is_full(paused=was)


def drain(bench: Bench, integration_id: str = "hr:1") -> list[Batch]:
    """The open batch of this integration ends, and what waits goes in its place."""
    (batch,) = [b for b in bench.shard._memory.batches.values() if b.integration_id == integration_id]
    if batch.task_id is None:
        bench.accept(batch)
    bench.poll_answer(batch, bench.completed(*[succeeded(item.origin_id) for item in batch.items]))
    return bench.linger()


# --- pause ----------------------------------------------------------------------------------------


def test_the_input_pauses_at_the_limit_of_the_partition_and_goes_on_a_tenth_below() -> None:
    bench = bench_with(courses_max=10, courses_max_per_integration=10, items_max=1)
    keep_busy(bench)
    bench.publish(*"abcdefghi")
    bench.linger()
    assert not paused(bench)
    bench.publish("j", "k")
    bench.linger()
    assert paused(bench)
    assert bench.shard.waiting == 11, "what was read before the pause is taken in"
    drain(bench)
    drain(bench)
    assert bench.shard.waiting == 9
    assert paused(bench, was=True)
    assert not paused(bench)
    drain(bench)
    assert not paused(bench, was=True)


def test_the_input_pauses_at_the_limit_of_one_integration() -> None:
    bench = bench_with(courses_max=100, courses_max_per_integration=10, items_max=2)
    keep_busy(bench, "hr:1", "hr:2")
    bench.publish(*"abcdefghi", integration_id="hr:1")
    bench.publish(*"abcdefghi", integration_id="hr:2")
    bench.linger()
    assert not paused(bench)
    bench.publish("j", integration_id="hr:2")
    bench.linger()
    assert paused(bench)
    drain(bench, "hr:1")
    assert paused(bench, was=True), "others that go on do not make room for it"
    drain(bench, "hr:2")
    assert bench.shard.waiting == 15
    assert not paused(bench, was=True)


def test_the_input_pauses_at_the_bytes_whatever_the_count() -> None:
    body = b'{"x":"' + b"x" * 992 + b'"}'
    bench = bench_with(bytes_max=10_000, items_max=2)
    keep_busy(bench)
    bench.read(*[bench.change(f"c{n}", body=body) for n in range(9)])
    bench.linger()
    assert not paused(bench)
    bench.read(bench.change("c9", body=body))
    bench.linger()
    assert paused(bench)


def test_sealing_makes_no_room_in_memory_and_being_accepted_does() -> None:
    body = b'{"x":"' + b"x" * 992 + b'"}'
    bench = bench_with(bytes_max=10_000, window=8, items_max=5)
    bench.read(*[bench.change(f"c{n}", body=body) for n in range(10)])
    batches = bench.linger()
    assert bench.shard.waiting == 0
    assert paused(bench), "the bodies of both batches are in memory until the API has taken them"
    bench.accept(batches[0])
    assert not paused(bench, was=True)
    bench.accept(batches[1])
    assert bench.shard._memory.backlog.bodies == 0


def test_a_task_that_is_lost_brings_its_body_back_into_memory() -> None:
    bench = bench_with()
    batch = bench.accepted("a", "b")
    bench.poll_answer(batch, refused(404, api_time=bench.now.wall))
    assert batch.body is not None
    assert bench.shard._memory.backlog.bodies == len(batch.body)
    bench.accept(batch)
    assert bench.shard._memory.backlog.bodies == 0


def test_a_backlog_of_one_pauses_and_goes_on() -> None:
    bench = bench_with(courses_max=1, courses_max_per_integration=1)
    keep_busy(bench)
    bench.publish("a")
    bench.linger()
    assert paused(bench)
    drain(bench)
    assert not paused(bench, was=True)


# --- reject ---------------------------------------------------------------------------------------


def test_at_the_limit_a_new_course_is_rejected_with_its_original_bytes() -> None:
    bench = bench_with("reject", courses_max=2, courses_max_per_integration=2)
    keep_busy(bench)
    bench.publish("a", "b")
    bench.linger()
    change = msgspec.structs.replace(
        bench.change("c"), key=b"the key", value=b'{"the": "record"}', headers=(("h", b"1"), ("h", b"2"))
    )
    bench.read(change)
    bench.pass_time(1)
    bench.shard.tick(bench.now)
    decided = bench.step()
    assert [result.offset for result in decided.results] == [change.offset]
    assert [rejection.reason for rejection in decided.rejections] == [RejectReason.BACKLOG]
    assert decided.next_offset == change.offset + 1, "result, dead letter and position in one transaction"
    bench.land(decided)
    result = bench.results[change.offset]
    assert (result.integration_id, result.origin_id, result.change_id) == ("hr:1", "c", change.change_id)
    assert "backlog.courses_max" in bench.error(change.offset).message
    key, value, headers = encode_dead_letter(decided.rejections[0], 3, changes_topic="changes")
    assert (key, value) == (b"the key", b'{"the": "record"}')
    assert headers[-2:] == (("h", b"1"), ("h", b"2"))
    assert bench.shard.waiting == 2
    assert not paused(bench)


@pytest.mark.parametrize(
    ("limit", "named"),
    [
        ({"courses_max_per_integration": 2}, "courses_max_per_integration"),
        ({"courses_max": 2}, "courses_max"),
        ({"bytes_max": 100}, "bytes_max"),
    ],
)
def test_each_limit_rejects_and_is_named(limit: dict[str, int], named: str) -> None:
    bench = bench_with("reject", **limit)
    keep_busy(bench)
    bench.publish("a", "b", "c", "d")
    bench.linger()
    rejected = [offset for offset, status in bench.statuses().items() if status == FULL]
    assert rejected
    assert set(rejected) == set(range(5)) - {0} - {
        bench.held(c).item.offset for c in "abcd" if bench.is_held(c)
    }
    assert all(f"backlog.{named})" in bench.error(offset).message for offset in rejected)


def test_the_limit_of_one_integration_does_not_reject_another() -> None:
    bench = bench_with("reject", courses_max_per_integration=1)
    keep_busy(bench, "hr:1", "hr:2")
    bench.publish("a", "b", integration_id="hr:1")
    bench.publish("a", integration_id="hr:2")
    bench.linger()
    assert bench.statuses() == {3: FULL}


def test_at_the_limit_a_newer_change_of_a_waiting_course_takes_its_place() -> None:
    bench = bench_with("reject", courses_max=1, courses_max_per_integration=1)
    keep_busy(bench)
    bench.publish("a")
    bench.linger()
    bench.publish("b", "a", "b", "a")
    bench.linger()
    assert bench.statuses() == {
        1: ("SUPERSEDED", None),
        2: FULL,
        3: ("SUPERSEDED", None),
        4: FULL,
    }
    assert bench.results[1].superseded_by == 3
    assert bench.results[3].superseded_by == 5
    assert bench.held("a").item.offset == 5


def test_a_rejected_change_supersedes_nothing_and_is_superseded_by_nothing() -> None:
    bench = bench_with("reject", courses_max=1, courses_max_per_integration=1)
    keep_busy(bench)
    bench.publish("a")
    bench.linger()
    bench.publish("busy")
    bench.linger()
    assert bench.statuses() == {2: FULL}, "a submission of its course is open, and no change of it waits"
    drain(bench)
    bench.publish("busy")
    bench.linger()
    assert {offset: status for offset, (status, _) in bench.statuses().items()} == {
        0: "SUCCEEDED",
        2: "REJECTED",
    }
    assert bench.held("busy").item.offset == 3


def test_what_may_leave_leaves_before_anything_is_rejected() -> None:
    """A healthy integration is not rejected for a burst that only waits for its linger."""
    bench = bench_with("reject", window=3, items_max=10, courses_max=2, courses_max_per_integration=2)
    bench.publish(*"abcdef")
    assert [len(batch.items) for batch in bench.linger()] == [2, 2, 2]
    bench.publish(*"ghij")
    bench.linger()
    assert bench.statuses() == {8: FULL, 9: FULL}


def test_rejecting_never_pauses_for_courses() -> None:
    bench = bench_with("reject", courses_max=2, courses_max_per_integration=1)
    keep_busy(bench)
    bench.publish(*"abcdef")
    bench.linger()
    assert not paused(bench)
    assert not paused(bench, was=True)


def test_rejecting_pauses_when_newer_versions_alone_have_doubled_the_bytes() -> None:
    """What replaces is never rejected; but memory has an end."""
    bench = bench_with("reject", bytes_max=1000)
    keep_busy(bench)
    for size in (900, 1500, 1999):
        bench.read(bench.change("a", body=b"x" * size))
        bench.linger()
        assert not paused(bench)
    bench.read(bench.change("a", body=b"x" * 2000))
    bench.linger()
    assert paused(bench)
    assert not [status for status in bench.statuses().values() if status == FULL]


# --- over the limits ------------------------------------------------------------------------------


@pytest.mark.parametrize("on_full", ["pause", "reject"])
def test_what_was_taken_in_before_is_restored_over_the_limits(on_full: str) -> None:
    bench = bench_with(courses_max=100, courses_max_per_integration=100)
    keep_busy(bench)
    bench.publish(*"abcdefgh")
    bench.linger()
    bench.settings = settings_with(
        window={"batches_max": 1},
        backlog={
            "courses_max": 2,
            "courses_max_per_integration": 2,
            "bytes_max": 10,
            "on_full": on_full,
        },
    )
    before = bench.journal_now()
    bench.crash()
    assert bench.shard.waiting == 8
    assert bench.journal_of(bench.shard) == before
    bench.publish("a", "z")
    bench.linger()
    assert bench.statuses()[1] == ("SUPERSEDED", None)
    assert (bench.statuses().get(10) == FULL) is (on_full == "reject")
    assert paused(bench)


@pytest.mark.parametrize("on_full", ["pause", "reject"])
def test_what_comes_back_for_another_attempt_is_taken_in_over_the_limits(on_full: str) -> None:
    bench = bench_with(on_full, courses_max=1, courses_max_per_integration=1)
    batch = bench.accepted("a")
    bench.publish("b")
    bench.linger()
    bench.poll_answer(batch, bench.task_failed("REMOTE.SERVICE_UNAVAILABLE"))
    assert bench.shard.waiting == 2
    assert bench.results == {}


# --- counting, against a plain model --------------------------------------------------------------


def test_the_counts_say_what_counting_again_would_say() -> None:
    r = random.Random(7)
    for _ in range(300):
        per_integration, courses_max = r.randint(1, 6), r.randint(1, 12)
        backlog = Backlog(
            config.BacklogSettings(
                courses_max=courses_max, courses_max_per_integration=per_integration, bytes_max=100
            )
        )
        lanes = [0, 0, 0]
        for _ in range(40):
            lane, before = r.randrange(3), list(lanes)
            if r.random() < 0.6:
                lanes[lane] += 1
                backlog.joined(lanes[lane], 7)
            else:
                lanes[lane] -= r.randint(0, lanes[lane])
                backlog.left(before[lane], lanes[lane], 7 * (before[lane] - lanes[lane]))
            intake = r.choice((0, 0, 1, 3))
            for was, share in ((False, 1.0), (True, RESUME_SHARE)):
                assert backlog.must_pause(intake, 7 * intake, paused=was) is (
                    max(lanes) >= share * per_integration
                    or sum(lanes) + intake >= share * courses_max
                    or 7 * (sum(lanes) + intake) >= share * 100
                )


# --- the window of the shard ----------------------------------------------------------------------


def open_of(bench: Bench, integration_id: str) -> int:
    return sum(batch.integration_id == integration_id for batch in bench.shard._memory.batches.values())


def test_the_second_half_of_the_places_is_for_integrations_that_have_none() -> None:
    bench = bench_with(window=8, places=8, items_max=1)
    bench.publish(*"abcdefgh", integration_id="greedy")
    bench.linger()
    assert open_of(bench, "greedy") == 4
    for number in range(5):
        bench.publish("x", "y", integration_id=f"modest:{number}")
    bench.linger()
    assert [open_of(bench, f"modest:{number}") for number in range(5)] == [1, 1, 1, 1, 0]
    assert len(bench.shard._memory.batches) == 8


def test_every_integration_has_its_turn_when_places_are_few() -> None:
    bench = bench_with(window=8, places=2, items_max=1)
    names = [f"i:{number}" for number in range(5)]
    for name in names:
        bench.publish("a", "b", "c", integration_id=name)
    served = [batch.integration_id for batch in bench.linger()]
    while bench.shard._memory.batches:
        batch = next(iter(bench.shard._memory.batches.values()))
        served += [sealed.integration_id for sealed in drain(bench, batch.integration_id)]
        assert len(bench.shard._memory.batches) <= 2
    assert len(served) == 15
    for turn in (served[:5], served[5:10], served[10:]):
        assert sorted(turn) == names, "nobody is served a second time before all have been served"


def test_a_place_that_comes_free_wakes_whoever_waits_for_one() -> None:
    bench = bench_with(places=1)
    first = bench.accepted("a", integration_id="hr:1")
    bench.publish("a", integration_id="hr:2")
    assert bench.linger() == []
    assert bench.shard.due() is None, "nothing but an answer can help: no time is waited for"
    bench.poll_answer(first, bench.completed(succeeded("a")))
    (batch,) = bench.linger()
    assert batch.integration_id == "hr:2"


def test_who_finds_the_places_taken_when_its_course_comes_free_is_woken_too() -> None:
    bench = bench_with(window=1, places=2)
    first = bench.accepted("a", integration_id="hr:1")
    bench.publish("x", "y", integration_id="hr:2")
    (both,) = bench.linger()
    bench.publish("a", integration_id="hr:1")
    assert bench.linger() == []
    assert bench.submit_answer(both, refused(422)) is SubmitVerdict.SPLIT
    halves = list(bench.shard._memory.batches.values())[1:]
    assert len(halves) == 2
    bench.poll_answer(first, bench.completed(succeeded("a")))
    assert bench.linger() == []
    bench.accept(halves[0])
    bench.poll_answer(halves[0], bench.completed(succeeded("x")))
    assert [batch.integration_id for batch in bench.linger()] == ["hr:1"]


def test_a_timed_out_task_that_is_watched_keeps_its_place() -> None:
    bench = bench_with(places=1)
    batch = bench.accepted("a", integration_id="hr:1")
    bench.poll_answer(batch, bench.pending(age=90_000))
    bench.publish("a", integration_id="hr:2")
    assert bench.linger() == []
    (late,) = bench.shard._memory.late.values()
    bench.late_answer(late, bench.completed(succeeded("a")))
    assert len(bench.linger()) == 1


# --- the size of a step ---------------------------------------------------------------------------


def test_a_backlog_that_is_ready_is_sealed_in_steps_that_can_be_committed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else the first step after a restore may be larger than a commit can ever be."""
    monkeypatch.setattr(step, "STEP_BYTES_MAX", 20_000)
    bench = bench_with(window=1000, items_max=5)
    body = b'{"x":"' + b"x" * 992 + b'"}'
    for number in range(20):
        bench.read(*[bench.change(f"c{n}", f"hr:{number}", body) for n in range(5)])
    bench.pass_time(1)
    sealed = 0
    while (due := bench.shard.due()) is not None:
        assert due <= bench.now.mono, "it goes on at once"
        bench.shard.tick(bench.now)
        decided = bench.step()
        batches = [value for key, value in decided.journal if key.startswith(b'["batch"')]
        assert 0 < sum(len(value or b"") for value in batches) <= 20_000 + 6_000
        sealed += len(bench.land(decided))
    assert sealed == 20
    assert bench.shard.waiting == 0
    assert bench.journal_of(bench.shard) == bench.journal_now()


def test_no_more_calls_while_much_is_decided_and_not_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "STEP_BYTES_MAX", 20_000)
    bench = bench_with(window=8, items_max=5)
    bench.publish(*[f"c{n}" for n in range(40)])
    batches = bench.linger()
    for batch in batches:
        bench.accept(batch)
    answered = 0
    while not bench.shard.congested:
        batch = batches.pop()
        outcomes = [succeeded(item.origin_id) for item in batch.items]
        bench.polled(batch, bench.completed(*outcomes))
        answered += len(outcomes)
    assert answered == 10, "each has a result and a record of its course"
    bench.commit()
    assert not bench.shard.congested


def test_bodies_that_come_back_count_in_the_size_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "STEP_BYTES_MAX", 20_000)
    bench = bench_with()
    bench.read(
        *[bench.change(f"c{n}", body=b'{"course":{"title":"' + b"x" * 9978 + b'"}}') for n in range(2)]
    )
    (batch,) = bench.linger()
    bench.accept(batch)
    answer = bench.task_failed("REMOTE.SERVICE_UNAVAILABLE")
    bench.polled(batch, answer)
    assert bench.shard.congested
    bench.commit()
    assert not bench.shard.congested
