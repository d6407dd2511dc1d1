"""Restores the memory of a shard from its journal: the counterpart of what each operation on the memory writes."""

from __future__ import annotations

from msgspec import UNSET

from daemon.core import journal
from daemon.core.batch import LateTask, restored_batch
from daemon.core.journal_fold import Fold
from daemon.core.lane import Held
from daemon.core.memory import Memory
from daemon.core.model import Now
from daemon.core.waiting import waits_for_customer


def load(memory: Memory, fold: Fold, now: Now, fenced_at: float) -> None:
    """Fill the empty memory from the journal. Batches without a task have unknown fate (R13). `fenced_at` is when all
    earlier owners had been fenced (monotonic).
    """
    memory.api_floors.load(fold.floors, now)
    for batch_id, kept in fold.batches.items():
        memory.traces.load(kept.sealed.traces)
        memory.occupy(restored_batch(batch_id, kept, fold.refusals.get(batch_id), now), kept.courses)
    for parts, late in fold.late.items():
        key = journal.late_key(*parts)
        accepted_mono = now.mono_at(late.record.accepted_at)
        memory.watch_late(LateTask(parts[-1], late.record, late.items, accepted_mono, key))
    for (integration_id, _), wait in fold.waits.items():
        _hold(memory, integration_id, wait, now)
    position = memory.position
    without_task = {id_: kept.offset for id_, kept in fold.batches.items() if kept.task is None}
    if memory.takeover.load(position.released, position.fencings, without_task, fenced_at):
        memory.draft.want()


def _hold(memory: Memory, integration_id: str, wait: journal.Wait, now: Now) -> None:
    """Hold the change of this record."""
    held = Held(
        journal.operation_of(wait),
        wait.item,
        bytes(wait.body),
        wait.not_before,
        wait.last,
        wait.resend is True,
        wait.bulk is True,
    )
    memory.traces.keep(wait.item.offset, None if wait.trace is UNSET else wait.trace)
    held.trace_size = memory.traces.size(wait.item.offset)
    lane = memory.waiting.lane(integration_id)
    memory.waiting.hold(lane, held, memory.retries.left(integration_id, wait.not_before, now))
    memory.waiting.journalled(lane, held)
    if waits_for_customer(wait):
        memory.waiting.park(lane, parked=True)
