"""Open submissions: the mutable batch of the core, and the frozen views of it that the runtime uses."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from msgspec import UnsetType

from daemon.core import journal
from daemon.core.items import Items
from daemon.core.journal_fold import RestoredBatch
from daemon.core.model import Item, Now
from daemon.core.operation import Operation
from daemon.core.trace import Stored


class Batch(msgspec.Struct, gc=False):
    """A sealed bulk submission in memory. It never leaves the core. Once the API has accepted it, the body is
    dropped. If a retry needs the body, it is read back from the journal at `offset`.
    """

    id: str
    operation: Operation
    integration_id: str
    items: Items
    body: bytes | None
    digest: bytes
    api_floor: int
    sealed_at: int
    offset: int | None = None
    """Offset of its record in the journal; None until the record is committed."""
    replays: int = 0
    """As in `journal.SealedBatch`."""
    splits: int = 0
    """As in `journal.SealedBatch`."""
    bulk: bool = False
    """As in `journal.SealedBatch`."""
    fate_unknown: bool = False
    """A POST of this batch may have created a task whose id is not known (R13)."""
    task_id: str | None = None
    accepted_at: int | None = None
    accepted_mono: float = 0.0
    """Like `accepted_at`, by the monotonic clock of this process. For a restored batch it is estimated from the wall
    clock.
    """
    created_at: int | None = None
    """API time; known once a poll has been answered."""
    polls: int = 0
    """The number of polls of its task, as of the last one."""
    refusal: journal.Refusal | None = None
    """The last answer to its POST, if the POST was refused or not answered."""

    def record(self, items: tuple[Item, ...], traces: Stored | UnsetType) -> journal.SealedBatch:
        """The record of the batch, which is written once, when it is sealed; `restored_batch` reads it. `items`: those of the
        batch, not packed.
        """
        assert self.body is not None
        return journal.SealedBatch(
            self.integration_id,
            self.sealed_at,
            self.api_floor,
            items,
            msgspec.Raw(self.body),
            self.replays,
            self.operation.name,
            self.splits,
            self.bulk,
            traces,
        )

    def submission(self) -> Submission | None:
        """The submission to POST; None once the batch has a task."""
        if self.task_id is not None:
            return None
        assert self.body is not None
        return Submission(
            self.id,
            self.operation,
            self.integration_id,
            self.body,
            len(self.items),
            self.fate_unknown,
            self.bulk,
        )

    def task(self) -> OpenTask | None:
        """The task to poll; None while the batch has no task."""
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
            self.splits,
        )


def restored_batch(batch_id: str, kept: RestoredBatch, refusal: journal.Refusal | None, now: Now) -> Batch:
    """The batch as the journal has it. Without a task, its POST has unknown fate (R13)."""
    sealed, task = kept.sealed, kept.task
    assert task is not None or kept.body is not None, "unread bodies must be read before loading"
    return Batch(
        id=batch_id,
        operation=journal.operation_of(sealed),
        integration_id=sealed.integration_id,
        items=kept.items,
        body=kept.body,
        digest=kept.digest,
        api_floor=sealed.api_floor,
        sealed_at=sealed.sealed_at,
        replays=sealed.replays,
        splits=sealed.splits,
        bulk=sealed.bulk,
        offset=kept.offset,
        fate_unknown=task is None or task.fate_unknown is True,
        task_id=task.task_id if task else None,
        accepted_at=task.accepted_at if task else None,
        accepted_mono=now.mono_at(task.accepted_at) if task else 0.0,
        refusal=refusal,
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
    bulk: bool
    """As in `Batch`."""


@dataclass(frozen=True, slots=True)
class OpenTask:
    """A batch for which the API has created a task."""

    batch_id: str
    task_id: str
    integration_id: str
    items: Items
    api_floor: int
    accepted_at: int
    accepted_mono: float
    """As in `Batch`."""
    offset: int | None
    digest: bytes
    """The position of the payload in the journal, and the digest that verifies it (R9)."""
    splits: int
    """As in `journal.SealedBatch`."""


@dataclass(frozen=True, slots=True)
class LateTask:
    """A task that ended with `TIMED_OUT` and may still apply its content (R12)."""

    task_id: str
    record: journal.Late
    """Without its items."""
    items: Items
    accepted_mono: float
    """As in `Batch`."""
    key: bytes
    """Of its record in the journal."""

    @property
    def batch_id(self) -> str:
        """Identifies it. The id of the task does not: the API may have given it to other batches as well."""
        return self.record.batch_id
