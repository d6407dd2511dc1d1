"""The publisher's trace context, from the change to its result, on every way that a change can take."""

import msgspec
import pytest

from daemon.core import journal
from daemon.core.answers import Done
from daemon.core.journal import SealedBatch, Wait
from daemon.core.model import Change, Trace
from daemon.core.step import TracedBatch
from daemon.core.trace import LINKS_MAX, Traces, batch_span, change_span
from tests.unit.core_bench import Bench, failed, refused, settings_with, succeeded


def trace(number: int, flags: str = "01") -> Trace:
    return Trace(f"00-{number + 1:032x}-{number + 1:016x}-{flags}", f"n={number}")


def traced(bench: Bench, *origin_ids: str, flags: str = "01") -> list[Trace]:
    """Changes of these courses, each with a trace of its own, are read."""
    changes = [with_trace(bench.change(origin_id), flags) for origin_id in origin_ids]
    bench.read(*changes)
    return [trace(change.offset, flags) for change in changes]


def with_trace(change: Change, flags: str = "01") -> Change:
    return msgspec.structs.replace(change, trace=trace(change.offset, flags))


def accepted(bench: Bench, *origin_ids: str) -> list[Trace]:
    traces = traced(bench, *origin_ids)
    bench.linger()
    bench.accept(bench.only())
    return traces


def published(bench: Bench) -> list[Trace | None]:
    assert not bench.shard._memory.traces._by_offset, "nothing is kept of changes that have ended"
    return [result.trace for _, result in sorted(bench.results.items())]


def batches(bench: Bench) -> list[TracedBatch]:
    return [fact for fact in bench.facts if isinstance(fact, TracedBatch)]


# --- the ways of a change -------------------------------------------------------------------------


def test_a_result_has_the_trace_of_its_change() -> None:
    bench = Bench()
    traces = accepted(bench, "a", "b")
    bench.poll_answer(bench.only(), bench.completed(succeeded("a"), failed("b")))
    assert published(bench) == traces


def test_a_change_without_a_trace_writes_nothing_about_it() -> None:
    bench = Bench()
    bench.publish("a")
    bench.linger()
    bench.publish("a")  # it waits
    bench.linger()
    assert not any(b"trace" in value for value in bench.journal_now().values())
    bench.accept(bench.only())
    bench.poll_answer(bench.only(), bench.completed(succeeded("a")))
    assert (bench.results[0].trace, batches(bench)) == (None, [])


def test_each_change_of_a_course_has_its_own() -> None:
    """The one that is superseded ends with its own trace, not with that of the newer one."""
    bench = Bench()
    first, second = traced(bench, "a", "a")
    bench.linger()
    assert bench.results[0].trace == first
    bench.accept(bench.only())
    (third,) = traced(bench, "a")
    bench.linger()
    bench.poll_answer(bench.only(), bench.completed(succeeded("a")))
    assert bench.results[1].trace == second
    bench.linger()
    bench.accept(bench.only())
    bench.poll_answer(bench.only(), bench.completed(succeeded("a")))
    assert published(bench) == [first, second, third]


@pytest.mark.parametrize("restarts", [False, True])
def test_it_survives_a_retry(restarts: bool) -> None:
    bench = Bench()
    traces = accepted(bench, "a", "b")
    bench.poll_answer(bench.only(), bench.task_failed("REMOTE.RATE_LIMIT_EXCEEDED"))
    assert not bench.results
    if restarts:
        bench.crash()
    bench.pass_time(120.0)
    bench.linger()
    bench.linger()
    while bench.shard._memory.batches:
        batch = next(iter(bench.shard._memory.batches.values()))
        bench.accept(batch)
        bench.poll_answer(batch, bench.completed(*(succeeded(item.origin_id) for item in batch.items)))
    assert published(bench) == traces
    assert bench.results[0].attempts == 2


@pytest.mark.parametrize("restarts", [False, True])
def test_it_survives_a_split(restarts: bool) -> None:
    bench = Bench()
    traces = accepted(bench, "a", "b")
    bench.poll_answer(bench.only(), bench.task_failed("PLATFORM.INPUT_INVALID"))
    if restarts:
        bench.crash()
    for batch in list(bench.shard._memory.batches.values()):
        bench.accept(batch)
        bench.poll_answer(batch, bench.completed(succeeded(batch.items[0].origin_id)))
    assert published(bench) == traces


def test_it_survives_a_restart_at_every_point() -> None:
    bench = Bench()
    traces = traced(bench, "a")
    bench.linger()
    (waiting,) = traced(bench, "a")
    bench.linger()  # one is sealed, one waits
    for _ in range(2):
        before = bench.journal_now()
        bench.crash()
        assert bench.journal_of(bench.shard) == before
        if bench.only().task_id is None:
            bench.accept(bench.only())
    bench.poll_answer(bench.only(), bench.completed(succeeded("a")))
    bench.linger()
    bench.crash()
    bench.accept(bench.only())
    bench.poll_answer(bench.only(), bench.completed(succeeded("a")))
    assert published(bench) == [*traces, waiting]


