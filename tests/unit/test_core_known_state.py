"""R15 and R16: what a verdict says of its courses, and which changes are not sent."""

from __future__ import annotations

import pytest

from daemon.config import BatchSettings, Settings, TaskSettings, UnchangedSettings
from daemon.core.answers import Accepted, NoAnswer, NoAnswerReason, Refused
from daemon.core.batch import Batch
from daemon.core.course import CourseState
from daemon.core.model import Change, Error, Status
from daemon.core.verdict import PollVerdict, SubmitVerdict, TaskVerdict
from tests.unit.core_bench import Bench, failed, succeeded

A, B = b"A" * 16, b"B" * 16
INTEGRATION = "hr:1"
SETTINGS = Settings(
    batch=BatchSettings(linger=0.1),
    task=TaskSettings(timeout=100.0, watch_after_timeout=100.0),
    unchanged=UnchangedSettings(trust_for=3600.0),
)
UNANSWERED = NoAnswer(NoAnswerReason.TIMEOUT, "no answer")
CONTENT_REFUSED = Refused(400, Error("PLATFORM.INPUT_INVALID", "not this title"), None, None)


def change(
    bench: Bench, content: bytes, origin_id: str = "c", *, resend: bool = False, bulk: bool = False
) -> Change:
    plain = bench.change(origin_id)
    return Change(
        plain.operation,
        plain.offset,
        plain.change_id,
        plain.integration_id,
        plain.origin_id,
        plain.body,
        plain.consumed_at,
        content=content,
        resend=resend,
        bulk=bulk,
    )


def publish(bench: Bench, content: bytes, *, resend: bool = False) -> list[Batch]:
    bench.read(change(bench, content, resend=resend))
    return bench.linger()


def confirm(bench: Bench, content: bytes = A) -> None:
    """The course has this content, as the API confirmed."""
    (batch,) = publish(bench, content)
    bench.accept(batch)
    bench.poll_answer(batch, bench.completed(succeeded("c")))


@pytest.fixture
def bench() -> Bench:
    return Bench(SETTINGS)


def state(bench: Bench) -> tuple[CourseState, bytes | None, str | None]:
    record = bench.courses[INTEGRATION, "c"]
    return record.state, record.content, record.course_id


def test_what_is_known_is_not_sent_again(bench: Bench) -> None:
    confirm(bench)
    assert state(bench) == (CourseState.ACTIVE, A, "kombo-c")
    assert publish(bench, A) == []
    result = bench.results[1]
    assert (result.status, result.attempts, result.course_id) == (Status.UNCHANGED, 0, "kombo-c")
    assert (result.batch_id, result.task_id, result.error) == (None, None, None)
    assert len(publish(bench, B)) == 1
    assert bench.shard._memory.waiting.lanes.keys() == {INTEGRATION}


def test_a_restart_knows_what_the_topic_says(bench: Bench) -> None:
    confirm(bench)
    bench.crash()
    assert publish(bench, A) == []
    assert bench.results[1].status is Status.UNCHANGED


def test_a_request_to_send_is_followed_and_passes_to_the_next_change(bench: Bench) -> None:
    confirm(bench)
    bench.read(change(bench, A, resend=True))
    bench.read(change(bench, A))
    (batch,) = bench.linger()
    assert bench.results[1].status is Status.SUPERSEDED
    assert [item.offset for item in batch.items] == [2]


def test_a_request_to_send_survives_a_restart(bench: Bench) -> None:
    confirm(bench)
    (batch,) = publish(bench, B)
    bench.accept(batch)
    assert publish(bench, B, resend=True) == []
    bench.crash()
    batch = bench.only()
    bench.poll_answer(batch, bench.completed(succeeded("c")))
    assert len(bench.linger()) == 1
    assert 2 not in bench.results


def test_it_is_trusted_for_so_long(bench: Bench) -> None:
    confirm(bench)
    bench.pass_time(3590.0)
    assert publish(bench, A) == []
    bench.pass_time(20.0)
    assert len(publish(bench, A)) == 1


def test_a_time_in_the_future_is_not_trusted(bench: Bench) -> None:
    confirm(bench)
    bench.now = bench.now._replace(wall=bench.now.wall - 3_600_000)
    assert len(publish(bench, A)) == 1


def test_a_busy_course_waits_for_the_verdict(bench: Bench) -> None:
    confirm(bench)
    (batch,) = publish(bench, B)
    bench.accept(batch)
    assert publish(bench, A) == []
    assert 2 not in bench.results, "the learning system may hold B by now"
    bench.poll_answer(batch, bench.completed(succeeded("c")))
    (batch,) = bench.linger()
    assert [item.offset for item in batch.items] == [2]


