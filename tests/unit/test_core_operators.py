"""What operators decide (R19): a paused integration is not sealed, and what is given up ends."""

from daemon.config import Settings
from daemon.core import give_up
from daemon.core.answers import NoAnswer, NoAnswerReason
from daemon.core.control import GIVEN_UP, Control, GiveUp, Pause
from daemon.core.model import Status
from daemon.core.shard import Shard
from daemon.core.stale_tasks import first_position
from daemon.core.verdict import PollVerdict, SubmitVerdict
from daemon.core.waiting import WaitReason
from tests.unit.core_bench import TOPIC_ID, Bench, failed, refused, settings_with, succeeded

INTEGRATION = "hr:1"
DENIED = refused(403, "INTEGRATION.AUTHENTICATION_INVALID")
UNANSWERED = NoAnswer(NoAnswerReason.TIMEOUT, "cut")


def paused(name: str = INTEGRATION, *, until: int | None = None) -> Pause:
    return Pause(name, True, until, "op@host", None, 0)


def resumed(name: str = INTEGRATION) -> Pause:
    return Pause(name, False, None, "op@host", None, 0)


def given_up(bench: Bench, course: str | None = None, *, open_tasks: bool = False) -> GiveUp:
    """Everything that was published up to now."""
    return GiveUp(
        INTEGRATION, course, open_tasks, TOPIC_ID, (0, 0, 0, bench.published), "op@host", "the LMS is gone", 0
    )


def statuses(bench: Bench) -> dict[int, tuple[Status, str | None]]:
    return {
        offset: (result.status, None if result.error is None else result.error.code)
        for offset, result in bench.results.items()
    }


# --- pauses ---------------------------------------------------------------------------------------


def test_what_is_paused_waits_and_collapses_and_goes_on_when_it_is_resumed() -> None:
    bench = Bench()
    bench.decide(paused())
    bench.publish("a", "b", "a")
    assert bench.linger() == []
    assert bench.shard.waits()[WaitReason.PAUSED].changes == 2
    assert bench.results[0].superseded_by == 2
    (other,) = (bench.publish("a", integration_id="hr:2"), bench.linger())[1]
    assert other.integration_id == "hr:2"
    bench.decide(resumed())
    (batch,) = bench.shard._memory.batches.keys() - {other.id}
    assert bench.shard._memory.batches[batch].integration_id == INTEGRATION
    assert bench.shard.waits()[WaitReason.PAUSED].changes == 0


def test_a_pause_holds_what_was_sealed_and_polls_what_is_open() -> None:
    bench = Bench()
    batch, task = bench.seal("a"), bench.accepted("b", integration_id="hr:2")
    bench.decide(paused("hr:*"))
    assert bench.shard.waits()[WaitReason.PAUSED].changes == 1
    assert bench.poll_answer(task, bench.completed(succeeded("b"))) is PollVerdict.COMPLETED
    assert bench.submit_answer(batch, DENIED) is SubmitVerdict.PARK
    assert bench.shard.waits()[WaitReason.PAUSED].changes == 1, (
        "and not among those that wait for their customer"
    )


def test_an_answer_seals_nothing_of_a_paused_integration() -> None:
    bench = Bench(settings_with(batch={"items_max": 1}))
    task = bench.accepted("a")
    bench.publish("a")
    bench.linger()
    bench.decide(paused())
    bench.poll_answer(task, bench.completed(succeeded("a")))
    assert bench.linger() == []
    bench.crash()
    assert bench.linger() == [], "also after a restart"
    bench.decide(resumed())
    assert bench.only().items[0].origin_id == "a"


def test_a_pause_ends_by_itself() -> None:
    bench = Bench()
    bench.decide(paused(until=bench.now.wall + 60_000))
    bench.publish("a")
    assert bench.linger() == []
    bench.pass_time(60)
    bench.decide()
    assert bench.only().items[0].origin_id == "a"


def test_before_the_decisions_are_loaded_nothing_is_sealed() -> None:
    settings, control = Settings(), Control()
    bench = Bench(settings)
    bench.control = control
    bench.shard = Shard(
        3,
        settings,
        bench.policies,
        first_position(0, TOPIC_ID, 6, bench.now),
        bench.rng,
        bench.shard.known,
        control,
    )
    bench.publish("a")
    assert bench.linger() == []
    control.loaded()
    bench.decide()
    assert bench.only().items[0].origin_id == "a"


# --- giving up ------------------------------------------------------------------------------------


def test_what_waits_ends_and_what_comes_later_does_not() -> None:
    bench = Bench()
    bench.decide(paused())
    bench.publish("a", "b")
    bench.linger()
    bench.decide(given_up(bench))
    assert statuses(bench) == {0: (Status.FAILED, GIVEN_UP), 1: (Status.FAILED, GIVEN_UP)}
    error = bench.results[0].error
    assert error is not None
    assert "op@host" in error.message
    assert "the LMS is gone" in error.message
    bench.publish("a")
    bench.linger()
    bench.decide(resumed())
    assert bench.only().items[0].offset == 2
    assert [key for key in bench.journal_now() if key.startswith(b'["wait"')] == []


def test_one_course_is_given_up() -> None:
    bench = Bench()
    bench.decide(paused())
    bench.publish("a", "b")
    bench.linger()
    bench.decide(given_up(bench, "b"))
    assert statuses(bench) == {1: (Status.FAILED, GIVEN_UP)}


def test_what_is_not_read_yet_is_given_up_when_it_comes() -> None:
    bench = Bench()
    unread = bench.change("a")
    bench.decide(given_up(bench))
    bench.read(unread, bench.change("b"))
    (batch,) = bench.linger()
    assert statuses(bench) == {0: (Status.FAILED, GIVEN_UP)}
    assert [item.origin_id for item in batch.items] == ["b"]


