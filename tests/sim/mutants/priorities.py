"""Bugs in the order of bulk changes and edits (R21)."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET

from daemon.core import next_attempt, restoring, sealing
from daemon.core.admission import Admission
from daemon.core.batch import Batch
from daemon.core.journal_fold import Fold
from daemon.core.lane import Held, Lane, ReadyQueue
from daemon.core.memory import Memory
from daemon.core.model import Change, Now
from daemon.core.priority import TurnQueue, Turns
from daemon.core.waiting import Waiting
from tests.sim.mutants.deactivations import share_busy_courses
from tests.sim.mutants.registry import Patch, mutant
from tests.sim.parameters import Kind


@mutant("R21", "Bulk changes are sealed and sent before the others.", Kind.LOADED)
def bulk_goes_first(patch: Patch) -> None:
    patch(Turns, "bulk_is_next", lambda turns, *, normal_waits, bulk_waits: bulk_waits)


@mutant("R21", "Bulk changes are sealed and sent only when no other waits.", Kind.LOADED)
def bulk_is_starved(patch: Patch) -> None:
    patch(Turns, "bulk_is_next", lambda turns, *, normal_waits, bulk_waits: bulk_waits and not normal_waits)


@mutant("R21", "Bulk changes and others are sealed into one batch, first come, first served.", Kind.LOADED)
def bulk_joins_the_others(patch: Patch) -> None:
    def get(queue: ReadyQueue, origin_id: str) -> Held | None:
        held = queue._held.get(origin_id)
        return held if held is not None and held.ready else None

    patch(ReadyQueue, "get", get)
    patch(Lane, "_queue_of", lambda lane, held: lane.normal)


@mutant("R21", "Bulk changes may take the whole window of their integration.", Kind.LOADED)
def bulk_takes_the_window(patch: Patch) -> None:
    patch(sealing, "bulk_places", lambda places: places)


@mutant("R21", "Batches are sent in the order in which they were sealed.", Kind.LOADED)
def sent_as_sealed(patch: Patch) -> None:
    append = TurnQueue.append
    patch(TurnQueue, "append", lambda queue, entry, *, bulk: append(queue, entry, bulk=False))


@mutant("R21", "After a restart, no waiting change is bulk.", Kind.LOADED)
def priority_is_not_journalled(patch: Patch) -> None:
    load = restoring.load

    def forget(memory: Memory, fold: Fold, now: Now, fenced_at: float) -> None:
        for course, wait in fold.waits.items():
            fold.waits[course] = msgspec.structs.replace(wait, bulk=UNSET)
        load(memory, fold, now, fenced_at)

    patch(restoring, "load", forget)


@mutant("R21", "After a restart, no batch is bulk.", Kind.LOADED)
def priority_of_batches_is_not_journalled(patch: Patch) -> None:
    load = restoring.load

    def forget(memory: Memory, fold: Fold, now: Now, fenced_at: float) -> None:
        for kept in fold.batches.values():
            kept.sealed = msgspec.structs.replace(kept.sealed, bulk=False)
        load(memory, fold, now, fenced_at)

    patch(restoring, "load", forget)


@mutant("R21", "A change that is sent again is bulk from then on.", Kind.LOADED)
def retries_are_bulk(patch: Patch) -> None:
    retry = next_attempt.retry

    def again(memory: Memory, batch: Batch, *arguments: Any) -> None:
        retry(memory, msgspec.structs.replace(batch, bulk=True), *arguments)

    patch(next_attempt, "retry", again)


@mutant("R21", "A bulk change that supersedes a waiting edit is sealed with the bulk changes.", Kind.LOADED)
def urgency_is_superseded(patch: Patch) -> None:
    admit = Admission._admit

    def lower(admission: Admission, change: Change, now: Now) -> None:
        lane = admission._memory.waiting.lanes.get(change.integration_id)
        waiting = None if lane is None else lane.held.get(change.origin_id)
        if change.bulk and lane is not None and waiting is not None and not waiting.bulk:
            if waiting.ready:
                lane.normal.leave(waiting)
                waiting.bulk = True
                lane.bulk.append(waiting)
            waiting.bulk = True
        admit(admission, change, now)

    patch(Admission, "_admit", lower)


@mutant("R21", "An edit that supersedes a waiting bulk change is sealed with the bulk changes.", Kind.LOADED)
def edit_stands_in_the_queue(patch: Patch) -> None:
    put = Lane.put

    def keep(lane: Lane, origin_id: str, held: Held) -> Held | None:
        old = lane.held.get(origin_id)
        held.bulk = held.bulk or (old is not None and old.bulk)
        return put(lane, origin_id, held)

    patch(Lane, "put", keep)


@mutant("R21", "A bulk change overtakes the open submission of its course.", Kind.LOADED)
def bulk_overtakes_its_course(patch: Patch) -> None:
    hold = Waiting.hold

    def hold_ready(waiting: Waiting, lane: Lane, held: Held, due: float | None) -> Held | None:
        if not held.bulk:
            return hold(waiting, lane, held, due)
        busy = lane.busy.pop(held.item.origin_id, None)
        old = hold(waiting, lane, held, due)
        if busy is not None:
            lane.busy[held.item.origin_id] = busy
        return old

    patch(Waiting, "hold", hold_ready)
    share_busy_courses(patch)
