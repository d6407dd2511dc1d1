"""One task id for several batches: each batch keeps a watch of its own, and the fault of the API is reported.

The vendor gives each task an id of its own. An API that does not must cost no correction and leave no course busy.
"""

import msgspec
import pytest
from structlog.testing import capture_logs

from daemon.core import journal
from daemon.core.answers import TaskPending
from daemon.core.batch import Batch
from daemon.core.model import Now
from daemon.core.step import TaskAccepted
from daemon.core.verdict import PollVerdict
from daemon.telemetry.events import StepCommitted
from daemon.telemetry.health import Health
from daemon.telemetry.metrics import Metrics
from daemon.telemetry.subscribers import LogSubscriber, MetricsSubscriber
from tests.unit.core_bench import Bench, failed, succeeded

DAY = 86_400.0
ID = "the-one-id"


@pytest.fixture
def bench() -> Bench:
    return Bench()


def accepted(bench: Bench, origin_id: str, integration_id: str = "hr:1") -> Batch:
    batch = bench.seal(origin_id, integration_id=integration_id)
    bench.accept(batch, ID)
    return batch


def timed_out(bench: Bench, *courses: tuple[str, str]) -> list[Batch]:
    """A batch of each of these courses (integration, course), all with one task id, and all of them timed out."""
    batches = [accepted(bench, origin_id, integration_id) for integration_id, origin_id in courses]
    for batch in batches:
        bench.poll_answer(batch, bench.pending(age=DAY + 1))
    return batches


ONE_INTEGRATION = [("hr:1", "a"), ("hr:1", "b"), ("hr:1", "c")]
TWO_INTEGRATIONS = [("hr:1", "a"), ("hr:2", "a"), ("hr:2", "b")]


@pytest.mark.parametrize("courses", [ONE_INTEGRATION, TWO_INTEGRATIONS])
@pytest.mark.parametrize("restarts", [False, True])
def test_each_batch_that_timed_out_gets_its_correction_and_frees_its_course(
    bench: Bench, courses: list[tuple[str, str]], restarts: bool
) -> None:
    batches = timed_out(bench, *courses)
    if restarts:
        bench.crash()
    assert [bench.late(batch).task_id for batch in batches] == [ID] * 3
    for batch in batches:
        (item,) = batch.items
        bench.late_answer(bench.late(batch), bench.completed(succeeded(item.origin_id)))
        if restarts:
            bench.crash()
    assert sorted(each.result.offset for each in bench.corrections) == [0, 1, 2]
    assert {each.result.status.value for each in bench.corrections} == {"SUCCEEDED"}
    assert [msgspec.json.decode(key)[0] for key in bench.journal_now() if b"late" in key] == []
    for integration_id, origin_id in courses:
        bench.publish(origin_id, integration_id=integration_id)
    assert sum(len(batch.items) for batch in bench.linger()) == 3, "no course is busy any longer"


def test_the_watch_of_one_ends_and_the_others_go_on(bench: Bench) -> None:
    first, second, third = timed_out(bench, *ONE_INTEGRATION)
    bench.late_answer(bench.late(second), bench.pending(age=2 * DAY + 1))
    assert bench.shard.late_task(second.id) is None
    bench.late_answer(bench.late(first), bench.completed(failed("a")))
    bench.crash()
    bench.late_answer(bench.late(third), bench.completed(succeeded("c")))
    assert [(each.result.offset, each.result.status.value) for each in bench.corrections] == [
        (0, "FAILED"),
        (2, "SUCCEEDED"),
    ]
    assert bench.shard.late_tasks() == []


def test_an_open_batch_with_the_id_of_a_watched_one_goes_its_own_way(bench: Bench) -> None:
    (watched,) = timed_out(bench, ("hr:1", "a"))
    batch = accepted(bench, "b")
    assert bench.poll_answer(batch, bench.completed(succeeded("b"))) is PollVerdict.COMPLETED
    assert bench.statuses()[1] == ("SUCCEEDED", None)
    assert bench.shard.late_task(watched.id) is not None


