"""What crosses the daemon's edges, as far as its judges look at it."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from tests.sim.journal_view import BatchRecord

Who = tuple[str, int]
"""A process: a replica and which of its lives."""

Course = tuple[str, str]


class SeenChange(msgspec.Struct):
    partition: int
    offset: int


class SeenError(msgspec.Struct):
    code: str | None


class SeenData(msgspec.Struct):
    status: str
    integration_id: str | None
    origin_id: str | None
    change: SeenChange
    batch_id: str | None
    error: SeenError | None
    superseded_by: SeenChange | None = None
    task_id: str | None = None


class SeenEvent(msgspec.Struct):
    type: str
    data: SeenData


decode_event = msgspec.json.Decoder(SeenEvent).decode


@dataclass(slots=True, eq=False)
class Post:
    who: Who
    ownership: int
    """The last one of the sender."""
    started: float
    over: float | None = None
    """When it was answered."""


@dataclass(slots=True, eq=False)
class Sealed:
    """A batch from its record to its tombstone, and beyond."""

    record: BatchRecord
    partition: int
    api_ms: int
    """API time when its record was committed."""
    ownership: int
    """Who sealed it, as `takeovers` counts them."""
    is_open: bool = True
    is_doubtful: bool = False
    """A POST of it had no answer by which its fate is known."""
    posts: dict[Who, Post] = field(default_factory=dict)
    """The last one of each process."""
    answered_by: dict[Who, float] = field(default_factory=dict)
    """When each process may POST it again: R6, after a POST without an understood answer."""
