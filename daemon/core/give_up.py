"""Ends what operators have given up (R19).

What waits ends as `FAILED`, in as many steps as it takes. A submission without a task ends the same way once no POST of it can
have been carried out: before its first POST, or after a refusal. An open task ends only if that was asked for and once it was
polled, as `TIMED_OUT`, and stays watched (R12). A batch ends only if all of its changes are given up.
"""

from __future__ import annotations

from collections.abc import Container

import msgspec

from daemon.core import settle
from daemon.core.batch import Batch
from daemon.core.control import GiveUp, given_up_error
from daemon.core.journal import Attempt
from daemon.core.memory import Memory
from daemon.core.model import Now, Status
from daemon.core.result_factory import attempt_of
from daemon.core.stale_tasks import is_stale


def find_given_up(memory: Memory) -> None:
    """Look through everything that waits: a decision is new, or the memory was restored."""
    for integration_id in memory.control.given_up:
        lane = memory.waiting.lanes.get(integration_id)
        if lane is not None:
            memory.given_up += [
                (integration_id, origin_id)
                for origin_id, held in lane.held.items()
                if memory.decision(integration_id, held.item) is not None
            ]


def end_waiting(memory: Memory, now: Now) -> None:
    """End waiting changes that are given up, as many as fit into the step."""
    given_up = memory.given_up
    while given_up and not memory.draft.is_full:
        integration_id, origin_id = given_up.pop()
        lane = memory.waiting.lanes.get(integration_id)
        held = None if lane is None else lane.held.get(origin_id)
        if lane is None or held is None:
            continue
        decision = memory.decision(integration_id, held.item)
        if decision is None:
            continue  # a newer change has taken its place
        memory.waiting.remove(lane, origin_id)
        memory.draft.wait_changed(integration_id, origin_id, durable=held.durable)
        error = given_up_error(decision)
        last = held.last
        attempt = Attempt("", error) if last is None else msgspec.structs.replace(last, error=error)
        memory.end(held.operation, integration_id, held.item, Status.FAILED, now, attempt=attempt)
        memory.waiting.drop_if_idle(integration_id)


def end_batches(memory: Memory, in_flight: Container[str], now: Now) -> None:
    """End open batches that are given up. `in_flight`: those whose POST may still reach the API."""
    for integration_id in memory.control.given_up:
        lane = memory.waiting.lanes.get(integration_id)
        if lane is None:
            continue
        for batch_id in set(lane.busy.values()):
            batch = memory.batches.get(batch_id)
            if batch is None or batch.offset is None:
                continue  # it is watched already, or its record is being written
            if batch.task_id is None:
                if batch_id not in in_flight:
                    end_refused(memory, batch, now)
            else:
                end_task(memory, batch, now)
        memory.free_courses()


def end_task(memory: Memory, batch: Batch, now: Now) -> None:
    """End this batch if it is given up together with its task, and a poll has shown that the task is its own (R14): the end of
    an earlier task would be published as a correction.
    """
    if batch.created_at is None or is_stale(batch.api_floor, batch.created_at):
        return
    decision = _decision(memory, batch)
    if decision is not None and decision.open_tasks:
        settle.time_out(memory, batch, given_up_error(decision), now)


def end_refused(memory: Memory, batch: Batch, now: Now) -> None:
    """End this batch if it is given up and no POST of it can have been carried out."""
    decision = _decision(memory, batch)
    if batch.fate_unknown or decision is None:
        return
    memory.close(batch)
    attempt = attempt_of(batch, given_up_error(decision))
    for item in batch.items:
        memory.end(batch.operation, batch.integration_id, item, Status.FAILED, now, attempt=attempt)


def _decision(memory: Memory, batch: Batch) -> GiveUp | None:
    """By which all changes of the batch are given up; one that spares open tasks, if there is one."""
    if batch.integration_id not in memory.control.given_up:
        return None  # as nearly always: its items stay packed
    decisions = [memory.decision(batch.integration_id, item) for item in batch.items]
    given_up = [each for each in decisions if each is not None]
    if len(given_up) < len(decisions):
        return None
    return min(given_up, key=lambda each: each.open_tasks)
