"""How answers end changes: every path of a verdict, named for the rule that it holds."""

import json

import msgspec
import pytest

from daemon.core import journal
from daemon.core.answers import (
    Accepted,
    ItemOutcome,
    NoAnswer,
    Refused,
    TaskCompleted,
    TaskFailed,
    TaskPending,
)
from daemon.core.batch import Batch, LateTask
from daemon.core.model import Error
from daemon.core.operation import REPLAYS_MAX
from daemon.core.step import BatchSealed, LateWatched, TaskEnded, TaskOutcome
from daemon.core.upsert import split
from daemon.core.verdict import PollVerdict, SubmitVerdict, TaskVerdict
from tests.unit.core_bench import START, UNANSWERED, Bench, failed, refused, settings_with, succeeded

PASSING = "REMOTE.RATE_LIMIT_EXCEEDED"
CUSTOMER = "INTEGRATION.PERMISSION_MISSING"
OUR_KEY = "PLATFORM.AUTHENTICATION_INVALID"
HOUR = 3600.0
DAY = 24 * HOUR


@pytest.fixture
def bench() -> Bench:
    return Bench()


LONGEST_WAIT = 1800
"""`park.probe_max`, seconds."""


def wait_and_seal(bench: Bench) -> list[Batch]:
    """Sit out every back-off and the linger after it; returns what was sealed."""
    bench.pass_time(120)
    bench.shard.tick(bench.now)
    return bench.commit() + bench.linger()


def ended(bench: Bench) -> list[tuple[TaskOutcome, int | None]]:
    return [(fact.outcome, fact.completed_at) for fact in bench.facts if isinstance(fact, TaskEnded)]


def only_the_position_is_left(bench: Bench) -> bool:
    """And the floors, which are never erased."""
    left = {key for key in bench.journal_now() if not key.startswith(b'["floor"')}
    return left == {journal.POSITION_KEY}


# --- a task that ran ------------------------------------------------------------------------------


def test_each_item_of_a_completed_task_has_its_own_result(bench: Bench) -> None:
    batch = bench.accepted("a", "b")
    answer = bench.completed(succeeded("a"), failed("b", "LMS.COURSE_ARCHIVED"))
    assert bench.poll_answer(batch, answer) is PollVerdict.COMPLETED
    assert bench.statuses() == {0: ("SUCCEEDED", None), 1: ("FAILED", "LMS.COURSE_ARCHIVED")}
    result = bench.results[0]
    assert (result.course_id, result.batch_id, result.task_id) == ("kombo-a", batch.id, "task-1")
    assert (result.attempts, result.completed_at) == (1, answer.completed_at)
    assert ended(bench) == [(TaskOutcome.COMPLETED, answer.completed_at)]
    assert only_the_position_is_left(bench)


def test_one_verdict_is_one_transaction(bench: Bench) -> None:
    """R2: results, both tombstones and the successor are in the same step."""
    batch = bench.accepted("a", "b")
    answer = bench.completed(succeeded("a"), failed("b", PASSING))
    bench.polled(batch, answer)
    step = bench.step()
    assert [result.offset for result in step.results] == [0]
    written = dict(step.journal)
    assert written[journal.batch_key(batch.id)] is None
    assert written[journal.task_key(batch.id)] is None
    assert written[journal.wait_key("hr:1", "b")] is not None
    assert step.journal[-1][0] == journal.POSITION_KEY


def test_a_crash_before_the_verdict_is_committed_asks_again(bench: Bench) -> None:
    batch = bench.accepted("a")
    answer = bench.completed(succeeded("a"))
    bench.polled(batch, answer)
    bench.crash()
    assert bench.statuses() == {}
    bench.poll_answer(bench.shard._memory.batches[batch.id], answer)
    assert bench.statuses() == {0: ("SUCCEEDED", None)}


def test_trap_three_a_missing_item_is_sent_again(bench: Bench) -> None:
    batch = bench.accepted("a", "b")
    bench.poll_answer(batch, bench.completed(succeeded("a")))
    assert bench.statuses() == {0: ("SUCCEEDED", None)}
    (again,) = wait_and_seal(bench)
    assert [(item.origin_id, item.seal_count) for item in again.items] == [("b", 2)]


def test_trap_three_an_item_that_was_never_sent_is_ignored(bench: Bench) -> None:
    batch = bench.accepted("a")
    bench.poll_answer(batch, bench.completed(succeeded("z"), succeeded("a")))
    assert bench.statuses() == {0: ("SUCCEEDED", None)}


def test_trap_three_a_repeated_item_has_one_result(bench: Bench) -> None:
    batch = bench.accepted("a")
    bench.poll_answer(batch, bench.completed(succeeded("a"), succeeded("a")))
    assert bench.statuses() == {0: ("SUCCEEDED", None)}


@pytest.mark.parametrize(
    "outcomes",
    [
        (succeeded("a"), failed("a")),
        (failed("a"), succeeded("a")),
        (failed("a", PASSING), succeeded("a")),
        (succeeded("a"), failed("a"), succeeded("a")),
    ],
)
def test_no_false_success_of_an_item_with_contradictory_outcomes(
    bench: Bench, outcomes: tuple[ItemOutcome, ...]
) -> None:
    batch = bench.accepted("a")
    bench.poll_answer(batch, bench.completed(*outcomes))
    assert bench.statuses() == {0: ("FAILED", "COURSESYNC.OUTCOME_CONTRADICTORY")}


