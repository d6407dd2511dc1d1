"""Bugs against the rules of sending: R6 and R7, and what a schedule owes to it."""

from __future__ import annotations

import heapq
from typing import Any

from daemon.codec import dead_letter
from daemon.codec import result as result_codec
from daemon.core.breaker import BackOff
from daemon.core.lane import Held, Lane
from daemon.core.model import Now
from daemon.core.schedule import Schedule
from daemon.core.shard import Shard
from daemon.core.step import Step
from daemon.kombo import redaction
from daemon.runtime import step_transaction
from daemon.runtime.partition import Partition
from daemon.runtime.submitter import Submitter
from tests.sim.mutants.registry import Patch, mutant

# --- R6 POSTs need a lease ------------------------------------------------------------------------


@mutant("R6", "A POST needs no lease, so a process that was paused sends batches of the new owner.")
def no_lease(patch: Patch) -> None:
    async def lease(partition: Partition, shard: Shard) -> bool:
        return partition.shard is shard and not partition._life.stopping

    patch(Partition, "lease", lease)


@mutant("R6", "The lease counts from the end of a commit instead of its beginning.")
def lease_from_the_end(patch: Patch) -> None:
    commit = Partition._commit

    async def count_from_end(partition: Partition, shard: Shard, shard_log: Any, step: Step) -> None:
        on_facts = partition._on_facts

        def renew(*a: Any) -> None:
            partition._lease.renew(partition._ports.clock.boot())
            on_facts(*a)

        partition._on_facts = renew
        try:
            await commit(partition, shard, shard_log, step)
        finally:
            partition._on_facts = on_facts

    patch(Partition, "_commit", count_from_end)


@mutant("R6", "A batch whose POST timed out or was cut off is POSTed again before its deadline has passed.")
def again_before_the_deadline(patch: Patch) -> None:
    send = Submitter._send

    async def long_ago(submitter: Submitter, permit: Any, batch: Any, started: Now) -> None:
        await send(submitter, permit, batch, Now(started.wall, started.mono - 1e6))

    patch(Submitter, "_send", long_ago)


@mutant("R6", "`Retry-After` is ignored.")
def retry_after_ignored(patch: Patch) -> None:
    for name in ("after_failure", "after_overload"):
        wait = getattr(BackOff, name)
        patch(
            BackOff, name, lambda back_off, retry, before, _, wait=wait: wait(back_off, retry, before, None)
        )


# --- R7 Everything that goes into a record is bounded ---------------------------------------------


@mutant("R7", "Oversized dead letters are not cut.")
def dead_letter_uncut(patch: Patch) -> None:
    encode = dead_letter.encode_dead_letter

    def whole(rejection: Any, partition: int, **names: Any) -> Any:
        return encode(rejection, partition, max_bytes=1 << 40, **names)

    patch(step_transaction, "encode_dead_letter", whole)


@mutant("R7", "Long error texts of the API are not cut.")
def error_text_uncut(patch: Patch) -> None:
    patch(redaction, "truncated", lambda text, chars_max: text)
    patch(result_codec, "truncated", lambda text, chars_max: text)


@mutant("R7", "Only the bodies count towards the size of a batch, not the rest of its record.")
def only_bodies_count(patch: Patch) -> None:
    patch(Held, "size", lambda held: len(held.body) // 2)


@mutant("R7", "The size of a batch is not limited.")
def batch_of_any_size(patch: Patch) -> None:
    take = Lane.take
    patch(Lane, "take", lambda lane, queue, items_max, bytes_max: take(lane, queue, items_max, 1 << 40))


# --- The heap -------------------------------------------------------------------------------------


@mutant("heap", "Stale entries of the heap are not skipped.")
def stale_entries_come_up(patch: Patch) -> None:
    def due(schedule: Schedule[Any]) -> float | None:
        return schedule._heap[0][0] if schedule._heap else None

    def pop_due(schedule: Schedule[Any], now: float) -> Any:
        if not schedule._heap or schedule._heap[0][0] > now:
            return None
        at, _, key = heapq.heappop(schedule._heap)
        schedule._live.pop(key, None)
        return at, key

    patch(Schedule, "due", due)
    patch(Schedule, "pop_due", pop_due)
