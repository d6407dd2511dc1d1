"""What the journals hold, in little memory, and by integration: the console's own fold.

How it works. As in `core.journal_fold.Fold`, the last record of a key counts, and a tombstone removes it. Bodies are dropped, and
changes are packed. What pages need of a million changes is counted when a record comes in, never when a page is rendered:
`Work` has the counts of one integration, and `Journals.minutes` those of all changes by the minute in which they were consumed.
Records may come in any order and any number of times.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator

import msgspec

from daemon.console.packed import Errors, consumed_at, packed_items, packed_wait, shortened, unpacked_wait
from daemon.console.work import Batch, Stage, Waiting, Watched, Work
from daemon.core.journal import (
    Floor,
    JournalError,
    Late,
    Position,
    Refusal,
    SealedBatch,
    Task,
    Wait,
    decode,
    digest,
)
from daemon.core.journal_fold import UNREADABLE_MAX
from daemon.core.model import Item

MINUTE = 60_000


class Partition:
    """What the journal of one partition says, apart from changes."""

    def __init__(self) -> None:
        self.position: Position | None = None
        self.waiting = self.sealed = self.tasks = self.watched = 0
        """Waiting changes, submissions, tasks, and tasks that have timed out."""
        self.unreadable: dict[bytes, JournalError] = {}
        """Why the last record of a key cannot be read, by the key's digest."""
        self.batches: dict[str, Batch] = {}
        self.batch_tasks: dict[str, Task] = {}
        self.refusals: dict[str, Refusal] = {}
        """By batch, as `batch_tasks`. Their batch may come later, or never."""
        self.late: dict[tuple[str, ...], Watched] = {}


