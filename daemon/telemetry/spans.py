"""Exports the spans of changes and batches by OTLP: the only module that imports OpenTelemetry.

How it works::

    StepCommitted ──▶ one span for each result whose publisher records the trace: from consumed to resolved
                      three for each batch with such changes, in a trace of its own: the batch, its submission, its polls
                  ──▶ queue of the BatchSpanProcessor ──▶ thread: builds the spans, encodes and sends them

Spans are made from committed steps, not opened and closed: a step has all times and ids, also those of before a restart. The
event loop only queues. At a full queue the oldest spans are dropped, and OpenTelemetry logs it.

The publisher decides what is recorded. Changes without a trace, or with one that is not sampled, have no span. A change is
*linked* to its batch and a batch to its changes, because each batch belongs to many traces.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags, TraceState
from opentelemetry.trace.status import Status as SpanStatus
from opentelemetry.trace.status import StatusCode

from daemon.core.model import Result, Status, Trace
from daemon.core.step import Step, TaskEnded, TaskOutcome, TracedBatch
from daemon.core.trace import SpanIds, batch_span, change_span
from daemon.telemetry.events import Event, StepCommitted

NAME = "course-sync-daemon"
SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_NO_RESOURCE = Resource.get_empty()
_ANY = SpanContext(1, 1, is_remote=False, trace_flags=SAMPLED)
_BAD = frozenset({Status.FAILED, Status.TIMED_OUT, Status.REJECTED})

Attributes = dict[str, str | int | bool]


class _Unbuilt(ReadableSpan):
    """Stands in the queue for spans that the exporting thread builds: building one takes ten times as long as queueing it."""

    def __init__(self, build: Callable[[], Sequence[ReadableSpan]]) -> None:
        super().__init__(
            "", _ANY, resource=_NO_RESOURCE
        )  # without one, OpenTelemetry would look for it each time
        self.build = build


class _Building(SpanExporter):
    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        built = [one for span in spans for one in (span.build() if isinstance(span, _Unbuilt) else [span])]
        return self._exporter.export(built)

    def shutdown(self) -> None:
        self._exporter.shutdown()


class SpanExport:
    """A subscriber of the runtime's events. Settings: the variables of OpenTelemetry (`OTEL_…`).

    Raises:
        Exception: of OpenTelemetry, if one of the variables is not valid.
    """

    def __init__(self, *, version: str, topic: str, group: str, exporter: SpanExporter | None = None) -> None:
        """`topic` is that of the input. `exporter`: in place of the one for OTLP."""
        self._topic = topic
        self._group = group
        self._resource = _resource(version)
        self._scope = InstrumentationScope(NAME, version)
        self._processor = BatchSpanProcessor(_Building(exporter or OTLPSpanExporter()))

    def notify(self, event: Event) -> None:
        if not isinstance(event, StepCommitted):
            return
        step, partition = event.step, event.partition
        for result in step.results:
            if result.trace is not None and result.trace.is_sampled:
                self._queue(partial(self._change, step.topic_id, partition, result, result.trace))
        for fact in step.facts:
            if isinstance(fact, TracedBatch):
                outcome = _outcome(step, fact.batch_id)
                self._queue(partial(self._batch, step.topic_id, partition, fact, outcome, event.now.wall))

    def close(self) -> None:
        self._processor.shutdown()  # type: ignore[no-untyped-call]

    def _queue(self, build: Callable[[], Sequence[ReadableSpan]]) -> None:
        self._processor.on_end(_Unbuilt(build))

    # --- in the exporting thread ------------------------------------------------------------------

    def _change(self, topic_id: str, partition: int, result: Result, trace: Trace) -> Sequence[ReadableSpan]:
        code = None if result.error is None else result.error.code
        attributes = self._place(partition, result.offset) | _known(
            {
                "messaging.operation.type": "process",
                "messaging.operation.name": "process",
                "messaging.consumer.group.name": self._group,
                "error.type": (code or "_OTHER") if result.status in _BAD else None,
                "coursesync.status": result.status.value,
                "coursesync.code": code,
                "coursesync.integration_id": result.integration_id,
                "coursesync.batch_id": result.batch_id,
                "coursesync.task_id": result.task_id,
                "coursesync.attempts": result.attempts,
                "coursesync.superseded_by.offset": result.superseded_by,
            }
        )
        links = []
        if result.batch_id is not None:
            links.append(Link(_context(batch_span(topic_id, result.batch_id)), {"coursesync.link": "batch"}))
        return [
            self._span(
                f"process {self._topic}",
                _context(change_span(topic_id, partition, result.offset, trace), trace),
                _context(SpanIds(trace.trace_id, trace.span_id), trace, is_remote=True),
                result.consumed_at,
                result.resolved_at,
                attributes,
                kind=SpanKind.CONSUMER,
                links=links,
                is_bad=result.status in _BAD,
            )
        ]

    def _batch(
        self, topic_id: str, partition: int, batch: TracedBatch, outcome: TaskOutcome | None, ended_at: int
    ) -> Sequence[ReadableSpan]:
        root = _context(batch_span(topic_id, batch.batch_id))
        links = [
            Link(
                _context(change_span(topic_id, partition, offset, trace), trace),
                self._place(partition, offset) | {"coursesync.link": "change"},
            )
            for offset, trace in batch.sampled
        ]
        attributes = _known(
            {
                "coursesync.integration_id": batch.integration_id,
                "coursesync.operation": batch.operation,
                "coursesync.batch_id": batch.batch_id,
                "coursesync.task_id": batch.task_id,
                "coursesync.outcome": None if outcome is None else outcome.value,
                "coursesync.changes": batch.items,
                "coursesync.changes.sampled": batch.sampled_count,
            }
        )
        is_bad = outcome is not None and outcome is not TaskOutcome.COMPLETED
        accepted_at = batch.accepted_at

        def part(name: str, start: int, end: int, more: Attributes) -> ReadableSpan:
            ids = _context(batch_span(topic_id, batch.batch_id, name))
            return self._span(name, ids, root, start, end, more, kind=SpanKind.CLIENT)

        spans = [
            self._span(
                f"batch {batch.operation}",
                root,
                None,
                batch.sealed_at,
                ended_at,
                attributes,
                links=links,
                is_bad=is_bad,
            ),
            part("submit", batch.sealed_at, ended_at if accepted_at is None else accepted_at, {}),
        ]
        if accepted_at is not None:
            spans.append(part("poll", accepted_at, ended_at, {"coursesync.polls": batch.polls}))
        return spans

    def _place(self, partition: int, offset: int) -> Attributes:
        """By OpenTelemetry's semantic conventions for Kafka."""
        return {
            "messaging.system": "kafka",
            "messaging.destination.name": self._topic,
            "messaging.destination.partition.id": str(partition),
            "messaging.kafka.offset": offset,
        }

    def _span(
        self,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        start: int,
        end: int,
        attributes: Attributes,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        links: Sequence[Link] = (),
        is_bad: bool = False,
    ) -> ReadableSpan:
        """`start` and `end`: wall clock, ms. The clock of another replica may have been ahead: no span ends before it starts."""
        return ReadableSpan(
            name,
            context,
            parent,
            self._resource,
            attributes,
            links=links,
            kind=kind,
            status=SpanStatus(StatusCode.ERROR if is_bad else StatusCode.UNSET),
            start_time=start * 1_000_000,
            end_time=max(start, end) * 1_000_000,
            instrumentation_scope=self._scope,
        )


def _outcome(step: Step, batch_id: str) -> TaskOutcome | None:
    """How the task of a batch ended; None if it had none."""
    ends = (fact.outcome for fact in step.facts if isinstance(fact, TaskEnded) and fact.batch_id == batch_id)
    return next(ends, None)


def _context(ids: SpanIds, trace: Trace | None = None, *, is_remote: bool = False) -> SpanContext:
    state = TraceState.from_header([trace.state]) if trace is not None and trace.state else TraceState()
    return SpanContext(ids.trace, ids.span, is_remote, SAMPLED, state)


def _known(attributes: dict[str, str | int | None]) -> Attributes:
    return {name: value for name, value in attributes.items() if value is not None}


def _resource(version: str) -> Resource:
    """The name and version of the service, unless OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES say otherwise."""
    told = OTELResourceDetector().detect().attributes
    own = {SERVICE_NAME: NAME, SERVICE_VERSION: version}
    return Resource.create({name: value for name, value in own.items() if name not in told})