@pytest.mark.parametrize("codes", [(PASSING, "LMS.X"), ("LMS.X", PASSING), (PASSING, PASSING)])
def test_an_item_that_failed_twice_for_different_reasons_has_its_body_when_it_is_sent_again(
    bench: Bench, codes: tuple[str, str]
) -> None:
    """What is needed and what is used were decided by two different readings of the outcomes."""
    batch = bench.accepted("a")
    bench.poll_answer(batch, bench.completed(*[failed("a", code) for code in codes]))
    assert bench.statuses() == ({0: ("FAILED", "LMS.X")} if codes[0] == "LMS.X" else {})
    assert bench.shard.waiting == (0 if codes[0] == "LMS.X" else 1)


def test_an_item_that_may_pass_is_sent_until_its_attempts_are_over() -> None:
    bench = Bench(settings_with(retry={"attempts_max": 3}))
    bench.publish("a")
    (batch,) = bench.linger()
    for attempt in (1, 2, 3):
        assert bench.statuses() == {}
        assert batch.items[0].seal_count == attempt
        bench.accept(batch)
        bench.poll_answer(batch, bench.completed(failed("a", PASSING)))
        if attempt < 3:
            (batch,) = wait_and_seal(bench)
    assert bench.statuses() == {0: ("FAILED", PASSING)}
    assert bench.results[0].attempts == 3
    assert bench.results[0].batch_id == batch.id


def test_what_waits_for_another_attempt_keeps_its_count_over_a_restart(bench: Bench) -> None:
    batch = bench.accepted("a")
    bench.poll_answer(batch, bench.completed(failed("a", PASSING)))
    bench.crash()
    (batch,) = wait_and_seal(bench)
    assert (batch.items[0].seal_count, batch.items[0].failures) == (2, 1)


def test_the_back_off_is_over_only_when_its_time_has_come(bench: Bench) -> None:
    batch = bench.accepted("a")
    bench.poll_answer(batch, bench.completed(failed("a", PASSING)))
    due = bench.due()
    assert bench.now.mono < due <= bench.now.mono + bench.settings.retry.backoff_max
    bench.pass_time((due - bench.now.mono) / 2)
    bench.shard.tick(bench.now)
    assert bench.waiting() == {"backoff": 1}
    bench.pass_time(due - bench.now.mono)
    bench.shard.tick(bench.now)
    assert "backoff" not in bench.waiting()


# --- api_floors: R14 -------------------------------------------------------------------------------


FULL = (
    b'{"origin_id":"a","course":{"type":"EXTERNAL","title":"A","course_url":"https://example.com/a",'
    b'"description":"A","thumbnail_url":"https://example.com/a.png","duration":5,"languages":["en"]}}'
)
"""Every optional field is set, and there is one language."""
WITHOUT_HOSTS = FULL.replace(b"example.com", b"192.0.2.1")
"""As JSON there is no equivalent of it."""


def replayed(bench: Bench, body: bytes | None = None) -> tuple[Batch, TaskCompleted]:
    """A succeeded; then an equal change, which the API answers with the first one's task."""
    batch = bench.accepted("a")
    first = bench.completed(succeeded("a"))
    bench.poll_answer(batch, first)
    bench.read(bench.change("a", body=body))
    (again,) = bench.linger()
    bench.accept(again, "task-1")
    return again, first


def test_trap_one_a_task_from_before_the_batch_is_no_success_and_the_change_is_said_in_another_way(
    bench: Bench,
) -> None:
    batch, first = replayed(bench)
    said = bench.body(batch)
    bench.poll_answer(batch, first)
    assert bench.statuses() == {0: ("SUCCEEDED", None)}
    assert ended(bench)[-1] == (TaskOutcome.STALE, first.completed_at)
    again = bench.only()
    assert again.body != said
    assert (again.items[0].offset, again.items[0].seal_count, again.replays) == (1, 2, 1)
    bench.accept(again, "task-2")
    bench.poll_answer(again, bench.completed(succeeded("a")))
    assert bench.statuses()[1] == ("SUCCEEDED", None)
    assert (bench.results[1].attempts, bench.results[1].task_id) == (2, "task-2")


def test_the_end_of_a_task_tells_when_its_id_came_and_when_it_was_seen(bench: Bench) -> None:
    batch = bench.accepted("a")
    accepted_at = bench.now.wall
    bench.pass_time(7)
    bench.poll_answer(batch, bench.completed(succeeded("a")))
    (fact,) = (fact for fact in bench.facts if isinstance(fact, TaskEnded))
    assert (fact.accepted_at, fact.seen_at) == (accepted_at, accepted_at + 7000)


def test_another_way_is_a_successor_in_the_same_step(bench: Bench) -> None:
    """R2: the course is never free between the two."""
    batch, first = replayed(bench)
    bench.publish("a")
    assert bench.linger() == []
    bench.poll_answer(batch, first)
    assert bench.only().items[0].offset == 1
    assert bench.waiting() == {"course_busy": 1}


