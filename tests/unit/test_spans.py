"""Spans: what is exported of a committed step, and whether anything is exported at all."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind, StatusCode
from structlog.testing import capture_logs

from daemon.core.answers import Done
from daemon.core.model import Change
from daemon.core.trace import batch_span, change_span
from daemon.telemetry import tracing
from daemon.telemetry.events import DrainStarted, StepCommitted
from daemon.telemetry.spans import SpanExport
from daemon.telemetry.tracing import CLOSE_MAX, Tracing, from_environment
from tests.unit.core_bench import TOPIC_ID, Bench, failed, succeeded
from tests.unit.test_core_trace import trace, with_trace

WHAT = {"version": "1.2.3", "topic": "course-changes", "group": "course-sync-daemon"}
GIVEN = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}


class Collector(SpanExporter):
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []
        self.threads: set[str] = set()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.spans += spans
        self.threads.add(threading.current_thread().name)
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        pass


class Exported:
    """A bench whose steps are exported."""

    def __init__(self) -> None:
        self.bench = Bench()
        self.collector = Collector()
        self.export = SpanExport(**WHAT, exporter=self.collector)
        commit = self.bench.land

        def land(step: Any) -> Any:
            self.export.notify(StepCommitted(3, step, self.bench.now, 0.1))
            return commit(step)

        self.bench.land = land  # type: ignore[method-assign]

    def spans(self) -> dict[str, list[ReadableSpan]]:
        """All of them, by name."""
        self.export.close()
        found: dict[str, list[ReadableSpan]] = {}
        for span in self.collector.spans:
            found.setdefault(span.name, []).append(span)
        return found

    def accepted(self, *changes: Change) -> None:
        self.bench.read(*changes)
        self.bench.linger()
        self.bench.accept(self.bench.only())


def ids(span: ReadableSpan) -> tuple[int, int]:
    assert span.context is not None
    return span.context.trace_id, span.context.span_id


def links(span: ReadableSpan) -> list[tuple[int, int]]:
    return [(link.context.trace_id, link.context.span_id) for link in span.links]


# --- spans ----------------------------------------------------------------------------------------


def test_the_span_of_a_change() -> None:
    exported = Exported()
    bench = exported.bench
    consumed = bench.now.wall
    exported.accepted(with_trace(bench.change("a")))
    bench.pass_time(5.0)
    bench.poll_answer(bench.only(), bench.completed(succeeded("a")))
    (span,) = exported.spans()["process course-changes"]
    assert ids(span) == change_span(TOPIC_ID, 3, 0, trace(0))
    assert span.context is not None
    assert (span.context.trace_flags.sampled, span.context.trace_state.to_header()) == (True, "n=0")
    assert span.parent is not None
    assert (span.parent.trace_id, span.parent.span_id, span.parent.is_remote) == (1, 1, True)
    assert span.kind is SpanKind.CONSUMER
    assert (span.start_time, span.end_time) == (consumed * 1_000_000, bench.now.wall * 1_000_000)
    assert span.status.status_code is StatusCode.UNSET
    assert links(span) == [batch_span(TOPIC_ID, "3-0-1")]
    assert span.attributes == {
        "messaging.system": "kafka",
        "messaging.destination.name": "course-changes",
        "messaging.destination.partition.id": "3",
        "messaging.kafka.offset": 0,
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "messaging.consumer.group.name": "course-sync-daemon",
        "coursesync.status": "SUCCEEDED",
        "coursesync.integration_id": "hr:1",
        "coursesync.batch_id": "3-0-1",
        "coursesync.task_id": "task-1",
        "coursesync.attempts": 1,
    }
    assert (
        dict(span.resource.attributes).items()
        >= {
            "service.name": "course-sync-daemon",
            "service.version": "1.2.3",
        }.items()
    )


def test_the_spans_of_a_batch() -> None:
    exported = Exported()
    bench = exported.bench
    exported.accepted(
        with_trace(bench.change("a")), with_trace(bench.change("b"), "00"), with_trace(bench.change("c"))
    )
    accepted = bench.now.wall * 1_000_000
    bench.pass_time(5.0)
    bench.crash()
    bench.poll_answer(bench.only(), bench.completed(*(succeeded(name) for name in "abc")))
    spans = exported.spans()
    (batch,), (submit,), (poll,) = spans["batch upsert"], spans["submit"], spans["poll"]
    assert ids(batch) == batch_span(TOPIC_ID, "3-0-1")
    assert batch.parent is None
    assert links(batch) == [change_span(TOPIC_ID, 3, number, trace(number)) for number in (0, 2)]
    assert [ids(span)[0] for span in (submit, poll)] == [ids(batch)[0]] * 2
    assert [span.parent for span in (submit, poll)] == [batch.context] * 2
    assert len({ids(span)[1] for span in (batch, submit, poll)}) == 3
    end = bench.now.wall * 1_000_000
    assert (batch.start_time, batch.end_time) == (submit.start_time, end)
    assert (submit.end_time, poll.start_time, poll.end_time) == (accepted, accepted, end)
    assert batch.attributes == {
        "coursesync.integration_id": "hr:1",
        "coursesync.operation": "upsert",
        "coursesync.batch_id": "3-0-1",
        "coursesync.task_id": "task-1",
        "coursesync.outcome": "completed",
        "coursesync.changes": 3,
        "coursesync.changes.sampled": 2,
    }
    changes = {ids(span): links(span) for span in spans["process course-changes"]}
    assert changes == {link: [ids(batch)] for link in links(batch)}


def test_each_attempt_has_a_batch_and_the_change_has_one_span() -> None:
    exported = Exported()
    bench = exported.bench
    exported.accepted(with_trace(bench.change("a")))
    bench.poll_answer(bench.only(), bench.task_failed("REMOTE.RATE_LIMIT_EXCEEDED"))
    bench.pass_time(120.0)
    bench.linger()
    bench.linger()
    bench.accept(bench.only())
    bench.poll_answer(bench.only(), bench.completed(failed("a")))
    spans = exported.spans()
    (change,) = spans["process course-changes"]
    assert [links(batch) for batch in spans["batch upsert"]] == [[ids(change)]] * 2
    assert [batch.status.status_code for batch in spans["batch upsert"]] == [
        StatusCode.ERROR,
        StatusCode.UNSET,
    ]
    assert links(change) == [ids(spans["batch upsert"][1])]
    assert change.status.status_code is StatusCode.ERROR
    assert change.attributes is not None
    assert change.attributes["error.type"] == change.attributes["coursesync.code"] == "LMS.COURSE_ARCHIVED"
    assert change.attributes["coursesync.attempts"] == 2


def test_a_call_without_a_task_has_no_polls() -> None:
    exported = Exported()
    bench = exported.bench
    bench.read(with_trace(bench.deactivation("a", "remote:1")))
    bench.linger()
    bench.submit_answer(bench.only(), Done("kombo-a"))
    spans = exported.spans()
    assert sorted(spans) == ["batch deactivate", "process course-changes", "submit"]


def test_a_change_that_is_not_sent_has_no_links() -> None:
    exported = Exported()
    bench = exported.bench
    bench.read(with_trace(bench.change("a")), bench.change("a"))
    bench.linger()
    (span,) = exported.spans()["process course-changes"]
    assert links(span) == []
    assert span.attributes is not None
    assert span.attributes["coursesync.status"] == "SUPERSEDED"
    assert span.attributes["coursesync.superseded_by.offset"] == 1


def test_what_the_publisher_does_not_record_is_not_exported() -> None:
    exported = Exported()
    bench = exported.bench
    exported.accepted(bench.change("a"), with_trace(bench.change("b"), "00"))
    bench.poll_answer(bench.only(), bench.completed(succeeded("a"), succeeded("b")))
    exported.export.notify(DrainStarted(1.0))
    assert exported.spans() == {}


def test_no_span_ends_before_it_starts() -> None:
    """The clock of the replica that consumed it may have been ahead."""
    exported = Exported()
    bench = exported.bench
    exported.accepted(with_trace(bench.change("a")))
    bench.pass_time(-60.0)
    bench.poll_answer(bench.only(), bench.completed(succeeded("a")))
    for spans in exported.spans().values():
        for span in spans:
            assert span.start_time is not None
            assert span.end_time is not None
            assert span.start_time <= span.end_time


def test_spans_are_built_and_sent_in_a_thread_of_their_own() -> None:
    exported = Exported()
    bench = exported.bench
    bench.read(with_trace(bench.change("a")), bench.change("a"))
    bench.linger()
    assert exported.spans()
    assert threading.current_thread().name not in exported.collector.threads


def test_the_service_has_the_name_that_operators_give_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.version=7,deployment.environment.name=test")
    exported = Exported()
    attributes = dict(exported.export._resource.attributes)
    exported.export.close()
    assert attributes["service.name"] == "mine"
    assert attributes["service.version"] == "7"
    assert attributes["deployment.environment.name"] == "test"


# --- whether spans are exported -------------------------------------------------------------------


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_SERVICE_NAME": "mine"},
        GIVEN | {"OTEL_SDK_DISABLED": "TRUE"},
        GIVEN | {"OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
    ],
)
def test_without_an_endpoint_nothing_is_exported_and_nothing_is_said(environment: Mapping[str, str]) -> None:
    found = from_environment(environment, **WHAT)
    assert (found.exporter, found.problem) == (None, None)


@pytest.mark.parametrize(
    "environment",
    [
        GIVEN,
        {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1/v1/traces"},
        {"OTEL_TRACES_EXPORTER": "otlp"},
        GIVEN | {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", "OTEL_SDK_DISABLED": "false"},
    ],
)
async def test_with_an_endpoint_spans_are_exported(environment: Mapping[str, str]) -> None:
    found = from_environment(environment, **WHAT)
    assert isinstance(found.exporter, SpanExport)
    await found.close()
    assert found.exporter is None


def test_another_protocol_is_refused_with_the_remedy() -> None:
    found = from_environment(GIVEN | {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, **WHAT)
    assert found.exporter is None
    assert "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf" in (found.problem or "")


def test_a_variable_that_is_not_valid_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "-1")
    found = from_environment(GIVEN, **WHAT)
    with capture_logs() as lines:
        found.report()
    assert found.exporter is None
    assert "max_queue_size must be a positive integer" in lines[0]["reason"]
    assert lines[0]["event"] == "traces.not_exported"


WITHOUT_EXTRA = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "opentelemetry":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Refuse())
from daemon.telemetry.tracing import from_environment
"""