def test_it_does_not_wait_for_a_place_in_the_window() -> None:
    bench = Bench(Settings(batch=BatchSettings(linger=0.1, items_max=1)))
    confirm(bench)
    names = [f"other-{number}" for number in range(bench.settings.window.batches_max + 1)]
    bench.publish(*names)
    bench.linger()
    assert publish(bench, A) == []
    assert bench.results[1 + len(names)].status is Status.UNCHANGED


@pytest.mark.parametrize("item", [failed("c"), failed("c", "REMOTE.RATE_LIMIT_EXCEEDED")])
def test_an_item_that_failed_may_have_been_applied(bench: Bench, item: object) -> None:
    confirm(bench)
    (batch,) = publish(bench, B)
    bench.accept(batch)
    bench.poll_answer(batch, bench.completed(item))  # type: ignore[arg-type]
    assert state(bench) == (CourseState.UNKNOWN, None, "kombo-c")


def test_a_task_that_failed_whole_leaves_the_record(bench: Bench) -> None:
    confirm(bench)
    (batch,) = publish(bench, B)
    bench.accept(batch)
    assert bench.poll_answer(batch, bench.task_failed("LMS.COURSE_LIMIT_REACHED")) is TaskVerdict.FAIL
    assert state(bench) == (CourseState.ACTIVE, A, "kombo-c")
    assert publish(bench, A) == []
    assert bench.results[2].status is Status.UNCHANGED


def test_a_refusal_leaves_the_record(bench: Bench) -> None:
    confirm(bench)
    (batch,) = publish(bench, B)
    assert bench.submit_answer(batch, CONTENT_REFUSED) in (SubmitVerdict.SPLIT, SubmitVerdict.FAIL)
    assert bench.results[1].status is Status.FAILED
    assert state(bench) == (CourseState.ACTIVE, A, "kombo-c")


def test_a_refusal_after_a_lost_answer_does_not(bench: Bench) -> None:
    confirm(bench)
    (batch,) = publish(bench, B)
    bench.submit_answer(batch, UNANSWERED)
    bench.submit_answer(batch, CONTENT_REFUSED)
    assert state(bench) == (CourseState.UNKNOWN, None, "kombo-c")


@pytest.mark.parametrize("crash", [False, True])
def test_a_task_that_failed_whole_after_a_lost_answer_does_not(bench: Bench, crash: bool) -> None:
    confirm(bench)
    (batch,) = publish(bench, B)
    bench.submit_answer(batch, UNANSWERED)
    bench.pass_time(60.0)
    bench.created_at = bench.now.wall
    bench.submit_answer(batch, Accepted("task-of-the-second-post"))
    if crash:
        bench.crash()
    bench.poll_answer(bench.only(), bench.task_failed("LMS.COURSE_LIMIT_REACHED"))
    assert state(bench) == (CourseState.UNKNOWN, None, "kombo-c")


def test_an_answer_with_an_earlier_task_proves_nothing(bench: Bench) -> None:
    confirm(bench)
    created_at = bench.created_at
    (batch,) = publish(bench, B)
    bench.accept(batch)
    answer = bench.completed(succeeded("c"), created_at=created_at)
    assert bench.poll_answer(batch, answer) is PollVerdict.REPLAYED
    assert state(bench) == (CourseState.UNKNOWN, None, "kombo-c")


def test_a_time_out_ends_what_is_known_and_a_late_success_begins_it_again(bench: Bench) -> None:
    confirm(bench)
    (batch,) = publish(bench, B)
    bench.accept(batch)
    assert bench.poll_answer(batch, bench.pending(age=101.0)) is PollVerdict.OVERDUE
    assert state(bench) == (CourseState.UNKNOWN, None, "kombo-c")
    bench.crash()
    bench.late_answer(bench.late(batch), bench.completed(succeeded("c")))
    assert state(bench) == (CourseState.ACTIVE, B, "kombo-c")
    assert publish(bench, B) == []


def test_the_id_of_a_course_is_written_once_it_is_loaded(bench: Bench) -> None:
    confirm(bench)
    (batch,) = publish(bench, B)
    bench.accept(batch)
    records = dict(bench.courses)
    bench.crash()
    shard = bench.shard
    shard.known.close()
    bench.poll_answer(bench.only(), bench.completed(failed("c")))
    assert state(bench) == (CourseState.UNKNOWN, None, None)
    bench.courses, written = records, dict(bench.courses)
    bench.load_courses(shard)
    bench.courses = written
    bench.commit()
    assert state(bench) == (CourseState.UNKNOWN, None, "kombo-c")


def test_a_course_of_an_earlier_version_is_known_without_content(bench: Bench) -> None:
    (batch,) = (bench.publish("c"), bench.linger())[1]
    bench.accept(batch)
    bench.poll_answer(batch, bench.completed(succeeded("c")))
    assert state(bench) == (CourseState.ACTIVE, None, "kombo-c")
    assert len(publish(bench, A)) == 1
