"""``coursesyncd skip``: makes a blocked partition continue at an offset that the operator is responsible for.

It writes one position record as the partition's owner and changes nothing else. Open changes continue. It never guesses
an offset that could lose or double records; the operator must then name it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
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
from daemon.core.journal import Position
from daemon.core.model import Now
from daemon.core.stale_tasks import first_position
from daemon.log.errors import LogError
from daemon.log.port import Topics


@dataclass(frozen=True, slots=True)
class Plan:
    found: InspectedPartition
    position: Position
    """The position to be written."""

    @property
    def changes_nothing(self) -> bool:
        return self.position == self.found.position


class _Target(click.ParamType[int | str]):
    name = "earliest|latest|OFFSET"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        if value in ("earliest", "latest"):
            return str(value)
        if str(value).isdecimal():
            return int(str(value))
        return self.fail(f"{value!r} is neither earliest nor latest nor an offset", param, ctx)


@click.command()
@config_option
@click.option(
    "--partition", type=click.IntRange(0), required=True, help="Partition of the input that is blocked."
)
@click.option(
    "--to",
    "target",
    type=_Target(),
    help="Where to continue. Default: the position in the journal, or the first record still available after it.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be done, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask; for scripts.")
def skip(
    *, config_file: Path | None, partition: int, target: int | str | None, dry_run: bool, yes: bool
) -> None:
    """Make a blocked partition continue at another offset.

    Shows the state of journal and input and how many records will never get a result, and asks for confirmation.
    Open changes continue. The replica that holds the partition resumes within seconds.
    """
    settings = settings_or_exit(config_file, unneeded=frozenset({"kombo"}))
    topics = settings.topics
    with asyncio.Runner() as runner:
        try:
            log = runner.run(unjoined_log(settings))
            try:
                found = runner.run(inspect_partition(log, partition, topics))
                now = Now(time.time_ns() // 1_000_000, time.monotonic())
                plan = plan_skip(found, target, topics, now)
                for line in told(plan, topics):
                    click.echo(line)
                if plan.changes_nothing:
                    click.echo("Nothing to do: the journal already has this position.")
                elif confirmed("Continue there?", yes=yes, dry_run=dry_run):
                    runner.run(renew(log, found, plan.position, topics))
                    runner.run(log.commit_group_offset(partition, plan.position.next_offset))
                    click.echo(
                        f"Done: partition {partition} continues at offset {plan.position.next_offset}."
                    )
            finally:
                runner.run(log.stop())
        except (LogError, RepairError) as error:
            raise click.ClickException(str(error)) from None


def plan_skip(found: InspectedPartition, target: int | str | None, topics: Topics, now: Now) -> Plan:
    """The position record with which the partition can continue.

    Raises:
        RepairError: the offset is unknown, or continuing there would break a guarantee.
    """
    facts, position = found.facts, found.position
    offset = _offset(found, target, topics)
    if not facts.earliest <= offset <= facts.latest:
        raise RepairError(
            f"partition {found.partition}: {topics.changes} has the offsets {facts.earliest} to {facts.latest} "
            f"(its end), so it cannot be read from {offset}"
        )
    _refuse_to_double(found, offset, topics)
    if position is None:
        return Plan(found, first_position(offset, facts.topic_id, facts.partitions, now))
    renewed = msgspec.structs.replace(
        position, next_offset=offset, topic_id=facts.topic_id, partitions=facts.partitions
    )
    if (offset, facts.topic_id) != (position.next_offset, position.topic_id):
        renewed = msgspec.structs.replace(renewed, rejections=UNSET)  # they were counted before other records
    if (facts.topic_id, facts.partitions) != (position.topic_id, position.partitions):
        renewed = msgspec.structs.replace(renewed, courses_since=UNSET)  # its courses may have been elsewhere
    return Plan(found, renewed)


def _offset(found: InspectedPartition, target: int | str | None, topics: Topics) -> int:
    facts, position = found.facts, found.position
    match target:
        case int():
            return target
        case "earliest":
            return facts.earliest
        case "latest":
            return facts.stable  # records of an open transaction may still be committed
    if position is None or position.topic_id != facts.topic_id or position.next_offset > facts.latest:
        why = "has no position" if position is None else "refers to records that no longer exist"
        raise RepairError(
            f"partition {found.partition}: {topics.journal} {why}, so it cannot say where to continue. Choose "
            f"--to earliest, --to latest or --to OFFSET; {topics.changes} has {facts.earliest} to {facts.latest}"
        )
    return max(position.next_offset, facts.earliest)


def _refuse_to_double(found: InspectedPartition, offset: int, topics: Topics) -> None:
    """One result per change: nothing is read twice, and no two changes share an offset."""
    facts, position = found.facts, found.position
    same_topic = position is not None and position.topic_id == facts.topic_id
    if position is not None and same_topic and offset < position.next_offset <= facts.latest:
        raise RepairError(
            f"partition {found.partition}: {topics.changes} was read up to offset {position.next_offset}; reading from "
            f"{offset} again would give changes a second result. To send changes again, publish them again"
        )
    highest = max(found.open_offsets, default=-1)
    if highest >= offset:
        raise RepairError(
            f"partition {found.partition}: {found.under_way} come from offsets up to {highest}, and continuing at {offset} "
            f"would give these offsets to other changes. Choose --to an offset above {highest}, or give up the open "
            f"changes: see docs/runbook.md#begin-a-new-journal"
        )


def told(plan: Plan, topics: Topics) -> Iterator[str]:
    """What the operator must know before answering."""
    found, facts, position = plan.found, plan.found.facts, plan.found.position
    offset = plan.position.next_offset
    if position is None:
        yield f"journal   {topics.journal} partition {found.partition}: no position"
    else:
        yield (
            f"journal   {topics.journal} partition {found.partition}: read up to offset {position.next_offset} of a topic "
            f"with {position.partitions} partitions (id {position.topic_id})"
        )
    yield f"under way {found.under_way or 'nothing'}{'; continues' if found.under_way else ''}"
    yield (
        f"input     {topics.changes} partition {found.partition}: offsets {facts.earliest} to {facts.latest} (its end), "
        f"{facts.partitions} partitions (id {facts.topic_id})"
    )
    if facts.group_offset is not None:
        yield f"group     has committed offset {facts.group_offset} to Kafka"
    yield f"continue  at offset {offset}"
    yield from (f"          {line}" for line in _losses(plan))


def _losses(plan: Plan) -> Iterator[str]:
    """Counts offsets, including those of transaction markers and aborted records."""
    facts, position, offset = plan.found.facts, plan.found.position, plan.position.next_offset
    if position is not None and position.topic_id == facts.topic_id:
        if offset > position.next_offset:
            yield f"up to {offset - position.next_offset} records ({position.next_offset} to {offset - 1}) never get a result"
            gone = min(offset, facts.earliest) - position.next_offset
            if gone > 0:
                yield f"{gone} of them are deleted already"
        elif offset == position.next_offset:
            yield "no record is skipped"
        else:
            yield f"records that were read from offset {offset} before the log was truncated may get a second result"
    else:
        if position is not None:
            yield "unread records of the deleted topic never get a result"
        if offset > facts.earliest:
            yield f"up to {offset - facts.earliest} records ({facts.earliest} to {offset - 1}) are not read"
        if position is None and facts.group_offset is not None and offset < facts.group_offset:
            yield f"those below offset {facts.group_offset} may have a result and get a second one"