def test_a_full_course_alone_in_its_batch_is_sent_in_an_equivalent_body(bench: Bench) -> None:
    """The API may compare bytes: white space is enough. Or parsed JSON: then a host name is, and not before."""
    batch, first = replayed(bench, FULL)
    said = bench.body(batch)
    bench.poll_answer(batch, first)
    spaced = bench.only()
    assert spaced.body != said
    assert json.loads(bench.body(spaced)) == json.loads(said)
    bench.accept(spaced, "task-1")
    bench.poll_answer(spaced, first)
    other = bench.only()
    assert json.loads(bench.body(other)) != json.loads(said)
    bench.accept(other, "task-2")
    bench.poll_answer(other, bench.completed(succeeded("a")))
    assert bench.statuses()[1] == ("SUCCEEDED", None)


def test_a_course_without_an_equivalent_as_json_ends_as_a_stale_replay(bench: Bench) -> None:
    batch, first = replayed(bench, WITHOUT_HOSTS)
    bench.poll_answer(batch, first)
    spaced = bench.only()
    bench.accept(spaced, "task-1")
    bench.poll_answer(spaced, first)
    assert bench.statuses()[1] == ("FAILED", "COURSESYNC.STALE_REPLAY")
    assert ended(bench)[-1] == (TaskOutcome.STALE, first.completed_at)
    assert only_the_position_is_left(bench)


def test_an_api_that_knows_every_body_is_not_asked_for_ever(bench: Bench) -> None:
    batch, first = replayed(bench)
    bodies = {bench.body(batch)}
    for _ in range(REPLAYS_MAX - 1):
        bench.crash()  # how often is in the journal
        bench.poll_answer(bench.shard._memory.batches[batch.id], first)
        batch = bench.only()
        bodies.add(bench.body(batch))
        bench.accept(batch, "task-1")
    assert len(bodies) > 2
    bench.poll_answer(batch, first)
    assert bench.statuses()[1] == ("FAILED", "COURSESYNC.STALE_REPLAY")
    assert bench.results[1].attempts == REPLAYS_MAX


def test_the_floor_outlives_a_restart(bench: Bench) -> None:
    batch, first = replayed(bench, FULL)
    bench.crash()
    bench.poll_answer(bench.shard._memory.batches[batch.id], first)
    assert 1 not in bench.statuses()
    assert bench.only().replays == 1


def test_a_stale_failure_says_as_little(bench: Bench) -> None:
    batch, first = replayed(bench, FULL)
    bench.poll_answer(batch, TaskFailed(first.created_at, None, Error(PASSING, "said of the task")))
    assert 1 not in bench.statuses()
    assert bench.only().replays == 1


def test_a_task_that_looks_stale_and_is_pending_is_waited_for_until_its_watch_would_be_over(
    bench: Bench,
) -> None:
    """It may be the batch's own, made while the API's clock was behind: another body must not overtake it (C2)."""
    batch, first = replayed(bench, FULL)
    pending = TaskPending(first.created_at, 2**50)
    bench.pass_time(2 * DAY)
    bench.poll_answer(batch, pending)
    assert bench.only() is batch
    bench.pass_time(0.001)
    bench.poll_answer(batch, pending)
    assert bench.only().replays == 1


def test_a_retry_of_a_single_change_is_not_the_same_bytes(bench: Bench) -> None:
    """They would bring back the task that has failed."""
    for answer in (bench.task_failed, lambda code: bench.completed(failed("a", code))):
        batch = bench.accepted("a")
        said = bench.body(batch)
        bench.poll_answer(batch, answer(PASSING))
        (again,) = wait_and_seal(bench)
        assert again.body != said
        bench.accept(again)
        bench.poll_answer(again, bench.completed(succeeded("a")))


def test_a_task_as_old_as_the_floor_is_stale_and_one_a_millisecond_younger_is_fresh(bench: Bench) -> None:
    for age, outcome in ((0, TaskOutcome.STALE), (1, TaskOutcome.COMPLETED)):
        batch = bench.accepted(f"course {age}")
        answer = bench.completed(succeeded(f"course {age}"), created_at=batch.api_floor + age)
        bench.poll_answer(batch, answer)
        assert ended(bench)[-1] == (outcome, answer.completed_at)


def test_every_task_that_was_seen_raises_the_floor_of_batches_sealed_later(bench: Bench) -> None:
    batch = bench.accepted("a")
    answer = bench.pending()
    bench.poll_answer(batch, answer)
    assert bench.seal("b").api_floor == answer.created_at
    later = bench.completed(succeeded("a"), created_at=answer.created_at + 7)
    bench.poll_answer(batch, later)
    assert bench.seal("c").api_floor == later.created_at, "not its completion, which may be any later"


def test_each_integration_has_a_floor_of_its_own(bench: Bench) -> None:
    batch = bench.accepted("a", integration_id="hr:1")
    ahead = bench.created_at + 250_000
    bench.poll_answer(batch, bench.completed(succeeded("a"), created_at=ahead))
    assert bench.seal("b", integration_id="hr:1").api_floor == ahead
    assert bench.seal("b", integration_id="hr:2").api_floor == START.wall - 300_000
    bench.crash()
    assert bench.seal("c", integration_id="hr:1").api_floor == ahead
    assert bench.seal("c", integration_id="hr:2").api_floor == START.wall - 300_000


