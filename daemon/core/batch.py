"""Open submissions: a batch as the core changes it, and the frozen views of it that the runtime works with."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from daemon.core import journal
from daemon.core.model import Item
from daemon.core.operation import Operation


class Batch(msgspec.Struct, gc=False):
    """A sealed bulk submission in memory; it does not leave the core. The body is dropped once the API has accepted it
    and read back from the journal, at `offset`, when a retry needs it.
    """

    id: str
    operation: Operation
    integration_id: str
    items: tuple[Item, ...]
    body: bytes | None
    digest: bytes
    api_floor: int
    sealed_at: int
    offset: int | None = None
    """Where its record lies in the journal; None until it is committed."""
    replays: int = 0
    """As in `journal.SealedBatch`."""
    fate_unknown: bool = False
    """A POST of it may have made a task that we know nothing of (R13)."""
    task_id: str | None = None
    accepted_at: int | None = None
    accepted_mono: float = 0.0
    """As `accepted_at`, by the monotonic clock of this process; of a restored one, as far as the wall clock tells."""
    created_at: int | None = None
    """API time, once a poll has told it."""
    polls: int = 0
    """How often its task was polled, when it last was."""
    consumed_at: int = 0
    """When the oldest of its changes was consumed."""

    def submission(self) -> Submission | None:
        """What is to be POSTed; None once it has a task."""
        if self.task_id is not None:
            return None
        assert self.body is not None
        return Submission(
            self.id, self.operation, self.integration_id, self.body, len(self.items), self.fate_unknown
        )

    def task(self) -> OpenTask | None:
        """What is to be polled; None while it has no task."""
        if self.task_id is None:
            return None
        assert self.accepted_at is not None
        return OpenTask(
            self.id,
            self.task_id,
            self.integration_id,
            self.items,
            self.api_floor,
            self.accepted_at,
            self.accepted_mono,
            self.offset,
            self.digest,
        )


@dataclass(frozen=True, slots=True)
class Submission:
    """A batch that the API has not accepted yet."""

    batch_id: str
    operation: Operation
    integration_id: str
    body: bytes
    items: int
    fate_unknown: bool
    """As in `Batch`."""


@dataclass(frozen=True, slots=True)
class OpenTask:
    """A batch that the API has made a task of."""

    batch_id: str
    task_id: str
    integration_id: str
    items: tuple[Item, ...]
    api_floor: int
    accepted_at: int
    accepted_mono: float
    """As in `Batch`."""
    offset: int | None
    digest: bytes
    """Where the payload lies in the journal, and what it is recognised by (R9)."""


@dataclass(frozen=True, slots=True)
class LateTask:
    """A task that was given up with `TIMED_OUT` and may still apply (R12)."""

    task_id: str
    record: journal.Late
    accepted_mono: float
    """As in `Batch`."""