@pytest.mark.parametrize("restarts", [False, True])
def test_a_correction_has_it_too(restarts: bool) -> None:
    bench = Bench(settings_with(task={"timeout": 600.0, "watch_after_timeout": 600.0}))
    traces = accepted(bench, "a", "b")
    batch = bench.only()
    bench.poll_answer(batch, bench.pending(age=700.0))
    assert published(bench) == traces
    if restarts:
        bench.crash()
    bench.late_answer(bench.late(batch), bench.completed(succeeded("a"), failed("b")))
    assert [each.result.trace for each in bench.corrections] == traces


def test_a_deactivation_has_it() -> None:
    bench = Bench()
    change = with_trace(bench.deactivation("a", "remote:1"))
    bench.read(change)
    bench.linger()
    bench.submit_answer(bench.only(), Done("kombo-a"))
    assert published(bench) == [change.trace]
    (batch,) = batches(bench)
    assert (batch.operation, batch.task_id, batch.accepted_at) == ("deactivate", None, None)


def test_a_rejection_has_it() -> None:
    bench = Bench()
    rejection = msgspec.structs.replace(bench.rejection(), trace=trace(0))
    bench.read(rejection)
    bench.linger()
    assert published(bench) == [trace(0)]


# --- the journal ----------------------------------------------------------------------------------


def test_the_journal_holds_the_traces_that_there_are() -> None:
    bench = Bench()
    bench.read(bench.change("a"), with_trace(bench.change("b")))
    batch = bench.linger()[0]
    _, sealed = journal.decode(*bench.record(batch)[1:])
    assert isinstance(sealed, SealedBatch)
    assert sealed.traces == {1: trace(1)}
    traced(bench, "a")
    bench.linger()
    _, wait = journal.decode(
        journal.wait_key("hr:1", "a"), bench.journal_now()[journal.wait_key("hr:1", "a")]
    )
    assert isinstance(wait, Wait)
    assert wait.trace == trace(2)


def test_a_context_counts_against_the_size_of_a_batch() -> None:
    """R7: otherwise a record of many long contexts is too large for its topic, and fails for ever."""
    bench = Bench(settings_with(batch={"bytes_max": 16 * 1024}))
    for number in range(30):
        change = bench.change(f"c{number}")
        state = f"{number}=" + '"' * 500
        bench.read(msgspec.structs.replace(change, trace=Trace(trace(number).parent, state)))
    sealed = bench.linger()
    assert len(sealed) > 1
    sizes = [len(bench.record(batch)[2] or b"") for batch in sealed]
    assert max(sizes) <= 16 * 1024


def test_a_table_without_traces_has_none() -> None:
    traces = Traces()
    traces.keep(1, None)
    traces.load(msgspec.UNSET)
    assert (traces.get(1), traces.end(1), traces.of(())) == (None, None, msgspec.UNSET)


# --- batches --------------------------------------------------------------------------------------


def test_a_batch_is_reported_with_the_changes_whose_traces_are_recorded() -> None:
    bench = Bench()
    change = bench.change("c")
    bench.read(with_trace(bench.change("a")), with_trace(bench.change("b"), "00"), change)
    bench.linger()
    sealed_at = bench.now.wall
    bench.accept(bench.only())
    accepted_at = bench.now.wall
    bench.crash()
    bench.poll_answer(bench.only(), bench.completed(succeeded("a"), succeeded("b"), succeeded("c")))
    (batch,) = batches(bench)
    assert batch == TracedBatch(
        "3-1-1", "hr:1", "upsert", 3, sealed_at, accepted_at, "task-1", 1, ((1, trace(1)),), 1
    )


def test_a_batch_is_not_reported_if_nobody_records() -> None:
    bench = Bench()
    traces = traced(bench, "a", flags="00")
    bench.linger()
    bench.submit_answer(bench.only(), refused(404, "PLATFORM.INTEGRATION_NOT_FOUND"))
    assert published(bench) == traces
    assert batches(bench) == []


def test_a_batch_is_linked_to_so_many_changes_at_most() -> None:
    bench = Bench(settings_with(batch={"items_max": LINKS_MAX + 10}))
    traced(bench, *(f"c{n}" for n in range(LINKS_MAX + 2)))
    bench.linger()
    bench.submit_answer(bench.only(), refused(404, "PLATFORM.INTEGRATION_NOT_FOUND"))
    (batch,) = batches(bench)
    assert (len(batch.sampled), batch.sampled_count) == (LINKS_MAX, LINKS_MAX + 2)
    assert all(result.trace for result in bench.results.values()), "every result has its trace all the same"


# --- ids ------------------------------------------------------------------------------------------


def test_ids_of_spans_are_derived_and_differ() -> None:
    """These are published: another version must derive the same ones, or a rollout in the middle tears traces apart."""
    assert (trace(0).trace_id, trace(0).span_id) == (1, 1)
    assert change_span("topic-id", 3, 7, trace(0)) == (1, 7094513681448543297)
    assert batch_span("topic-id", "3-7-1") == (60630768804136588434367023459579521531, 4446655337384751104)
    spans = {
        change_span(topic_id, partition, offset, trace(0)).span
        for topic_id in ("t", "u")
        for partition in range(3)
        for offset in range(100)
    }
    spans |= {batch_span("t", f"3-7-{n}", part).span for n in range(100) for part in ("", "submit", "poll")}
    assert len(spans) == 600 + 300
    assert len({batch_span("t", "3-7-1", part).trace for part in ("", "submit", "poll")}) == 1