def run(code: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    return ended.stdout


def test_without_the_extra_a_warning_says_what_to_install() -> None:
    problem = run(f"{WITHOUT_EXTRA}\nprint(from_environment({GIVEN!r}, **{WHAT!r}).problem)")
    assert "pip install 'course-sync-daemon[otel]'" in problem
    assert run(f"{WITHOUT_EXTRA}\nprint(from_environment({{}}, **{WHAT!r}).problem)") == "None\n"


def test_nothing_of_opentelemetry_is_imported_if_nothing_is_exported() -> None:
    code = f"""
import asyncio, sys
import daemon.commands.run
from daemon.commands.assembly import make_instruments
from daemon.config import Settings
async def instruments(environment):
    return make_instruments(Settings(), environment)
for environment in {{}}, {GIVEN!r}:
    asyncio.run(instruments(environment))
    print("opentelemetry" in sys.modules)
"""
    assert run(code) == "False\nTrue\n"


# --- the end of the process -----------------------------------------------------------------------


class Slow:
    """An exporter whose collector does not answer."""

    def __init__(self) -> None:
        self.released = threading.Event()

    def notify(self, event: object) -> None:
        pass

    def close(self) -> None:
        self.released.wait(60.0)


async def test_a_collector_that_does_not_answer_delays_the_end_for_a_bounded_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tracing, "CLOSE_MAX", 0.01)
    slow = Slow()
    try:
        with capture_logs() as lines:
            await asyncio.wait_for(Tracing(slow).close(), 30.0)
        assert [line["event"] for line in lines] == ["traces.lost"]
    finally:
        slow.released.set()
    assert CLOSE_MAX <= 5.0