def test_a_floor_that_is_seen_by_a_poll_alone_causes_no_commit(bench: Bench) -> None:
    batch = bench.accepted("a")
    bench.poll_answer(batch, bench.pending())
    assert bench.shard.take_step() is None
    bench.shard.want_position()
    step = bench.step()
    assert journal.floor_key("hr:1") in dict(step.journal)


def ahead_of_the_clock(bench: Bench, seconds: float) -> None:
    """A task of hr:1 whose `created_at` is ahead of the `Date` that it comes with."""
    batch = bench.accepted("a")
    answer = bench.completed(succeeded("a"), created_at=bench.now.wall + round(seconds * 1000))
    bench.poll_answer(batch, msgspec.structs.replace(answer, api_time=bench.now.wall))


def delay_of(bench: Bench, batch: Batch) -> float:
    (sealed,) = [fact for fact in bench.facts if isinstance(fact, BatchSealed) and fact.batch_id == batch.id]
    return sealed.delay


def test_a_batch_waits_until_the_apis_clock_has_passed_its_floor(bench: Bench) -> None:
    ahead_of_the_clock(bench, 120)
    bench.pass_time(20)
    linger = bench.settings.batch.linger
    assert delay_of(bench, bench.seal("b")) == pytest.approx(100 - linger)
    assert delay_of(bench, bench.seal("b", integration_id="hr:2")) == 0
    bench.pass_time(100)
    assert delay_of(bench, bench.seal("c")) == 0


def test_nobody_waits_for_what_the_resolution_of_a_date_explains(bench: Bench) -> None:
    ahead_of_the_clock(bench, 1.0 + bench.settings.batch.linger)
    assert delay_of(bench, bench.seal("b")) == 0


@pytest.mark.parametrize("set_by", [0.0, -3600.0, 60.0])
def test_a_restart_does_not_end_the_wait_and_no_clock_makes_it_longer(bench: Bench, set_by: float) -> None:
    ahead_of_the_clock(bench, 120)
    bench.now = bench.now._replace(wall=bench.now.wall + round(set_by * 1000))
    bench.crash()
    waits = delay_of(bench, bench.seal("b"))
    assert waits == pytest.approx(max(0.0, min(120.0, 120 - set_by)) - bench.settings.batch.linger)


@pytest.mark.parametrize("by", ["poll", "submission"])
def test_a_clock_of_the_api_that_was_set_back_delays_after_a_restart_too(bench: Bench, by: str) -> None:
    """The clock was right when the floor was seen, as far as the answer said."""
    batch = bench.accepted("a")
    ahead = bench.completed(succeeded("a"), created_at=bench.now.wall + 120_000)
    bench.poll_answer(batch, msgspec.structs.replace(ahead, api_time=bench.now.wall + 120_000))
    if by == "poll":
        batch = bench.seal("b")
        bench.submit_answer(batch, Accepted("task-b", api_time=bench.now.wall + 120_000))
        right = bench.completed(succeeded("b"), created_at=bench.now.wall - 1000)
        bench.poll_answer(batch, msgspec.structs.replace(right, api_time=bench.now.wall))
    else:
        bench.submit_answer(bench.seal("b"), Accepted("task-b", api_time=bench.now.wall))
    bench.crash()
    assert delay_of(bench, bench.seal("c")) == pytest.approx(120 - 2 * bench.settings.batch.linger, abs=0.1)


def test_what_is_said_in_another_way_waits_as_well(bench: Bench) -> None:
    """The API's clock has been set back: its tasks look older than they are until it has passed the floor."""
    ahead_of_the_clock(bench, 120)
    bench.crash()
    bench.shard._memory.api_floors._clocks.clear()  # as after an upgrade: the floor is all that is known
    batch = bench.accepted("a")
    answer = bench.completed(succeeded("a"))
    bench.poll_answer(batch, msgspec.structs.replace(answer, api_time=bench.now.wall))
    assert delay_of(bench, bench.only()) > 100
    bench.pass_time(120)
    bench.accept(bench.only())
    bench.poll_answer(bench.only(), bench.completed(succeeded("a")))
    assert [status for status, _ in bench.statuses().values()] == ["SUCCEEDED", "SUCCEEDED"]


def test_before_any_api_time_is_known_the_floor_allows_for_a_host_clock_that_is_ahead(bench: Bench) -> None:
    batch = bench.seal("a")
    assert batch.api_floor == START.wall - 300_000


def test_the_floor_never_falls(bench: Bench) -> None:
    batch = bench.accepted("a")
    bench.poll_answer(batch, bench.completed(succeeded("a")))
    floor = bench.seal("b").api_floor
    batch = bench.accepted("c")
    bench.poll_answer(batch, bench.completed(succeeded("c"), created_at=1))
    assert bench.seal("d").api_floor == floor


def test_the_host_clock_takes_no_part(bench: Bench) -> None:
    """Set back by a day between sealing and poll."""
    batch = bench.accepted("a")
    answer = bench.completed(succeeded("a"))
    bench.now = bench.now._replace(wall=bench.now.wall - round(DAY * 1000))
    bench.poll_answer(batch, answer)
    assert bench.statuses() == {0: ("SUCCEEDED", None)}


