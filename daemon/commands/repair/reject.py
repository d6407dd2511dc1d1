"""``coursesyncd reject``: lets a partition continue whose reading has stopped because too many records were rejected.

It writes one position record as the partition's owner and changes nothing else. Each of the records that are not valid
changes then gets a REJECTED result and a dead letter. None is skipped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
from msgspec import UNSET

from daemon.commands.options import config_option, settings_or_exit
from daemon.commands.repair.journal_repair import (
    InspectedPartition,
    RepairError,
    confirmed,
    inspect_partition,
    renew,
    unjoined_log,
)
from daemon.core.journal import Position, Rejections
from daemon.log.errors import LogError
from daemon.log.port import Topics


@click.command()
@config_option
@click.option(
    "--partition", type=click.IntRange(0), required=True, help="Partition of the input that is blocked."
)
@click.option(
    "--to",
    "target",
    type=click.IntRange(0),
    metavar="OFFSET",
    help="Allow rejections below this offset. Default: the end of the input, so all records that are there now.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be done, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask; for scripts.")
def reject(*, config_file: Path | None, partition: int, target: int | None, dry_run: bool, yes: bool) -> None:
    """Let a partition reject records although too many were rejected.

    For a partition that is blocked by input.rejected_max. Its valid records are processed, and each of the others gets
    a REJECTED result and a dead letter. The replica that holds the partition resumes within seconds. From the
    given offset on, rejected records are counted again.
    """
    settings = settings_or_exit(config_file, unneeded=frozenset({"kombo"}))
    topics = settings.topics
    with asyncio.Runner() as runner:
        try:
            log = runner.run(unjoined_log(settings))
            try:
                found = runner.run(inspect_partition(log, partition, topics))
                position = allowed(found, target, topics)
                for line in told(found, position, topics):
                    click.echo(line)
                if confirmed("Allow it?", yes=yes, dry_run=dry_run):
                    runner.run(renew(log, found, position, topics))
                    click.echo(f"Done: partition {partition} continues at offset {position.next_offset}.")
            finally:
                runner.run(log.stop())
        except (LogError, RepairError) as error:
            raise click.ClickException(str(error)) from None


def allowed(found: InspectedPartition, target: int | None, topics: Topics) -> Position:
    """The position record with which the partition can continue.

    Raises:
        RepairError: reading has not stopped, or not because of rejected records; or there is nothing to allow.
    """
    position = found.position
    if position is None or position.rejections is UNSET or position.rejections.stopped_at is None:
        raise RepairError(
            f"partition {found.partition}: the journal does not say that reading has stopped because of rejected records. "
            "/state of the replica that holds the partition shows why it is blocked, if it is"
        )
    end = found.facts.latest if target is None else target
    if not position.next_offset < end <= found.facts.latest:
        raise RepairError(
            f"partition {found.partition}: {topics.changes} has unread records from {position.next_offset} up to "
            f"{found.facts.latest} (its end), so --to must be greater than the first and at most the second; it is {end}"
        )
    return msgspec.structs.replace(position, rejections=Rejections(allowed_to=end))


def told(found: InspectedPartition, position: Position, topics: Topics) -> Iterator[str]:
    """What the operator must know before answering."""
    assert found.position is not None
    counts = found.position.rejections
    assert counts is not UNSET
    assert position.rejections is not UNSET
    end = position.rejections.allowed_to
    yield (
        f"rejected  {counts.rejected} of the {counts.records} records of {topics.changes} partition {found.partition} "
        f"from offset {counts.since} on"
    )
    yield f"stopped   in front of offset {counts.stopped_at}; the input ends at {found.facts.latest}"
    yield (
        f"allow     up to {end - position.next_offset} records ({position.next_offset} to {end - 1}): those that are not "
        f"valid changes get a REJECTED result and a dead letter in {topics.dead_letters}"
    )