def test_another_topic_and_another_partition_are_not_concerned() -> None:
    bench = Bench()
    decision = given_up(bench)
    bench.decide(
        GiveUp(INTEGRATION, None, True, "another topic", (9, 9, 9, 9), "op@host", None, 0),
        GiveUp(INTEGRATION, "a", True, TOPIC_ID, (9, 9, 9), "op@host", None, 0),
    )
    assert decision.before == (0, 0, 0, 0)
    assert bench.seal("a").items[0].origin_id == "a"


def test_a_refused_submission_ends_and_one_of_unknown_fate_does_not() -> None:
    bench = Bench()
    refused_one, unknown = bench.seal("a"), bench.seal("b")
    bench.submit_answer(refused_one, DENIED)
    bench.submit_answer(unknown, UNANSWERED)
    bench.decide(given_up(bench))
    assert statuses(bench) == {0: (Status.FAILED, GIVEN_UP)}
    assert bench.only() is unknown
    bench.submit_answer(unknown, DENIED)
    assert bench.only() is unknown, "an earlier POST of it may have been carried out"
    bench.accept(unknown)
    bench.poll_answer(unknown, bench.completed(succeeded("b")))
    assert bench.results[1].status is Status.SUCCEEDED


def test_a_submission_in_flight_ends_with_its_refusal() -> None:
    bench = Bench()
    batch = bench.seal("a")
    bench.decide(given_up(bench), in_flight=[batch.id])
    assert bench.only() is batch
    bench.submit_answer(batch, DENIED)
    assert statuses(bench) == {0: (Status.FAILED, GIVEN_UP)}


def test_a_batch_ends_only_if_all_of_its_changes_are_given_up() -> None:
    bench = Bench()
    batch = bench.seal("a", "b")
    bench.submit_answer(batch, DENIED)
    bench.decide(given_up(bench, "a", open_tasks=True))
    assert bench.only() is batch
    bench.accept(batch)
    bench.poll_answer(batch, bench.pending(1))
    assert bench.results == {}
    bench.decide(given_up(bench, "b"))
    assert bench.results == {}, "the other decision spares open tasks"
    bench.decide(given_up(bench, "b", open_tasks=True))
    assert statuses(bench) == dict.fromkeys((0, 1), (Status.TIMED_OUT, GIVEN_UP))


def test_an_open_task_ends_once_it_is_known_to_be_its_own_and_stays_watched() -> None:
    bench = Bench()
    batch = bench.accepted("a")
    bench.decide(given_up(bench))
    assert bench.only() is batch, "open tasks were not asked for"
    bench.decide(given_up(bench, open_tasks=True))
    assert bench.only() is batch, "it may be an earlier task until it was polled (R14)"
    bench.poll_answer(batch, bench.pending(1))
    assert statuses(bench) == {0: (Status.TIMED_OUT, GIVEN_UP)}
    bench.publish("a")
    assert bench.linger() == [], "the course stays busy (R12)"
    bench.late_answer(bench.late(batch), bench.completed(succeeded("a")))
    (correction,) = bench.corrections
    assert correction.result.status is Status.SUCCEEDED
    assert bench.linger()[0].items[0].offset == 1


def test_a_change_that_waits_for_its_retry_ends_with_its_last_attempt() -> None:
    bench = Bench()
    batch = bench.accepted("a", "b")
    bench.poll_answer(batch, bench.completed(failed("a", "REMOTE.SERVICE_UNAVAILABLE"), succeeded("b")))
    assert bench.shard.waits()[WaitReason.BACKOFF].changes == 1
    bench.decide(given_up(bench))
    assert statuses(bench)[0] == (Status.FAILED, GIVEN_UP)
    assert bench.results[0].batch_id == batch.id
    bench.pass_time(3600)
    assert bench.linger() == []


def test_a_retry_that_was_given_up_while_it_was_under_way_is_not_sent() -> None:
    bench = Bench()
    batch = bench.accepted("a")
    bench.decide(given_up(bench))
    bench.poll_answer(batch, bench.completed(failed("a", "REMOTE.SERVICE_UNAVAILABLE")))
    bench.linger()
    assert statuses(bench) == {0: (Status.FAILED, GIVEN_UP)}


def test_more_than_fits_into_a_step_ends_in_several() -> None:
    bench = Bench(settings_with(backlog={"courses_max": 100_000}))
    bench.decide(paused())
    courses = [str(number) for number in range(40_000)]
    bench.publish(*courses)
    bench.linger()
    bench.decide(given_up(bench), resumed())
    first = len(bench.results)
    assert 0 < first < len(courses)
    for _ in range(10):
        assert bench.linger() == [], "what is given up is not sealed"
    assert len(bench.results) == len(courses)


def test_a_restart_applies_what_was_decided_meanwhile() -> None:
    bench = Bench()
    bench.decide(paused())
    bench.publish("a", "b")
    bench.linger()
    bench.control.apply(9, given_up(bench, "a"))
    bench.crash()
    bench.linger()
    assert statuses(bench) == {0: (Status.FAILED, GIVEN_UP)}


def test_a_newer_change_takes_the_place_of_one_that_is_given_up() -> None:
    bench = Bench()
    bench.decide(paused())
    bench.publish("a")
    bench.linger()
    decision = given_up(bench)
    bench.publish("a")
    bench.control.apply(9, decision)
    bench.control.advance(bench.now.wall)
    bench.shard.obey((), bench.now)
    bench.linger()
    assert bench.results[0].status is Status.SUPERSEDED
    assert 1 not in bench.results
    give_up.end_waiting(bench.shard._memory, bench.now)
    assert 1 not in bench.results
