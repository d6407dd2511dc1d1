"""Bugs of the limit of rejected records (C6)."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import UNSET

from daemon.core.journal import Rejections
from daemon.core.model import Change, Now, Rejection
from daemon.core.rejection_limit import RejectionLimit
from daemon.core.shard import Shard
from daemon.runtime.failures import StoppedInput
from tests.sim.mutants.registry import Patch, mutant


@mutant("C6", "An input that consists of invalid records is emptied into the dead letters.")
def rejections_without_limit(patch: Patch) -> None:
    patch(RejectionLimit, "readable", lambda _, entries: entries)


@mutant("C6", "Rejections are counted in memory only, so a restart begins a new count.")
def rejections_are_forgotten(patch: Patch) -> None:
    patch(RejectionLimit, "record", property(lambda _: UNSET))


@mutant("C6", "Valid records do not reset the count of the rejected ones.")
def rejections_without_ratio(patch: Patch) -> None:
    patch(RejectionLimit, "_exceeds_ratio", lambda _, counts: counts.rejected > 0)


@mutant("C6", "A single valid record resets the count of the rejected ones.")
def rejections_in_a_row_only(patch: Patch) -> None:
    passes = RejectionLimit._passes

    def reset(limit: RejectionLimit, entry: Change | Rejection) -> bool:
        if isinstance(entry, Change):
            limit._counts = Rejections()
        return passes(limit, entry)

    patch(RejectionLimit, "_passes", reset)


@mutant("C6", "`coursesyncd reject` has no effect.")
def consent_changes_nothing(patch: Patch) -> None:
    create = RejectionLimit.__init__

    def forget(limit: RejectionLimit, limits: object, journalled: object) -> None:
        create(limit, limits, journalled)  # type: ignore[arg-type]
        if limit._counts.allowed_to:
            limit._counts = Rejections(rejected=10**6, records=10**6)

    patch(RejectionLimit, "__init__", forget)


@mutant("C1", "The position moves past the record that stops reading.")
def stop_loses_the_record(patch: Patch) -> None:
    read = Shard.read

    def lose(shard: Shard, entries: Sequence[Change | Rejection], next_offset: int, now: Now) -> None:
        read(shard, entries, next_offset, now)
        shard._next_read = next_offset

    patch(Shard, "read", lose)


@mutant(
    "C8", "A shard that loses its fence before a stop was committed never reads the records before the stop."
)
def stop_before_its_commit(patch: Patch) -> None:
    def hold(stopped: StoppedInput, shard: Shard) -> bool:
        return shard.next_read <= stopped.offset >= shard.rejection_limit._counts.allowed_to

    patch(StoppedInput, "holds", hold)