def test_a_change_that_the_shared_task_does_not_report_is_sent_again(bench: Bench) -> None:
    accepted(bench, "a")
    batch = accepted(bench, "b")
    bench.poll_answer(batch, bench.completed(succeeded("a")))
    assert bench.statuses() == {}
    assert bench.waiting() == {"backoff": 1}


# --- journals of earlier versions -----------------------------------------------------------------


def as_format_2(bench: Bench) -> bytes:
    """The journal as an earlier version has written it: the watch is keyed by the task."""
    (late,) = bench.shard.late_tasks()
    old = journal.late_key(late.task_id)
    bench.records = [(offset, old if key == late.key else key, value) for offset, key, value in bench.records]
    position = msgspec.structs.replace(bench.shard._memory.position, format=2)
    bench.records.append((len(bench.records), journal.POSITION_KEY, journal.encode_value(position)))
    return old


def test_a_watch_in_a_journal_of_format_2_is_restored_and_erased(bench: Bench) -> None:
    (batch,) = timed_out(bench, ("hr:1", "a"))
    old = as_format_2(bench)
    bench.crash()
    assert bench.late(batch).task_id == ID
    bench.publish("a")
    assert bench.linger() == [], "the course is busy"
    bench.crash()
    bench.late_answer(bench.late(batch), bench.completed(succeeded("a")))
    assert len(bench.corrections) == 1
    assert old not in bench.journal_now()
    bench.crash()
    assert bench.shard.late_tasks() == []


def test_a_watch_of_format_2_and_a_new_one_with_the_same_task_id(bench: Bench) -> None:
    (first,) = timed_out(bench, ("hr:1", "a"))
    as_format_2(bench)
    bench.crash()
    (second,) = timed_out(bench, ("hr:1", "b"))
    bench.crash()
    bench.late_answer(bench.late(first), bench.completed(succeeded("a")))
    bench.crash()
    assert [late.batch_id for late in bench.shard.late_tasks()] == [second.id]
    bench.late_answer(bench.late(second), bench.completed(succeeded("b")))
    assert [each.result.offset for each in bench.corrections] == [0, 1]


# --- reported -------------------------------------------------------------------------------------


def is_shared(bench: Bench) -> list[bool]:
    return [fact.is_shared for fact in bench.facts if isinstance(fact, TaskAccepted)]


def test_an_id_is_shared_while_another_batch_has_it(bench: Bench) -> None:
    first = accepted(bench, "a")
    accepted(bench, "b")
    assert is_shared(bench) == [False, True]
    bench.crash()
    accepted(bench, "c")
    assert is_shared(bench) == [False, True, True], "restored batches count"
    bench.poll_answer(bench.shard._memory.batches[first.id], bench.completed(succeeded("a")))
    bench.seal("d")
    assert is_shared(bench) == [False, True, True]


def test_an_id_that_is_not_in_use_any_longer_is_not_shared(bench: Bench) -> None:
    batch = accepted(bench, "a")
    bench.poll_answer(batch, bench.completed(succeeded("a")))
    (batch,) = timed_out(bench, ("hr:1", "b"))
    bench.late_answer(bench.late(batch), TaskPending(bench.created_at, None))
    bench.late_answer(bench.late(batch), bench.completed(succeeded("b")))
    batch = accepted(bench, "c")
    assert is_shared(bench) == [False, False, False]


def test_the_log_and_a_metric_tell_it() -> None:
    bench = Bench()
    accepted(bench, "a")
    batch = bench.seal("b")
    health = Health((), lambda: Now(0, 0.0))
    metrics = Metrics(health, version="0", input_topic="t", task_timeout_s=1.0)
    bench.shard.want_position()
    memory = bench.shard._memory
    memory.accept(batch, ID, bench.now)
    event = StepCommitted(3, bench.step(), bench.now, 0.1)
    with capture_logs() as lines:
        for subscriber in (MetricsSubscriber(metrics), LogSubscriber()):
            subscriber.notify(event)
    assert b"coursesync_task_ids_shared_total 1.0" in metrics.exposition()
    (line,) = lines
    assert (line["event"], line["task"], line["batch"]) == ("task.id_shared", ID, batch.id)
