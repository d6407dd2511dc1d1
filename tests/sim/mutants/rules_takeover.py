"""Bugs against R6 where a partition changes hands: what the position says of POSTs, and how long its next owner waits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from daemon.core import restoring
from daemon.core.memory import Memory
from daemon.core.model import Now
from daemon.core.takeover import Fencing, Released, Takeover
from daemon.runtime.partition import Partition
from daemon.runtime.partition_state import PartitionLifecycle
from daemon.runtime.posts import Posts
from daemon.runtime.submitter import Submitter
from tests.sim.mutants.registry import Patch, mutant
from tests.sim.parameters import Kind

Stated = tuple[Fencing, ...] | UnsetType


@mutant("R6", "A restored batch is POSTed at once, although the previous owner's POST may be in flight.")
def restored_at_once(patch: Patch) -> None:
    def restored(submitter: Submitter, partition: Partition, shard: Any) -> None:
        for batch in shard._memory.batches.values():
            if batch.task_id is None:
                submitter.offer(partition, shard, batch.integration_id, batch.id, bulk=batch.bulk)

    patch(Submitter, "restored", restored)


# --- An owner that ends in order ------------------------------------------------------------------


@mutant("R6", "An owner says that it has ended while a POST of its own is in flight.")
def released_in_flight(patch: Patch) -> None:
    patch(Posts, "in_flight", lambda posts, now: [])


@mutant("R6", "A POST that was given up counts as ended.", Kind.RESTARTS)
def given_up_is_ended(patch: Patch) -> None:
    patch(Posts, "unanswered", lambda posts, batch_id, until: posts.answered(batch_id))


@mutant(
    "R6",
    "An owner that ends in order forgets that it was still waiting for POSTs of the previous one.",
    Kind.RESTARTS,
)
def released_while_waiting(patch: Patch) -> None:
    hand_over = Takeover.hand_over

    def forget(takeover: Takeover, in_flight: Iterable[str], submissions: Iterable[str]) -> bool:
        waiting = takeover._quarantines
        takeover._quarantines = [each for each in waiting if each.fencing is not None]
        is_new = hand_over(takeover, in_flight, submissions)
        takeover._quarantines = waiting
        return is_new

    patch(Takeover, "hand_over", forget)


@mutant("R6", "The first record of the next owner repeats that the previous one has ended.")
def released_is_not_superseded(patch: Patch) -> None:
    load = Takeover.load

    def keep(
        takeover: Takeover,
        released: Released | UnsetType,
        fencings: Stated,
        batches: Mapping[str, int],
        fenced_at: float,
    ) -> bool:
        takeover.released = released
        return load(takeover, released, fencings, batches, fenced_at)

    patch(Takeover, "load", keep)
    patch(Takeover, "keep", lambda takeover: None)


@mutant("R6", "An owner says that it has ended while it still serves.")
def released_while_serving(patch: Patch) -> None:
    patch(PartitionLifecycle, "handing_over", property(lambda life: True))


@mutant("R6", "A batch that the previous owner named as in flight is POSTed at once.")
def in_flight_is_not_read(patch: Patch) -> None:
    load = Takeover.load

    def overlook(
        takeover: Takeover,
        released: Released | UnsetType,
        fencings: Stated,
        batches: Mapping[str, int],
        fenced_at: float,
    ) -> bool:
        none = released if released is UNSET else Released()
        return load(takeover, none, fencings, batches, fenced_at)

    patch(Takeover, "load", overlook)


@mutant("R6", "An owner that ends in order does not say so.", Kind.RESTARTS)
def never_released(patch: Patch) -> None:
    patch(Takeover, "hand_over", lambda takeover, in_flight, submissions: False)


# --- Since when nobody has POSTed -----------------------------------------------------------------


@mutant("R6", "The wait begins anew with each owner.", Kind.RESTARTS)
def waits_anew(patch: Patch) -> None:
    committed = Takeover.committed

    def restate(takeover: Takeover, appended_at: int | None, now: Now) -> bool:
        if not takeover._is_timed and appended_at is not None:
            for each in takeover._quarantines:
                if each.fencing is not None:
                    each.fencing = msgspec.structs.replace(each.fencing, at=appended_at, host_at=now.wall)
        return committed(takeover, appended_at, now)

    patch(Takeover, "committed", restate)


@mutant("R6", "The wait counts from the sealing of the batch.")
def counted_from_sealing(patch: Patch) -> None:
    load = restoring.load

    def count(memory: Memory, fold: Any, now: Now, fenced_at: float) -> None:
        position = memory.position
        if position.fencings is UNSET:
            sealed = [(kept.offset, kept.sealed.sealed_at) for kept in fold.batches.values() if not kept.task]
            memory.position = msgspec.structs.replace(
                position, fencings=tuple(Fencing(offset, offset, at, at) for offset, at in sealed)
            )
        load(memory, fold, now, fenced_at)

    patch(restoring, "load", count)


@mutant("R6", "The wait counts by the clocks of the hosts alone.", Kind.RESTARTS)
def counted_by_the_hosts(patch: Patch) -> None:
    committed = Takeover.committed

    def count(takeover: Takeover, appended_at: int | None, now: Now) -> bool:
        return committed(takeover, None if appended_at is None else now.wall, now)

    patch(Takeover, "committed", count)


@mutant("R6", "The wait counts by the clock of the broker alone, even if it was set.", Kind.RESTARTS)
def counted_by_the_broker(patch: Patch) -> None:
    committed = Takeover.committed

    def count(takeover: Takeover, appended_at: int | None, now: Now) -> bool:
        before = {id(each): each.fencing for each in takeover._quarantines if each.fencing is not None}
        for each in takeover._quarantines:
            if each.fencing is not None:
                each.fencing = msgspec.structs.replace(each.fencing, host_at=-(1 << 60))
        is_new = committed(takeover, appended_at, now)
        for each in takeover._quarantines:
            each.fencing = before.get(id(each), each.fencing)
        return is_new

    patch(Takeover, "committed", count)


@mutant("R6", "The statement that nobody has POSTed also covers batches that are sealed later.")
def said_of_later_batches(patch: Patch) -> None:
    committed = Takeover.committed

    def widen(takeover: Takeover, appended_at: int | None, now: Now) -> bool:
        if takeover._statable is not None:
            takeover._statable = takeover._statable[0], 1 << 40
        return committed(takeover, appended_at, now)

    patch(Takeover, "committed", widen)


@mutant("R6", "The statement that nobody has POSTed stays in the position after the wait.")
def said_for_ever(patch: Patch) -> None:
    cleared = Takeover.cleared

    def keep(takeover: Takeover, now: float) -> list[str]:
        over = [each for each in takeover._quarantines if each.until <= now]
        found = cleared(takeover, now)
        for each in over:
            each.batches, each.until = frozenset(), float("inf")
        takeover._quarantines += over
        return found

    patch(Takeover, "cleared", keep)


@mutant(
    "R6",
    "The statement that nobody has POSTed still covers a batch that is POSTed again because its task was lost.",
    Kind.RESTARTS,
)
def said_of_lost_tasks(patch: Patch) -> None:
    patch(Takeover, "task_lost", lambda takeover, offset: None)
