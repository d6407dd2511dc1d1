"""The trace of a change on a real Kafka, through a real process that is killed, to a collector over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from daemon.log.topic_access import TopicRecord, read_topic
from tests.integration.daemon_world import (
    UNHURRIED,
    Published,
    await_metric,
    await_results,
    change,
    good,
    log_lines,
    publish,
    wait_until,
)
from tests.integration.otlp_receiver import OtlpReceiver
from tests.sandbox.stack import Stack

pytestmark = [pytest.mark.endurance, pytest.mark.kafka]

TRACES = [f"{number + 1:032x}" for number in range(5)]
PARENTS = [f"{number + 1:016x}" for number in range(5)]


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """That of the daemon, without whatever this machine exports, and with its proxy left alone."""
    for name in (
        "OTEL_SDK_DISABLED",
        "OTEL_TRACES_EXPORTER",
        "OTEL_SERVICE_NAME",
        "OTEL_RESOURCE_ATTRIBUTES",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    return monkeypatch


@pytest.fixture
def receiver(environment: pytest.MonkeyPatch) -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as receiver:
        environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
        yield receiver


def traceparent(number: int, flags: str = "01") -> str:
    return f"00-{TRACES[number]}-{PARENTS[number]}-{flags}"


def traced(number: int, flags: str = "01", state: str | None = None) -> Published:
    headers = (("traceparent", traceparent(number, flags).encode()),)
    more = () if state is None else (("tracestate", state.encode()),)
    return good(number)._replace(headers=(*headers, *more))


def event(number: int) -> Published:
    """A CloudEvent in structured mode, whose trace is in its attributes."""
    data = change(number)
    attributes = {
        "specversion": "1.0",
        "source": "/catalogue",
        "id": data.pop("id"),
        "type": data.pop("type"),
    }
    value = {**attributes, "traceparent": traceparent(number), "tracestate": "vendor=1", "data": data}
    return Published(b"tool:1", json.dumps(value).encode())


def result_records(stack: Stack) -> dict[str, TopicRecord]:
    """By course."""
    at = stack.addresses
    records = list(read_topic(at.connection, at.topics.results))
    return {json.loads(record.value or b"")["data"]["origin_id"]: record for record in records}


def context(record: TopicRecord) -> tuple[str, ...]:
    headers = dict(record.headers)
    return tuple((headers[name] or b"").decode() for name in ("traceparent", "tracestate") if name in headers)


def ms(time: str) -> int:
    return round(datetime.fromisoformat(time).timestamp() * 1000)


def test_a_trace_survives_kill_9(tmp_path: Path, kafka_bootstrap: str, receiver: OtlpReceiver) -> None:
    with Stack(
        tmp_path,
        faults="none",
        seed=1,
        say=print,
        kafka=kafka_bootstrap,
        task_seconds=6.0,
        settings=UNHURRIED,
    ) as stack:
        stack.start_daemon()
        stack.await_ready()  # it serves its metrics
        publish(stack, traced(0), traced(1, state="vendor=0"), event(2), traced(3, "00"), good(4))
        await_metric(stack, 1, "coursesync_tasks_created_total", source="submit")  # the journal has it
        stack.kill_daemon()
        assert not receiver.spans("process course-changes"), "it was killed in the middle"
        stack.start_daemon()
        results = {data["origin_id"]: data for data in await_results(stack, 5)}
        stack.drain_daemon()
        records = result_records(stack)
        topic = stack.addresses.topics.changes

    spans = {span.trace_id: span for span in receiver.spans(f"process {topic}")}
    assert len(receiver.spans(f"process {topic}")) == 3, "one for each change whose trace is recorded"
    (batch,) = receiver.spans("batch upsert")
    for number in range(3):
        span, data = spans[TRACES[number]], results[f"course-{number}"]
        _assert_is_of(span, data, number)
        assert span.links == {batch.ids}
        parent, *state = context(records[f"course-{number}"])
        assert parent == f"00-{span.trace_id}-{span.span_id}-01", "the result names the span that is exported"
        assert state == ([] if number == 0 else [span.state])
    assert context(records["course-3"]) == (traceparent(3, "00"),), "passed on as it came"
    assert context(records["course-4"]) == ()

    assert batch.links == {span.ids for span in spans.values()}
    assert batch.trace_id not in TRACES
    assert batch.attributes["coursesync.changes"] == 5
    (submit,), (poll,) = receiver.spans("submit"), receiver.spans("poll")
    assert submit.parent_id == poll.parent_id == batch.span_id
    assert submit.trace_id == poll.trace_id == batch.trace_id
    assert submit.end_ms == poll.start_ms == ms(results["course-0"]["submitted_at"]), "by the journal"


def _assert_is_of(span: Any, data: dict[str, Any], number: int) -> None:
    assert span.parent_id == PARENTS[number]
    assert (span.start_ms, span.end_ms) == (ms(data["consumed_at"]), ms(data["resolved_at"]))
    assert span.service == "course-sync-daemon"
    attributes = span.attributes
    assert attributes["messaging.kafka.offset"] == data["change"]["offset"]
    assert attributes["messaging.destination.partition.id"] == str(data["change"]["partition"])
    assert attributes["coursesync.status"] == data["status"] == "SUCCEEDED"
    assert attributes["coursesync.task_id"] == data["task_id"]
    assert attributes["coursesync.batch_id"] == data["batch_id"]


def test_a_collector_that_hangs_delays_neither_results_nor_the_end(
    tmp_path: Path, kafka_bootstrap: str, environment: pytest.MonkeyPatch
) -> None:
    with OtlpReceiver(hangs=True) as receiver:
        environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
        with Stack(
            tmp_path,
            faults="none",
            seed=1,
            say=print,
            kafka=kafka_bootstrap,
            task_seconds=0.2,
            settings=UNHURRIED,
        ) as stack:
            stack.start_daemon()
            publish(stack, traced(0))
            await_results(stack, 1)
            wait_until(lambda: receiver.requests, "an export")
            publish(stack, traced(1))
            await_results(stack, 2)
            stack.drain_daemon()
            assert log_lines(stack, "traces.lost")
            assert log_lines(stack, "daemon.stopped")
