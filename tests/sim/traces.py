"""The trace of a change: its result, and the correction of it, carry the trace context of its own record."""

from __future__ import annotations

import msgspec

from tests.sandbox.checker import LogRecord
from tests.sim.evidence import records
from tests.sim.outcome import Outcome
from tests.sim.world import World


def headers_of(number: int) -> tuple[tuple[str, bytes], ...]:
    """The context of the record with this number: every other one has one, half of them of traces that nobody records."""
    if number % 4 < 2:
        return ()
    parent = b"00-%032x-%016x-%02x" % (number + 1, number + 1, number % 2)
    return ("traceparent", parent), ("tracestate", b"n=%d" % number)


def judge_traces(world: World, outcome: Outcome) -> None:
    published = {
        f"{record.topic}/{record.partition}/{record.offset}": _context(record)
        for record in records(world, world.topics.changes)
    }
    for record in records(world, world.topics.results):
        event = msgspec.json.decode(record.value or b"")
        expected = published.get(event["id"].removesuffix("/correction"))
        found = _context(record)
        if found != expected:
            outcome.add(
                "traces", f"{event['type']} {event['id']} has the trace {found}, its change {expected}"
            )


def _context(record: LogRecord) -> tuple[bytes | None, bytes | None]:
    headers = dict(record.headers)
    return headers.get("traceparent"), headers.get("tracestate")
