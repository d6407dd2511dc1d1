"""The trace context of an input record, and of its result: W3C Trace Context in headers.

A record has a context in its headers ``traceparent`` and ``tracestate``, which the instrumentation of Kafka's clients writes, or
in the CloudEvents attributes of the same names (the extension "Distributed Tracing"): ``ce_traceparent`` in binary mode, a member
of the event in structured mode. The header comes first, because it names the span that published the record, and the attribute
may name one long before it.

What is not valid is ignored, as W3C Trace Context asks for (https://www.w3.org/TR/trace-context/, sections 3.2 and 3.3). A
tracing header never causes a rejection.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from daemon.codec.diagnose import DECODE_ERRORS
from daemon.core.model import TRACESTATE_CHARS_MAX, Trace

Headers = Sequence[tuple[str, bytes | None]]

_TRACEPARENT = re.compile(
    rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})"
)
_TRACEPARENT_BYTES = 55
_HEADERS = (("traceparent", "tracestate"), ("ce_traceparent", "ce_tracestate"))
"""In order of precedence."""

_MEMBER = b'"traceparent"'


class _Traced(msgspec.Struct):
    """The members of a CloudEvent that matter here, whatever they contain."""

    specversion: msgspec.Raw
    traceparent: Any = None
    tracestate: Any = None


_decode_traced = msgspec.json.Decoder(_Traced).decode


def trace_of(headers: Headers, value: bytes | None) -> Trace | None:
    """The trace context of an input record; None if it has none that is valid. Never raises."""
    if headers:
        found = dict(headers)  # the last one of a name counts, as in the instrumentation of Kafka
        for parent, state in _HEADERS:
            if parent in found and (trace := _parse(found[parent], found.get(state))) is not None:
                return trace
        if "ce_specversion" in found:
            return None  # in binary mode the value is the data alone
    if value is None or _MEMBER not in value:
        return None
    try:
        event = _decode_traced(value)
    except DECODE_ERRORS:
        return None
    return _parse(_bytes(event.traceparent), _bytes(event.tracestate))


def trace_headers(trace: Trace, span_id: int | None) -> Iterator[tuple[str, bytes]]:
    """The headers of a result. `span_id`: the daemon's own span of the change, if it is exported. Otherwise the publisher's
    context is passed on as it came.
    """
    parent = trace.parent
    if span_id is not None:
        parent = f"{parent[:36]}{span_id:016x}{parent[52:]}"
    yield "traceparent", parent.encode()
    if trace.state:
        yield "tracestate", trace.state.encode()


def _parse(parent: bytes | None, state: bytes | None) -> Trace | None:
    found = None if parent is None else _TRACEPARENT.match(parent)
    if parent is None or found is None:
        return None
    text = found[0].decode()
    if len(parent) > _TRACEPARENT_BYTES or found[1] != b"00":
        # A later version may add parts after a hyphen. It is read, and passed on, as version 00.
        if found[1] == b"00" or parent[_TRACEPARENT_BYTES:][:1] not in (b"", b"-"):
            return None
        text = f"00{text[2:53]}{int(found[4], 16) & 1:02x}"
    return Trace(text, _state(state))


def _state(state: bytes | None) -> str:
    """Dropped if it is longer than every participant has to carry, or not printable ASCII: the trace works without it."""
    if not state or len(state) > TRACESTATE_CHARS_MAX or not state.isascii():
        return ""
    text = state.decode().strip()
    return text if text.isprintable() else ""


def _bytes(member: Any) -> bytes | None:
    return member.encode(errors="replace") if isinstance(member, str) else None