# --- a task that failed ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "status", "outcome"),
    [
        ("LMS.COURSE_UPDATE_NOT_SUPPORTED", "FAILED", TaskOutcome.FAILED),
        ("PLATFORM.INTEGRATION_NOT_FOUND", "FAILED", TaskOutcome.FAILED),
        ("PLATFORM.TASK_TIMED_OUT", "TIMED_OUT", TaskOutcome.TIMED_OUT),
    ],
)
def test_a_failed_task_that_ends_its_changes(
    bench: Bench, code: str, status: str, outcome: TaskOutcome
) -> None:
    batch = bench.accepted("a", "b")
    assert bench.poll_answer(batch, bench.task_failed(code)) in (TaskVerdict.FAIL, TaskVerdict.TIMED_OUT)
    assert bench.statuses() == {0: (status, code), 1: (status, code)}
    assert [each for each, _ in ended(bench)] == [outcome]
    assert only_the_position_is_left(bench)


def test_the_apis_own_time_out_frees_the_course(bench: Bench) -> None:
    """It is terminal: nothing of it is applied any more."""
    batch = bench.accepted("a")
    bench.poll_answer(batch, bench.task_failed("PLATFORM.TASK_TIMED_OUT"))
    assert bench.shard._memory.late == {}
    assert len(bench.seal("a").items) == 1


def test_a_failed_task_that_may_pass_sends_its_items_again(bench: Bench) -> None:
    batch = bench.accepted("a", "b")
    assert bench.poll_answer(batch, bench.task_failed("REMOTE.SERVICE_UNAVAILABLE")) is TaskVerdict.RESUBMIT
    assert bench.statuses() == {}
    assert {item.failures for each in wait_and_seal(bench) for item in each.items} == {1}


def test_a_task_refused_for_its_content_is_halved(bench: Bench) -> None:
    batch = bench.accepted("a", "b", "c")
    body = bench.body(batch)
    bench.poll_answer(batch, bench.task_failed("REMOTE.INPUT_INVALID"))
    halves = list(bench.shard._memory.batches.values())
    assert [[item.origin_id for item in half.items] for half in halves] == [["a"], ["b", "c"]]
    assert [each for half in halves for each in split(bench.body(half))] == split(body)
    assert [each for each, _ in ended(bench)] == [TaskOutcome.FAILED]


def test_the_halves_of_a_failed_task_are_younger_than_it(bench: Bench) -> None:
    batch = bench.accepted("a", "b")
    answer = bench.task_failed("REMOTE.INPUT_INVALID")
    bench.poll_answer(batch, answer)
    assert {half.api_floor for half in bench.shard._memory.batches.values()} == {answer.created_at}


@pytest.mark.parametrize(("code", "verdict"), [(CUSTOMER, TaskVerdict.PARK), (OUR_KEY, TaskVerdict.OUR_SIDE)])
def test_a_task_that_failed_for_our_or_the_customers_side_ends_no_change(
    bench: Bench, code: str, verdict: TaskVerdict
) -> None:
    batch = bench.accepted("a", "b")
    assert bench.poll_answer(batch, bench.task_failed(code)) is verdict
    assert bench.statuses() == {}
    (again,) = wait_and_seal(bench)
    assert {(item.seal_count, item.failures) for item in again.items} == {(2, 0)}


def test_what_comes_back_from_parking_together_is_not_the_same_bytes_each_time() -> None:
    """Equal bytes would find the task that has failed, and end as a stale replay (R14)."""
    bodies = set()
    for seed in range(5):
        bench = Bench(seed=seed)
        batch = bench.accepted(*"abcde")
        bench.poll_answer(batch, bench.task_failed(CUSTOMER))
        (again,) = wait_and_seal(bench)
        bodies.add(again.body)
        assert {item.origin_id for item in again.items} == set("abcde")
        assert again.body != bench.body(batch)
    assert len(bodies) == 5


def test_a_change_that_waited_too_long_for_its_customer_fails_with_the_customers_code(bench: Bench) -> None:
    batch = bench.accepted("a")
    bench.pass_time(6 * DAY)
    assert bench.poll_answer(batch, bench.task_failed(CUSTOMER)) is TaskVerdict.PARK
    (batch,) = wait_and_seal(bench)
    bench.accept(batch)
    bench.pass_time(DAY)
    bench.poll_answer(batch, bench.task_failed(CUSTOMER))
    assert bench.statuses() == {0: ("FAILED", CUSTOMER)}


def test_our_own_fault_ends_no_change_however_long_it_lasts(bench: Bench) -> None:
    batch = bench.accepted("a")
    for _ in range(20):
        bench.pass_time(7 * DAY)
        assert bench.poll_answer(batch, bench.task_failed(OUR_KEY)) is TaskVerdict.OUR_SIDE
        bench.pass_time(LONGEST_WAIT)
        (batch,) = wait_and_seal(bench)
        assert bench.submit_answer(batch, refused(401, OUR_KEY)) is SubmitVerdict.OUR_SIDE
        bench.accept(batch)
    assert bench.statuses() == {}


