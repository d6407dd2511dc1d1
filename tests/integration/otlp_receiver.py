"""A collector of spans: OTLP over HTTP with protobuf, as OpenTelemetry's own receives it."""

from __future__ import annotations

import gzip
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, NamedTuple, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue


class ReceivedSpan(NamedTuple):
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    """Empty if it has none."""
    state: str
    start_ms: int
    end_ms: int
    links: set[tuple[str, str]]
    """Trace and span."""
    attributes: dict[str, Any]
    service: str

    @property
    def ids(self) -> tuple[str, str]:
        return self.trace_id, self.span_id


class OtlpReceiver:
    """A context manager: inside it, `endpoint` accepts spans, unless it `hangs`: then no request is ever answered."""

    def __init__(self, *, hangs: bool = False) -> None:
        receiver = self
        self.requests = 0
        self._released = threading.Event()
        if not hangs:
            self._released.set()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.requests += 1
                receiver._released.wait()
                receiver._take(self.path, self.headers["content-encoding"], body)
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._lock = threading.Lock()
        self._spans: list[ReceivedSpan] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def spans(self, name: str) -> list[ReceivedSpan]:
        """Those with this name that have arrived so far."""
        with self._lock:
            return [span for span in self._spans if span.name == name]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()

    def _take(self, path: str, encoding: str | None, body: bytes) -> None:
        assert path == "/v1/traces"
        request = ExportTraceServiceRequest()
        request.ParseFromString(gzip.decompress(body) if encoding == "gzip" else body)
        with self._lock:
            for resource_spans in request.resource_spans:
                service = _attributes(resource_spans.resource.attributes)["service.name"]
                for scope_spans in resource_spans.scope_spans:
                    self._spans += [_received(span, service) for span in scope_spans.spans]


def _received(span: Any, service: str) -> ReceivedSpan:
    return ReceivedSpan(
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.trace_state,
        span.start_time_unix_nano // 1_000_000,
        span.end_time_unix_nano // 1_000_000,
        {(link.trace_id.hex(), link.span_id.hex()) for link in span.links},
        _attributes(span.attributes),
        service,
    )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair) for pair in pairs}


def _value(pair: KeyValue) -> Any:
    value: AnyValue = pair.value
    return getattr(value, value.WhichOneof("value") or "string_value")
