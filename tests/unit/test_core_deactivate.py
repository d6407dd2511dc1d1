"""The deactivation of a course (R18): one call, whose answer is its end, in the order of all changes of the course."""

import msgspec
import pytest

from daemon.core import deactivate, journal
from daemon.core.addressing import COURSE_UNKNOWN, LOADING_PAUSE
from daemon.core.answers import Done, ItemOutcome, NoAnswer, NoAnswerReason, Refused
from daemon.core.course import CourseState, KnownCourse, course_key
from daemon.core.deactivate import DEACTIVATE
from daemon.core.known_courses import Budget, KnownCourses
from daemon.core.model import Error, Status
from daemon.core.operation import Call
from daemon.core.verdict import SubmitVerdict
from tests.unit.core_bench import Bench, refused, settings_with, succeeded

OWN = "remote:32"
UNANSWERED = NoAnswer(NoAnswerReason.TIMEOUT, "cut")
NO_SUCH_COURSE = Refused(404, Error(None, "There is no such course."), is_documented=True)
UNCONFIRMED = "COURSESYNC.DEACTIVATION_UNCONFIRMED"


@pytest.fixture
def bench() -> Bench:
    return Bench()


def upserted(bench: Bench, origin_id: str) -> None:
    """The API has created the course, and has reported its id."""
    batch = bench.accepted(origin_id)
    bench.poll_answer(batch, bench.completed(succeeded(origin_id)))


# --- the request ----------------------------------------------------------------------------------


@pytest.mark.parametrize("course_id", ["26vafvWSRmbhNcxJYqjCzuJg", "remote:32", "remote:a/b ?#%ü"])
def test_the_id_is_one_segment_of_the_path(course_id: str) -> None:
    body = deactivate.join([deactivate.item(course_id)])
    assert deactivate.call(body) == Call(("lms", "courses", course_id, "deactivate"), b"{}")


def test_the_publishers_id_takes_precedence() -> None:
    own = deactivate.item(OWN)
    assert deactivate.address(own, "kombo-a") == own
    assert deactivate.address(deactivate.item(None), "kombo-a") == deactivate.item("kombo-a")
    assert deactivate.address(deactivate.item(None), None) is None


# --- sealing --------------------------------------------------------------------------------------


def test_each_deactivation_is_a_batch_of_its_own_with_the_reported_id(bench: Bench) -> None:
    upserted(bench, "a")
    bench.read(bench.deactivation("a"), bench.deactivation("b", OWN))
    one, other = bench.linger()
    assert [bench.body(batch) for batch in (one, other)] == [
        b'{"course_id":"kombo-a"}',
        b'{"course_id":"remote:32"}',
    ]
    _, _, value = bench.record(one)
    assert value is not None
    assert msgspec.json.decode(value)["operation"] == "deactivate"


def test_deactivations_between_upserts_do_not_split_their_batch(bench: Bench) -> None:
    bench.read(
        bench.change("a"), bench.deactivation("b", OWN), bench.change("c"), bench.deactivation("d", OWN)
    )
    batches = bench.linger()
    assert [[item.origin_id for item in batch.items] for batch in batches] == [["a", "c"], ["b"], ["d"]]


def test_a_course_without_a_known_id_ends_with_what_to_publish(bench: Bench) -> None:
    bench.read(bench.deactivation("a"), bench.deactivation("b", OWN))
    assert len(bench.linger()) == 1
    assert bench.statuses() == {0: ("FAILED", "COURSESYNC.COURSE_UNKNOWN")}
    assert "course_id" in COURSE_UNKNOWN.message
    result = bench.results[0]
    assert (result.attempts, result.batch_id) == (0, None)
    kinds = sorted(msgspec.json.decode(key)[0] for key in bench.journal_now())
    assert kinds == ["batch", "position"]
    bench.read(bench.change("a"))
    assert len(bench.linger()) == 1, "the course is free"


def loading(bench: Bench) -> KnownCourses:
    """From now on the index of courses is being loaded."""
    known = KnownCourses(Budget(10))
    bench.shard._memory.known.courses = known
    return known


def test_it_waits_while_the_ids_are_loaded_and_nothing_else_does(bench: Bench) -> None:
    known = loading(bench)
    bench.read(bench.deactivation("a"), bench.change("b"), bench.deactivation("c", OWN))
    assert [[item.origin_id for item in batch.items] for batch in bench.linger()] == [["b"], ["c"]]
    assert bench.journal_now()[journal.wait_key("hr:1", "a")]
    assert bench.due() == bench.now.mono + LOADING_PAUSE
    for _ in range(3):
        bench.pass_time(LOADING_PAUSE)
        bench.shard.tick(bench.now)
        assert bench.linger() == []
    known.load(course_key("hr:1", "a"), KnownCourse(CourseState.ACTIVE, None, "kombo-a", bench.now.wall))
    known.finish()
    bench.pass_time(LOADING_PAUSE)
    bench.shard.tick(bench.now)
    (batch,) = bench.linger()
    assert bench.body(batch) == b'{"course_id":"kombo-a"}'