@pytest.mark.parametrize("code", [OUR_KEY, "PLATFORM.IP_NOT_WHITELISTED"])
@pytest.mark.parametrize("of_item", [False, True])
def test_a_task_or_an_item_that_fails_for_our_own_key_waits_ever_longer(
    bench: Bench, code: str, *, of_item: bool
) -> None:
    """It was sent again every half to whole minute, for ever."""
    bench.accepted("a")
    for bound in [60, 120, 240, 480, 960, 1800, 1800]:
        batch = bench.only()
        answer = bench.completed(failed("a", code)) if of_item else bench.task_failed(code)
        bench.poll_answer(batch, answer)
        not_before = bench.held("a").not_before
        assert not_before is not None
        wait = (not_before - bench.now.wall) / 1000
        assert bound / 2 <= wait <= bound
        bench.crash()
        bench.pass_time(wait - 1)
        bench.shard.tick(bench.now)
        assert bench.linger() == []
        bench.pass_time(1)
        bench.shard.tick(bench.now)
        bench.commit()
        bench.linger()
        bench.accept(bench.only())
    assert bench.statuses() == {}


# --- time-outs: R11, R12 --------------------------------------------------------------------------


def timed_out(bench: Bench, *origin_ids: str) -> tuple[Batch, LateTask]:
    batch = bench.accepted(*origin_ids)
    bench.poll_answer(batch, bench.pending(age=DAY + 0.001))
    (late,) = bench.shard._memory.late.values()
    return batch, late


def test_the_apis_clock_alone_times_nothing_out(bench: Bench) -> None:
    """As with a `Date` in the year 9999: our own clock must agree."""
    batch = bench.accepted("a")
    absurd = msgspec.structs.replace(bench.pending(), api_time=2**50)
    bench.poll_answer(batch, absurd)
    bench.pass_time(DAY)
    bench.poll_answer(batch, absurd)
    assert bench.statuses() == {}
    bench.pass_time(0.001)
    bench.poll_answer(batch, absurd)
    assert bench.statuses() == {0: ("TIMED_OUT", "COURSESYNC.TASK_TIMED_OUT")}
    (late,) = bench.shard._memory.late.values()
    bench.pass_time(DAY - 0.01)
    bench.late_answer(late, absurd)
    assert bench.shard._memory.late
    bench.pass_time(0.02)
    bench.late_answer(late, absurd)
    assert not bench.shard._memory.late


def test_our_own_clock_alone_times_nothing_out(bench: Bench) -> None:
    batch = bench.accepted("a")
    bench.pass_time(100 * DAY)  # the daemon was down
    bench.poll_answer(batch, bench.pending(age=DAY))
    assert bench.statuses() == {}
    bench.poll_answer(batch, msgspec.structs.replace(bench.pending(age=2 * DAY), api_time=None))
    assert bench.statuses() == {}
    bench.poll_answer(batch, bench.pending(age=DAY + 0.001))
    assert bench.statuses() == {0: ("TIMED_OUT", "COURSESYNC.TASK_TIMED_OUT")}


def test_blindness_is_never_a_time_out(bench: Bench) -> None:
    batch = bench.accepted("a")
    bench.pass_time(100 * DAY)
    for answer in (UNANSWERED, refused(500), refused(503, PASSING), refused(403)):
        assert bench.poll_answer(batch, answer) is PollVerdict.BLIND
    assert bench.poll_answer(batch, refused(401, OUR_KEY)) is PollVerdict.BLIND
    assert bench.statuses() == {}
    assert batch.task_id == "task-1"


def test_a_time_out_ends_the_change_and_not_the_course(bench: Bench) -> None:
    batch, late = timed_out(bench, "a")
    assert bench.shard._memory.batches == {}
    assert late.items is batch.items
    assert [fact.batch_id for fact in bench.facts if isinstance(fact, LateWatched)] == [late.batch_id]
    bench.publish("a")
    assert bench.linger() == []
    bench.crash()
    assert bench.linger() == []
    assert bench.waiting() == {"course_busy": 1}


def test_what_waited_before_the_time_out_goes_on_waiting(bench: Bench) -> None:
    batch = bench.accepted("a")
    bench.publish("a")
    bench.linger()
    bench.poll_answer(batch, bench.pending(age=2 * DAY))
    assert bench.linger() == []
    assert bench.held("a") is not None


def test_a_late_success_and_a_late_failure_are_corrections_and_free_the_courses(bench: Bench) -> None:
    _, late = timed_out(bench, "a", "b")
    bench.publish("a")
    bench.linger()
    bench.late_answer(late, bench.completed(succeeded("a"), failed("b")))
    told = [(each.result.offset, each.result.status.value) for each in bench.corrections]
    assert told == [(0, "SUCCEEDED"), (1, "FAILED")]
    assert {result.status.value for result in bench.results.values()} == {"TIMED_OUT"}
    assert [item.offset for batch in bench.linger() for item in batch.items] == [2]


def test_a_late_task_that_names_an_item_not_at_all_or_twice_is_no_success(bench: Bench) -> None:
    _, late = timed_out(bench, "a", "b")
    bench.late_answer(late, bench.completed(succeeded("b"), failed("b")))
    errors = [each.result.error for each in bench.corrections]
    assert [error and error.code for error in errors] == [
        "COURSESYNC.OUTCOME_MISSING",
        "COURSESYNC.OUTCOME_CONTRADICTORY",
    ]


def test_a_late_failure_of_the_whole_task_is_a_correction(bench: Bench) -> None:
    _, late = timed_out(bench, "a")
    bench.late_answer(late, bench.task_failed(PASSING))
    (correction,) = bench.corrections
    assert correction.result.error is not None
    assert correction.result.error.code == PASSING
    assert (correction.result.task_id, correction.result.batch_id) == (late.task_id, late.record.batch_id)
    assert only_the_position_is_left(bench)


