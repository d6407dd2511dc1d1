"""A submitted change that failed for a transient reason: it waits for its next attempt, or ends with this failure."""

from __future__ import annotations

import msgspec

from daemon.core.batch import Batch
from daemon.core.journal import Attempt
from daemon.core.lane import Held
from daemon.core.memory import Memory
from daemon.core.model import Item, Now, Status
from daemon.core.retries import Retry


def retry(
    memory: Memory, batch: Batch, entry: tuple[Item, bytes], attempt: Attempt, why: Retry, now: Now
) -> None:
    """Hold this change of a closed batch. If a newer change of its course is waiting (R10), or if its attempts or its
    time are used up, it ends instead. It is re-encoded, because equal bytes would return the failed task (R14).
    """
    integration_id, (item, body) = batch.integration_id, entry
    failures = item.failures + (why is Retry.COUNTED)
    newer = memory.waiting.lane(integration_id).held.get(item.origin_id)
    if newer is not None and newer.bulk and not batch.bulk:
        _promote(memory, integration_id, newer)
    if newer is not None or memory.retries.is_over(integration_id, item, failures, why, now):
        memory.end(batch.operation, integration_id, item, Status.FAILED, now, attempt=attempt)
        return
    delay = memory.retries.delay(integration_id, item, failures, why)
    kept = msgspec.structs.replace(item, failures=failures)
    body = batch.operation.reencode_item(body, memory.rng)
    held = Held(batch.operation, kept, body, now.wall + int(delay * 1000), attempt, bulk=batch.bulk)
    memory.hold(integration_id, held, now.mono + delay)
    memory.draft.retry_held(len(body))


def _promote(memory: Memory, integration_id: str, held: Held) -> None:
    """Such a bulk change takes the place of one that was not bulk, and that would have been sent again (R21)."""
    assert not held.ready, "its course is busy"
    held.bulk = False
    held.count_in(None)  # until the journal has it
    memory.draft.wait_changed(integration_id, held.item.origin_id, durable=held.durable)
    held.durable = False