def test_one_that_waits_for_ids_survives_a_crash_and_is_superseded(bench: Bench) -> None:
    loading(bench)
    bench.read(bench.deactivation("a"))
    bench.linger()
    bench.crash()
    assert bench.is_held("a")
    assert bench.held("a").operation is DEACTIVATE
    loading(bench)
    bench.publish("a")
    (batch,) = bench.linger()
    assert batch.items[0].offset == 1
    assert bench.statuses() == {0: ("SUPERSEDED", None)}


# --- order ----------------------------------------------------------------------------------------


def test_it_waits_for_an_open_upsert_and_takes_the_id_that_it_brings(bench: Bench) -> None:
    upsert = bench.accepted("a")
    bench.read(bench.deactivation("a"))
    assert bench.linger() == []
    bench.poll_answer(upsert, bench.completed(succeeded("a")))
    (batch,) = bench.linger()
    assert bench.body(batch) == b'{"course_id":"kombo-a"}'


def test_it_waits_for_a_task_that_timed_out() -> None:
    bench = Bench(settings_with(task={"timeout": 100.0, "watch_after_timeout": 100.0}))
    batch = bench.accepted("a")
    bench.poll_answer(batch, bench.pending(age=101.0))
    bench.read(bench.deactivation("a", OWN))
    assert bench.linger() == []
    bench.late_answer(bench.late(batch), bench.pending(age=201.0))
    assert len(bench.linger()) == 1


def test_an_upsert_waits_for_an_open_deactivation(bench: Bench) -> None:
    bench.read(bench.deactivation("a", OWN))
    (batch,) = bench.linger()
    bench.publish("a")
    assert bench.linger() == []
    bench.submit_answer(batch, UNANSWERED)
    assert bench.linger() == [], "its fate is unknown"
    bench.submit_answer(batch, Done("kombo-a"))
    (upsert,) = bench.linger()
    assert upsert.items[0].offset == 1


@pytest.mark.parametrize("first", ["upsert", "deactivation"])
def test_the_newest_change_supersedes_whatever_it_asks_for(bench: Bench, first: str) -> None:
    entries = [bench.change("a"), bench.deactivation("a", OWN)]
    if first == "deactivation":
        entries = [bench.deactivation("b", OWN), bench.change("b")]
    bench.read(*entries)
    (batch,) = bench.linger()
    assert batch.items[0].offset == entries[1].offset
    assert batch.operation is entries[1].operation
    result = bench.results[entries[0].offset]
    assert (result.status, result.superseded_by) == (Status.SUPERSEDED, entries[1].offset)


# --- answers --------------------------------------------------------------------------------------


def sealed(bench: Bench) -> str:
    bench.read(bench.deactivation("a", OWN))
    (batch,) = bench.linger()
    return batch.id


def answered(bench: Bench, batch_id: str, *answers: Done | Refused | NoAnswer) -> list[SubmitVerdict]:
    return [bench.submit_answer(bench.shard._memory.batches[batch_id], answer) for answer in answers]


def test_the_answer_is_the_end(bench: Bench) -> None:
    batch_id = sealed(bench)
    bench.pass_time(1.0)
    assert answered(bench, batch_id, Done("kombo-a")) == [SubmitVerdict.DONE]
    result = bench.results[0]
    assert (result.status, result.course_id, result.task_id) == (Status.SUCCEEDED, "kombo-a", None)
    assert (result.batch_id, result.attempts, result.submitted_at) == (batch_id, 1, bench.now.wall)
    assert [msgspec.json.decode(key)[0] for key in bench.journal_now()] == ["position"]
    assert bench.shard.open_batches == 0
    (record,) = bench.courses.values()
    assert (record.state, record.course_id, record.content) == (CourseState.INACTIVE, "kombo-a", None)
    bench.publish("a")
    (upsert,) = bench.linger()
    bench.accept(upsert)
    bench.poll_answer(upsert, bench.completed(ItemOutcome("a", succeeded=True, course_id=None, error=None)))
    bench.read(bench.deactivation("a"))
    (again,) = bench.linger()
    assert bench.body(again) == b'{"course_id":"kombo-a"}', "the answer has reported it"


def test_the_id_of_another_course_says_nothing_about_this_one(bench: Bench) -> None:
    assert answered(bench, sealed(bench), Done("kombo-b", "b")) == [SubmitVerdict.DONE]
    assert bench.results[0].status is Status.SUCCEEDED
    assert bench.courses == {}
    bench.read(bench.deactivation("a"))
    assert bench.linger() == []
    assert bench.error(1).code == "COURSESYNC.COURSE_UNKNOWN"


