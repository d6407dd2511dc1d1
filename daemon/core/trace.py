"""The publisher's trace context of a change, from its record to its result.

A change that has one carries it through waiting, batches, tasks and retries. The shard keeps the contexts beside its memory, by
the offset of the change, because most changes have none: then the table is empty and nothing is written. In the journal, a
context is in the record that holds its change.

The ids of the daemon's own spans are derived from what a change or a batch is, not drawn. So a replica that takes over gives a
change the same span as the one that was killed, and the header of its result names the span that is exported.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

from msgspec import UNSET, UnsetType

from daemon.core.model import Item, Trace

Stored = dict[int, Trace]
"""The contexts of a record with several changes, by offset; changes without one are left out."""

LINKS_MAX = 128
"""Changes that a batch is linked to. It is the default of OpenTelemetry; backends cut longer lists."""

STORED_OVERHEAD = 90
"""Bytes of a stored context without its state: `traceparent`, the offset, punctuation."""


class Traces:
    """The contexts of the changes that a shard holds. Those of a watched task, whose changes have ended, are in its record."""

    def __init__(self) -> None:
        self._by_offset: dict[int, Trace] = {}

    def keep(self, offset: int, trace: Trace | None) -> None:
        if trace is not None:
            self._by_offset[offset] = trace

    def load(self, stored: Stored | UnsetType) -> None:
        if stored is not UNSET:
            self._by_offset.update(stored)

    def get(self, offset: int) -> Trace | None:
        return self._by_offset.get(offset)

    def of(self, items: Iterable[Item]) -> Stored | UnsetType:
        """The contexts of these changes; absent if none of them has one."""
        kept = self._by_offset
        if not kept:
            return UNSET
        return {item.offset: kept[item.offset] for item in items if item.offset in kept} or UNSET

    def size(self, offset: int) -> int:
        """Bytes that the context of a change takes in a batch record; 0 if there is none."""
        trace = self._by_offset.get(offset)
        return (
            0 if trace is None else STORED_OVERHEAD + 2 * len(trace.state)
        )  # JSON may escape each character

    def end(self, offset: int) -> Trace | None:
        """The context of a change that ends; it is not kept any longer."""
        return self._by_offset.pop(offset, None)


class SpanIds(NamedTuple):
    """What names a span. In W3C Trace Context: trace-id and parent-id."""

    trace: int
    span: int


def change_span(topic_id: str, partition: int, offset: int, trace: Trace) -> SpanIds:
    """The span of a change, in the publisher's trace. `topic_id` is the id that Kafka gave the input topic when it was
    created, so clusters and topics with equal names do not share ids.
    """
    return SpanIds(trace.trace_id, _id(f"change/{topic_id}/{partition}/{offset}", 8))


def batch_span(topic_id: str, batch_id: str, part: str = "") -> SpanIds:
    """The span of a batch, or of a part of it, in the trace of the batch: many changes lead to one batch, so it belongs to none
    of their traces.
    """
    return SpanIds(_id(f"batch/{topic_id}/{batch_id}", 16), _id(f"{part}/{topic_id}/{batch_id}", 8))


def _id(name: str, size: int) -> int:
    # Zero is not a valid id, and not to be expected of a hash.
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=size).digest())