def test_the_watch_ends_by_the_apis_clock_and_frees_the_course(bench: Bench) -> None:
    _, late = timed_out(bench, "a")
    bench.publish("a")
    bench.linger()
    created = late.record.created_at
    bench.late_answer(late, TaskPending(created, api_time=None))
    bench.late_answer(late, bench.pending(age=2 * DAY))
    assert late.batch_id in bench.shard._memory.late
    bench.late_answer(late, bench.pending(age=2 * DAY + 0.001))
    assert bench.shard._memory.late == {}
    assert bench.corrections == []
    assert len(bench.linger()) == 1


def test_a_late_task_that_the_api_has_forgotten_is_watched_to_the_end(bench: Bench) -> None:
    """404 does not say that nothing of it is applied any more."""
    _, late = timed_out(bench, "a")
    bench.pass_time(DAY)
    created = late.record.created_at
    assert (
        bench.late_answer(late, refused(404, api_time=created + 2 * round(DAY * 1000))) is PollVerdict.BLIND
    )
    assert late.batch_id in bench.shard._memory.late
    bench.late_answer(late, refused(404, api_time=created + 2 * round(DAY * 1000) + 1))
    assert bench.shard._memory.late == {}


def test_blindness_and_a_refused_key_end_no_watch(bench: Bench) -> None:
    _, late = timed_out(bench, "a")
    far = bench.now.wall + 100 * round(DAY * 1000)
    assert bench.late_answer(late, UNANSWERED) is PollVerdict.BLIND
    assert bench.late_answer(late, refused(401, OUR_KEY, api_time=far)) is PollVerdict.BLIND
    assert bench.late_answer(late, refused(500, api_time=far)) is PollVerdict.BLIND
    assert late.batch_id in bench.shard._memory.late


# --- refused submissions: R13 ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (UNANSWERED, SubmitVerdict.RETRY),
        (refused(429, PASSING), SubmitVerdict.RETRY),
        (refused(502), SubmitVerdict.RETRY),
        (refused(408), SubmitVerdict.RETRY),
        (refused(302), SubmitVerdict.RETRY),
        (refused(404), SubmitVerdict.FATE_UNKNOWN),
        (refused(401, OUR_KEY), SubmitVerdict.OUR_SIDE),
        (refused(409, "INTEGRATION.SETUP_SYNC_PENDING"), SubmitVerdict.PARK),
        (refused(403), SubmitVerdict.PARK),
    ],
)
def test_a_refusal_that_may_pass_keeps_the_same_bytes(
    bench: Bench, answer: Refused | NoAnswer, verdict: SubmitVerdict
) -> None:
    batch = bench.seal("a", "b")
    body = batch.body
    for _ in range(50):
        assert bench.submit_answer(batch, answer) is verdict
    assert bench.shard._memory.batches[batch.id].body == body
    assert bench.statuses() == {}


def test_a_batch_refused_for_its_content_is_halved_down_to_the_item_to_blame(bench: Bench) -> None:
    """The window does not hold back the halves: their place was the batch's."""
    bench.seal(*"abcdefgh")
    bad = "f"
    while bench.shard._memory.batches:
        batch = next(iter(bench.shard._memory.batches.values()))
        ids = [item.origin_id for item in batch.items]
        if bad in ids:
            assert bench.submit_answer(batch, refused(422)) is SubmitVerdict.SPLIT
        else:
            bench.accept(batch)
            bench.poll_answer(batch, bench.completed(*map(succeeded, ids)))
    statuses = bench.statuses()
    assert statuses.pop(5) == ("FAILED", None)
    assert set(statuses.values()) == {("SUCCEEDED", None)}
    assert len(statuses) == 7
    assert bench.results[5].attempts == 4
    assert only_the_position_is_left(bench)


def test_what_waits_for_a_course_waits_for_its_half_too(bench: Bench) -> None:
    batch = bench.seal("a", "b")
    bench.publish("a", "b")
    bench.linger()
    bench.submit_answer(batch, refused(400))
    assert bench.linger() == []
    first, second = bench.shard._memory.batches.values()
    bench.submit_answer(first, refused(400))
    (sealed,) = bench.linger()
    assert [item.offset for item in sealed.items] == [2]
    assert second.id in bench.shard._memory.batches


def test_a_refusal_that_names_no_hope_fails_every_item(bench: Bench) -> None:
    batch = bench.seal("a", "b")
    assert bench.submit_answer(batch, refused(404, "PLATFORM.INTEGRATION_NOT_FOUND")) is SubmitVerdict.FAIL
    code = "PLATFORM.INTEGRATION_NOT_FOUND"
    assert bench.statuses() == {0: ("FAILED", code), 1: ("FAILED", code)}
    assert only_the_position_is_left(bench)