def test_a_retired_course_is_retired_once(bench: Bench) -> None:
    upserted(bench, "a")
    bench.read(bench.deactivation("a"))
    (batch,) = bench.linger()
    bench.submit_answer(batch, Done("kombo-a", "a"))
    bench.read(bench.deactivation("a"))
    assert bench.linger() == []
    result = bench.results[2]
    assert (result.status, result.course_id, result.attempts) == (Status.UNCHANGED, "kombo-a", 0)
    bench.read(bench.deactivation("a", "kombo-a"))
    assert len(bench.linger()) == 1, "the publisher names the course, perhaps another one"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (NO_SUCH_COURSE, None),
        (refused(404, "LMS.NO_SUCH_COURSE"), "LMS.NO_SUCH_COURSE"),
        (refused(404, "PLATFORM.INTEGRATION_NOT_FOUND"), "PLATFORM.INTEGRATION_NOT_FOUND"),
        (refused(400, "PLATFORM.INPUT_INVALID"), "PLATFORM.INPUT_INVALID"),
        (refused(409, "LMS.COURSE_UPDATE_NOT_SUPPORTED"), "LMS.COURSE_UPDATE_NOT_SUPPORTED"),
    ],
)
def test_a_refusal_of_the_call_itself_ends_it(bench: Bench, answer: Refused, code: str | None) -> None:
    assert answered(bench, sealed(bench), answer) == [SubmitVerdict.FAIL]
    assert bench.statuses() == {0: ("FAILED", code)}


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (UNANSWERED, SubmitVerdict.RETRY),
        (refused(503), SubmitVerdict.RETRY),
        (refused(500, "REMOTE.UNKNOWN_HTTP_ERROR"), SubmitVerdict.RETRY),
        (refused(429, "PLATFORM.CONCURRENCY_LIMIT_EXCEEDED"), SubmitVerdict.RETRY),
        (refused(404), SubmitVerdict.FATE_UNKNOWN),
        (refused(403), SubmitVerdict.PARK),
        (refused(403, "INTEGRATION.PERMISSION_MISSING"), SubmitVerdict.PARK),
        (refused(401, "PLATFORM.AUTHENTICATION_INVALID"), SubmitVerdict.OUR_SIDE),
    ],
)
def test_the_same_request_is_sent_again(bench: Bench, answer: Refused, verdict: SubmitVerdict) -> None:
    batch_id = sealed(bench)
    before = bench.shard.submission(batch_id)
    assert before is not None
    assert answered(bench, batch_id, answer) == [verdict]
    after = bench.shard.submission(batch_id)
    assert after is not None
    assert after.body == before.body
    assert bench.statuses() == {}
    assert answered(bench, batch_id, Done(None)) == [SubmitVerdict.DONE]


@pytest.mark.parametrize(
    ("answer", "is_in_doubt"),
    [
        (UNANSWERED, True),
        (refused(503), True),
        (refused(404), True),
        (refused(403), True),
        (refused(429, "PLATFORM.RATE_LIMIT_EXCEEDED"), False),
        (refused(409, "INTEGRATION.SETUP_SYNC_PENDING"), False),
    ],
)
def test_a_refusal_after_a_call_that_may_have_been_carried_out(
    bench: Bench, answer: Refused, is_in_doubt: bool
) -> None:
    verdicts = answered(bench, sealed(bench), answer, NO_SUCH_COURSE)
    expected = (SubmitVerdict.UNCONFIRMED, UNCONFIRMED) if is_in_doubt else (SubmitVerdict.FAIL, None)
    assert (verdicts[-1], bench.error(0).code) == expected
    assert bench.shard.open_batches == 0
    states = [record.state for record in bench.courses.values()]
    assert states == ([CourseState.UNKNOWN] if is_in_doubt else [])


def test_a_crash_leaves_the_request_and_its_fate_unknown(bench: Bench) -> None:
    batch_id = sealed(bench)
    before = bench.shard.submission(batch_id)
    bench.crash()
    after = bench.shard.submission(batch_id)
    assert before is not None
    assert after is not None
    assert (after.operation, after.body, after.fate_unknown) == (DEACTIVATE, before.body, True)
    assert answered(bench, batch_id, NO_SUCH_COURSE) == [SubmitVerdict.UNCONFIRMED]


def test_what_waits_too_long_for_its_customer_ends() -> None:
    bench = Bench(settings_with(wait={"age_max": 300.0}))
    batch_id = sealed(bench)
    missing = refused(403, "INTEGRATION.PERMISSION_MISSING")
    assert answered(bench, batch_id, missing) == [SubmitVerdict.PARK]
    bench.pass_time(301.0)
    assert answered(bench, batch_id, missing) == [SubmitVerdict.PARK]
    assert bench.statuses() == {0: ("FAILED", "INTEGRATION.PERMISSION_MISSING")}