class Journals:
    """The journals of all partitions."""

    def __init__(self) -> None:
        self.errors = Errors()
        self.partitions: dict[int, Partition] = {}
        self.work: dict[str, Work] = {}
        """By integration; only those that have something under way."""
        self.minutes: dict[Stage, Counter[int]] = {stage: Counter() for stage in Stage}
        """Changes by the minute (since the epoch) in which they were consumed."""

    def apply(self, number: int, key: bytes | None, value: bytes | None) -> None:
        """One record of a journal partition."""
        partition = self._partition(number)
        try:
            parts, record = decode(key, value)
        except JournalError as error:
            if value is None:
                partition.unreadable.pop(digest(key or b""), None)
            elif len(partition.unreadable) < UNREADABLE_MAX:
                partition.unreadable[digest(key or b"")] = type(error)(str(error))  # without its frames
            return
        if partition.unreadable:
            partition.unreadable.pop(digest(key or b""), None)
        match record:
            case None:
                self._forget(number, partition, parts)
            case Position():
                partition.position = record
            case Wait():
                self._wait(number, partition, parts[1], parts[2], record)
            case SealedBatch():
                self._batch(number, partition, parts[1], record)
            case Task():
                partition.batch_tasks[parts[1]] = record
                self._changed(partition, parts[1])
            case Refusal():
                kept = shortened(record.error)
                partition.refusals[parts[1]] = msgspec.structs.replace(record, error=kept)
                self._changed(partition, parts[1])
            case Late():
                self._late(number, partition, parts, record)
            case Floor():
                pass

    def clear(self, number: int) -> None:
        """The journal of the partition is read from its beginning again."""
        partition = self.partitions.pop(number, None)
        if partition is None:
            return
        for batch_id in list(partition.batches):
            self._drop_batch(partition, batch_id)
        for name in list(partition.late):
            self._drop_late(partition, name)
        for integration_id, work in list(self.work.items()):
            for origin_id in list(work.waits.get(number, ())):
                self._drop_wait(number, partition, integration_id, origin_id)

    def oldest_waiting(self, integration_id: str, limit: int) -> list[Waiting]:
        """The waiting changes of one integration, the oldest first."""
        work = self.work.get(integration_id)
        if work is None:
            return []
        every = (
            (packed, partition, origin_id)
            for partition, of in work.waits.items()
            for origin_id, packed in of.items()
        )
        return [
            Waiting(partition, integration_id, origin_id, unpacked_wait(packed, self.errors))
            for packed, partition, origin_id in heapq.nsmallest(limit, every)
        ]

    def waits_of(self, integration_id: str, origin_id: str) -> Iterator[Waiting]:
        work = self.work.get(integration_id)
        for partition, of in {} if work is None else work.waits.items():
            if (packed := of.get(origin_id)) is not None:
                yield Waiting(partition, integration_id, origin_id, unpacked_wait(packed, self.errors))

    def waits_with(self, needle: str, limit: int) -> list[Waiting]:
        """Waiting changes with this change, batch or task."""
        found: list[Waiting] = []
        pattern = needle.encode(errors="replace")
        for integration_id, work in self.work.items():
            for partition, of in work.waits.items():
                if pattern not in b"".join(of.values()):  # ten times as fast as one after the other
                    continue
                for origin_id in [each for each, packed in of.items() if pattern in packed]:
                    change = unpacked_wait(of[origin_id], self.errors)
                    if needle in (change.change_id, change.batch_id, change.task_id):
                        found.append(Waiting(partition, integration_id, origin_id, change))
                        if len(found) >= limit:
                            return found
        return found

    # --- records ----------------------------------------------------------------------------------

    def _partition(self, number: int) -> Partition:
        partition = self.partitions.get(number)
        if partition is None:
            partition = self.partitions[number] = Partition()
        return partition

    def _of(self, integration_id: str) -> Work:
        work = self.work.get(integration_id)
        if work is None:
            work = self.work[integration_id] = Work()
        return work

    def _forget_if_empty(self, integration_id: str) -> None:
        work = self.work.get(integration_id)
        if work is not None and work.is_empty:
            del self.work[integration_id]

    def _wait(
        self, number: int, partition: Partition, integration_id: str, origin_id: str, wait: Wait
    ) -> None:
        self._drop_wait(number, partition, integration_id, origin_id)
        packed = packed_wait(wait, self.errors)
        self._of(integration_id).add_wait(number, origin_id, packed)
        partition.waiting += 1
        self.minutes[Stage.WAITING][consumed_at(packed) // MINUTE] += 1

    def _drop_wait(self, number: int, partition: Partition, integration_id: str, origin_id: str) -> None:
        work = self.work.get(integration_id)
        packed = None if work is None else work.remove_wait(number, origin_id)
        if packed is not None:
            partition.waiting -= 1
            _less(self.minutes[Stage.WAITING], consumed_at(packed) // MINUTE)
            self._forget_if_empty(integration_id)

    def _batch(self, number: int, partition: Partition, batch_id: str, sealed: SealedBatch) -> None:
        self._drop_batch(partition, batch_id)
        batch = Batch(
            number,
            batch_id,
            sealed.integration_id,
            sealed.operation,
            sealed.sealed_at,
            len(sealed.items),
            packed_items(sealed.items),
            min((item.consumed_at for item in sealed.items), default=sealed.sealed_at),
            sealed.bulk,
            partition.batch_tasks.get(batch_id),
            partition.refusals.get(batch_id),
        )
        partition.batches[batch_id] = batch
        self._count(partition, batch, 1)

    def _changed(self, partition: Partition, batch_id: str) -> None:
        """Its task or its refusal is another one."""
        batch = partition.batches.get(batch_id)
        if batch is not None:
            self._count(partition, batch, -1)
            batch.task = partition.batch_tasks.get(batch_id)
            batch.refusal = partition.refusals.get(batch_id)
            self._count(partition, batch, 1)

    def _count(self, partition: Partition, batch: Batch, sign: int) -> None:
        work = self._of(batch.integration_id)
        if sign > 0:
            work.add_batch(batch)
        else:
            work.remove_batch(batch)
        if batch.task is not None:
            partition.tasks += sign
        else:
            partition.sealed += sign
        minutes = self.minutes[batch.stage]
        for item in batch.items:
            if sign > 0:
                minutes[item.consumed_at // MINUTE] += 1
            else:
                _less(minutes, item.consumed_at // MINUTE)

    def _drop_batch(self, partition: Partition, batch_id: str) -> None:
        batch = partition.batches.pop(batch_id, None)
        if batch is not None:
            self._count(partition, batch, -1)
            self._forget_if_empty(batch.integration_id)

    def _late(self, number: int, partition: Partition, parts: list[str], late: Late) -> None:
        name = tuple(parts[1:])
        self._drop_late(partition, name)
        items: tuple[Item, ...] = late.items
        watched = Watched(
            number,
            late.batch_id,
            parts[-1],
            late.integration_id,
            late.accepted_at,
            len(items),
            packed_items(items),
        )
        partition.late[name] = watched
        partition.watched += 1
        self._of(late.integration_id).watched[number, name] = watched

    def _drop_late(self, partition: Partition, name: tuple[str, ...]) -> None:
        watched = partition.late.pop(name, None)
        if watched is not None:
            partition.watched -= 1
            work = self._of(watched.integration_id)
            work.watched.pop((watched.partition, name), None)
            self._forget_if_empty(watched.integration_id)

    def _forget(self, number: int, partition: Partition, parts: list[str]) -> None:
        match parts[0]:
            case "position":
                partition.position = None
            case "wait":
                self._drop_wait(number, partition, parts[1], parts[2])
            case "batch":
                self._drop_batch(partition, parts[1])
            case "task":
                partition.batch_tasks.pop(parts[1], None)
                self._changed(partition, parts[1])
            case "refusal":
                partition.refusals.pop(parts[1], None)
                self._changed(partition, parts[1])
            case "late":
                self._drop_late(partition, tuple(parts[1:]))


def _less(minutes: Counter[int], minute: int) -> None:
    left = minutes[minute] - 1
    if left > 0:
        minutes[minute] = left
    else:
        del minutes[minute]
