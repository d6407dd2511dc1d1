"""What is under way for one integration: its waiting changes, its submissions and tasks, and the tasks that are still watched.

How it works. Waiting changes and the changes of batches are packed. What pages show of them is counted when one is added or
removed, never when a page is rendered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

import msgspec

from daemon.console.packed import (
    Errors,
    PackedItem,
    WaitingChange,
    consumed_at,
    for_customer,
    is_retry,
    not_before,
    unpacked_items,
    unpacked_wait,
)
from daemon.core.journal import Refusal, Task
from daemon.core.model import Error
from daemon.core.verdict import SubmitVerdict


class Stage(StrEnum):
    """Where a change is that has no result yet."""

    WAITING = "waiting"  # held back
    SEALED = "sealed"  # in a submission that the API has not accepted yet
    TASK = "in a task"


class Batch(msgspec.Struct, gc=False):
    """A submission, and its task if the API has accepted it."""

    partition: int
    batch_id: str
    integration_id: str
    operation: str
    sealed_at: int
    changes: int
    packed: bytes
    """Its changes."""
    oldest: int
    """When the oldest of them was consumed."""
    is_bulk: bool
    task: Task | None = None
    refusal: Refusal | None = None
    """Why the API has not accepted it yet."""

    @property
    def stage(self) -> Stage:
        return Stage.SEALED if self.task is None else Stage.TASK

    @property
    def items(self) -> list[PackedItem]:
        return unpacked_items(self.packed)


class Watched(msgspec.Struct, gc=False, frozen=True):
    """A task that has timed out and may still end."""

    partition: int
    batch_id: str
    task_id: str
    integration_id: str
    accepted_at: int
    changes: int
    packed: bytes

    @property
    def items(self) -> list[PackedItem]:
        return unpacked_items(self.packed)


class Waiting(NamedTuple):
    """A waiting change and its course."""

    partition: int
    integration_id: str
    origin_id: str
    change: WaitingChange


class Work:
    """What is under way for one integration."""

    def __init__(self) -> None:
        self.waits: dict[int, dict[str, bytes]] = {}
        """Packed, by partition and course."""
        self.waiting = self.retries = self.for_customer = 0
        self.batches: dict[tuple[int, str], Batch] = {}
        self.watched: dict[tuple[int, tuple[str, ...]], Watched] = {}
        self.changes: Counter[Stage] = Counter()
        self.tasks = 0
        self.refused_changes = 0
        self._oldest: int | None = None
        """When the oldest waiting change was consumed; None: not known, as long as there are any."""
        self._next_retry: int | None = None
        """The earliest time before which a retry is not sent; None: not known, as long as there are any; 0: there is none."""

    @property
    def is_empty(self) -> bool:
        return not (self.waiting or self.batches or self.watched)

    @property
    def open_changes(self) -> int:
        return self.waiting + self.changes[Stage.SEALED] + self.changes[Stage.TASK]

    @property
    def oldest(self) -> int | None:
        """When the oldest change without a result was consumed."""
        if self._oldest is None and self.waiting:
            self._oldest = min(consumed_at(min(of.values())) for of in self.waits.values() if of)
        found = [] if self._oldest is None else [self._oldest]
        found += [batch.oldest for batch in self.batches.values()]
        return min(found, default=None)

    @property
    def oldest_task(self) -> int | None:
        """When the oldest open task was accepted."""
        return min(
            (batch.task.accepted_at for batch in self.batches.values() if batch.task is not None),
            default=None,
        )

    @property
    def next_attempt(self) -> int | None:
        """What was refused or failed is not sent again before this time."""
        times = [refusal.not_before for refusal in self._refusals() if refusal.not_before is not None]
        if self.retries and self._next_retry is None:
            waits = (not_before(packed) for of in self.waits.values() for packed in of.values())
            self._next_retry = min(filter(None, waits), default=0)
        if self.retries and self._next_retry:
            times.append(self._next_retry)
        return min(times, default=None)

    @property
    def last_refusal(self) -> Refusal | None:
        return max(self._refusals(), key=lambda each: each.refused_at, default=None)

    def last_error(self, errors: Errors) -> Error | None:
        """Why the API refused, or did not answer, the submission that it refused last; otherwise the error of the oldest
        retry.
        """
        if (refusal := self.last_refusal) is not None:
            return refusal.error
        if not self.retries:
            return None
        retries = (packed for of in self.waits.values() for packed in of.values() if is_retry(packed))
        return unpacked_wait(min(retries), errors).error

    @property
    def is_parked(self) -> bool:
        """Whether it waits for its customer."""
        return self.for_customer > 0 or any(each.verdict == SubmitVerdict.PARK for each in self._refusals())

    def _refusals(self) -> Iterator[Refusal]:
        if self.refused_changes:
            for batch in self.batches.values():
                if batch.refusal is not None and batch.task is None:
                    yield batch.refusal

    # --- kept by `Journals` -----------------------------------------------------------------------

    def add_wait(self, partition: int, origin_id: str, packed: bytes) -> None:
        self.waits.setdefault(partition, {})[origin_id] = packed
        self.waiting += 1
        self.retries += is_retry(packed)
        self.for_customer += for_customer(packed)
        at = consumed_at(packed)
        if self.waiting == 1 or (self._oldest is not None and at < self._oldest):
            self._oldest = at
        after = not_before(packed)
        if after and self._next_retry is not None and (after < self._next_retry or not self._next_retry):
            self._next_retry = after

    def remove_wait(self, partition: int, origin_id: str) -> bytes | None:
        of = self.waits.get(partition)
        packed = None if of is None else of.pop(origin_id, None)
        if of is None or packed is None:
            return None
        if not of:
            del self.waits[partition]
        self.waiting -= 1
        self.retries -= is_retry(packed)
        self.for_customer -= for_customer(packed)
        if not self.waiting or consumed_at(packed) == self._oldest:
            self._oldest = None
        if not_before(packed) and not_before(packed) == self._next_retry:
            self._next_retry = None
        return packed

    def add_batch(self, batch: Batch) -> None:
        self.batches[batch.partition, batch.batch_id] = batch
        self._count_batch(batch, 1)

    def remove_batch(self, batch: Batch) -> None:
        """Call it before the task or the refusal of the batch becomes another one."""
        del self.batches[batch.partition, batch.batch_id]
        self._count_batch(batch, -1)

    def _count_batch(self, batch: Batch, sign: int) -> None:
        self.changes[batch.stage] += sign * batch.changes
        if batch.task is not None:
            self.tasks += sign
        elif batch.refusal is not None:
            self.refused_changes += sign * batch.changes
