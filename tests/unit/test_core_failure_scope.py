"""Items of a batch that fail together: any of them may be the cause, so the batch is halved a few times."""

import pytest

from daemon.core.judge import SHARED_SPLITS_MAX
from daemon.core.model import Error, FailureScope, Status
from daemon.core.verdict import PollVerdict
from tests.unit.core_bench import Bench, failed, refused, succeeded

COURSES = [f"course-{number:02}" for number in range(16)]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def run_halves(bench: Bench, bad: set[str]) -> int:
    """The API reports one outcome for all items of a task, until no batch is open. Returns the number of submissions."""
    submissions = 0
    while batches := list(bench.shard._memory.batches.values()):
        batch = batches[0]
        submissions += 1
        bench.accept(batch)
        courses = [item.origin_id for item in batch.items]
        outcome = failed if bad.intersection(courses) else succeeded
        bench.poll_answer(batch, bench.completed(*(outcome(course) for course in courses)))
    return submissions


def test_one_bad_item_takes_no_more_than_an_eighth_of_its_batch_along(bench: Bench) -> None:
    bench.seal(*COURSES)
    assert run_halves(bench, {"course-05"}) == 1 + 2 * SHARED_SPLITS_MAX
    bad = {offset: result for offset, result in bench.results.items() if result.status is Status.FAILED}
    assert bad.keys() == {4, 5}
    assert {result.failure_scope for result in bad.values()} == {FailureScope.BATCH}
    assert {result.attempts for result in bad.values()} == {1 + SHARED_SPLITS_MAX}
    assert len(bench.results) == len(COURSES)
    assert bench.results[0].failure_scope is None


def test_halving_ends_when_everything_is_bad(bench: Bench) -> None:
    bench.seal(*COURSES)
    assert run_halves(bench, set(COURSES)) == 1 + 2 + 4 + 8
    assert {result.failure_scope for result in bench.results.values()} == {FailureScope.BATCH}


def test_an_item_that_fails_alone_fails_by_itself(bench: Bench) -> None:
    bench.seal("a", "b")
    assert run_halves(bench, {"a"}) == 3
    assert bench.results[0].failure_scope is FailureScope.OWN
    assert bench.results[1].status is Status.SUCCEEDED


def test_items_with_different_errors_fail_by_themselves(bench: Bench) -> None:
    batch = bench.accepted("a", "b")
    bench.poll_answer(batch, bench.completed(failed("a", "LMS.COURSE_ARCHIVED"), failed("b", "LMS.OTHER")))
    assert [bench.results[n].failure_scope for n in (0, 1)] == [FailureScope.OWN] * 2


def test_the_count_of_halvings_survives_a_restart(bench: Bench) -> None:
    bench.seal(*COURSES)
    for _ in range(SHARED_SPLITS_MAX + 1):
        bench.crash()
        batch = min(bench.shard._memory.batches.values(), key=lambda each: len(each.items))
        bench.pass_time(60)
        bench.accept(batch)
        bench.poll_answer(batch, bench.completed(*(failed(item.origin_id) for item in batch.items)))
    assert len(bench.results) == 2


def test_what_is_ended_as_a_whole_is_shared(bench: Bench) -> None:
    task = bench.accepted("a", "b")
    bench.poll_answer(task, bench.task_failed("LMS.COURSE_LIMIT_REACHED"))
    gone = bench.seal("c", "d")
    bench.submit_answer(gone, refused(404, "PLATFORM.INTEGRATION_NOT_FOUND"))
    alone = bench.accepted("e")
    bench.poll_answer(alone, bench.task_failed("LMS.COURSE_LIMIT_REACHED"))
    shared, own = FailureScope.BATCH, FailureScope.OWN
    assert [bench.results[n].failure_scope for n in range(5)] == [shared, shared, shared, shared, own]


def test_a_retry_that_ends_keeps_the_scope_of_its_last_attempt(bench: Bench) -> None:
    batch = bench.accepted("a", "b")
    error = "REMOTE.SERVICE_UNAVAILABLE"
    bench.poll_answer(batch, bench.completed(failed("a", error), failed("b", error)))
    bench.crash()
    bench.publish("a")
    bench.linger()
    assert (bench.results[0].status, bench.results[0].failure_scope) == (Status.FAILED, FailureScope.BATCH)


def test_our_own_errors_have_no_scope(bench: Bench) -> None:
    batch = bench.accepted("a", "b")
    for _ in range(10):
        bench.poll_answer(batch, bench.completed(succeeded("a")))
        if 1 in bench.results:
            break
        bench.pass_time(3600)
        bench.linger()
        (batch,) = bench.linger()
        bench.accept(batch)
    error = bench.results[1].error
    assert error is not None
    assert error.code == "COURSESYNC.OUTCOME_MISSING"
    assert bench.results[1].failure_scope is None


def test_a_late_end_says_it_as_well(bench: Bench) -> None:
    batch = bench.accepted("a", "b")
    timeout = bench.settings.task.timeout
    assert bench.poll_answer(batch, bench.pending(timeout + 1)) is PollVerdict.OVERDUE
    assert bench.results[0].failure_scope is None
    bench.late_answer(bench.late(batch), bench.completed(failed("a"), failed("b")))
    assert [each.result.failure_scope for each in bench.corrections] == [FailureScope.BATCH] * 2
    assert bench.corrections[0].result.error == Error("LMS.COURSE_ARCHIVED", "said of the item")
