"""Ends changes that do not have to be sent (R16)."""

from __future__ import annotations

from daemon.core.lane import Lane
from daemon.core.memory import Memory
from daemon.core.model import Now, Status


def end_unchanged(memory: Memory, lane: Lane, now: Now) -> None:
    """End the ready changes whose course is known to have their content already. Each change is compared once: as long as
    it is ready, no submission of its course is open, so what is known of the course stays the same.
    """
    integration_id, unexamined, is_full = lane.integration_id, lane.unexamined, memory.draft.is_full
    while unexamined and not is_full:
        origin_id = unexamined.pop()
        held = lane.ready(origin_id)
        known = None if held is None else memory.known.unchanged(integration_id, held, now)
        if held is None or known is None:
            continue
        memory.waiting.remove(lane, origin_id)
        memory.draft.wait_changed(integration_id, origin_id, durable=held.durable)
        memory.end(
            held.operation, integration_id, held.item, Status.UNCHANGED, now, course_id=known.course_id
        )
        is_full = memory.draft.is_full
    memory.waiting.drop_if_idle(integration_id)