@pytest.mark.parametrize("before", [UNANSWERED, refused(502), refused(500, "PLATFORM.UNKNOWN_ERROR"), None])
@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (refused(404, "PLATFORM.INTEGRATION_NOT_FOUND"), SubmitVerdict.FATE_UNKNOWN),
        (refused(404), SubmitVerdict.FATE_UNKNOWN),
        (refused(404, "LMS.COURSE_UPDATE_NOT_SUPPORTED"), SubmitVerdict.FATE_UNKNOWN),
        (refused(408), SubmitVerdict.RETRY),
        (refused(307), SubmitVerdict.RETRY),
        (refused(409, "INTEGRATION.INACTIVE"), SubmitVerdict.PARK),
        (refused(403), SubmitVerdict.PARK),
        (refused(401, OUR_KEY), SubmitVerdict.OUR_SIDE),
        (refused(429), SubmitVerdict.RETRY),
    ],
)
def test_while_fate_is_unknown_no_refusal_but_validation_ends_anything(
    bench: Bench, before: NoAnswer | Refused | None, answer: Refused | NoAnswer, verdict: SubmitVerdict
) -> None:
    """An earlier POST may have made a task. `before` None: the batch was restored."""
    batch = bench.seal("a")
    if before is None:
        bench.crash()
        batch = bench.shard._memory.batches[batch.id]
    else:
        bench.submit_answer(batch, before)
    bench.pass_time(30 * DAY)
    assert bench.submit_answer(batch, answer) is verdict
    assert bench.statuses() == {}
    assert batch.id in bench.shard._memory.batches
    assert bench.submit_answer(batch, refused(400, "PLATFORM.INPUT_INVALID")) is SubmitVerdict.SPLIT
    assert bench.statuses() == {0: ("FAILED", "PLATFORM.INPUT_INVALID")}


def test_trap_two_the_lost_answer_finds_the_same_task(bench: Bench) -> None:
    batch = bench.seal("a")
    body = batch.body
    bench.submit_answer(batch, UNANSWERED)
    made = bench.now.wall - 5_000
    bench.crash()
    batch = bench.shard._memory.batches[batch.id]
    assert batch.body == body
    bench.pass_time(60)
    bench.accept(batch)
    bench.poll_answer(batch, bench.completed(succeeded("a"), created_at=made))
    assert bench.statuses() == {0: ("SUCCEEDED", None)}


def test_a_submission_parked_longer_than_anyone_should_wait_ends_what_is_too_old_and_keeps_the_rest(
    bench: Bench,
) -> None:
    bench.publish("old")
    bench.pass_time(5 * DAY)
    bench.publish("young")
    (batch,) = bench.linger()
    assert bench.submit_answer(batch, refused(409, CUSTOMER)) is SubmitVerdict.PARK
    assert batch.id in bench.shard._memory.batches
    bench.pass_time(2 * DAY + 1)
    assert bench.submit_answer(batch, refused(409, CUSTOMER)) is SubmitVerdict.PARK
    assert bench.statuses() == {0: ("FAILED", CUSTOMER)}
    bench.crash()
    (again,) = wait_and_seal(bench)
    assert [(item.origin_id, item.failures) for item in again.items] == [("young", 0)]


# --- superseding: R10 -----------------------------------------------------------------------------


def test_a_change_that_was_never_sent_is_superseded_by_the_newer_one(bench: Bench) -> None:
    bench.publish("a", "a", "b", "a")
    (batch,) = bench.linger()
    assert [item.offset for item in batch.items] == [3, 2]
    assert bench.statuses() == {0: ("SUPERSEDED", None), 1: ("SUPERSEDED", None)}
    assert [bench.results[offset].superseded_by for offset in (0, 1)] == [1, 3]
    assert bench.results[0].attempts == 0


def test_a_change_that_was_sent_and_waits_for_a_retry_fails_when_a_newer_one_comes(bench: Bench) -> None:
    batch = bench.accepted("a")
    bench.poll_answer(batch, bench.completed(failed("a", PASSING)))
    bench.crash()
    bench.publish("a")
    (newer,) = bench.linger()
    assert bench.statuses() == {0: ("FAILED", PASSING)}
    assert (bench.results[0].batch_id, bench.results[0].task_id) == (batch.id, "task-1")
    assert [item.offset for item in newer.items] == [1]


def test_a_change_that_failed_while_a_newer_one_waits_is_not_sent_again(bench: Bench) -> None:
    batch = bench.accepted("a")
    bench.publish("a")
    bench.linger()
    bench.poll_answer(batch, bench.completed(failed("a", PASSING)))
    assert bench.statuses() == {0: ("FAILED", PASSING)}
    (newer,) = bench.linger()
    assert [item.offset for item in newer.items] == [1]


def test_unknown_fate_is_never_superseded(bench: Bench) -> None:
    batch = bench.seal("a")
    bench.submit_answer(batch, UNANSWERED)
    bench.publish("a", "a")
    assert bench.linger() == []
    assert bench.statuses() == {1: ("SUPERSEDED", None)}
    assert batch.id in bench.shard._memory.batches


def test_a_rejected_record_supersedes_nothing(bench: Bench) -> None:
    bench.publish("a")
    bench.read(bench.rejection())
    bench.linger()
    assert bench.statuses() == {1: ("REJECTED", "COURSESYNC.RECORD_NOT_JSON")}
    assert [each.offset for each in bench.rejections] == [1]


def test_the_same_course_of_two_integrations_is_two_courses(bench: Bench) -> None:
    bench.publish("a", integration_id="hr:1")
    bench.publish("a", integration_id="hr:2")
    assert len(bench.linger()) == 2
    assert bench.statuses() == {}
