"""``coursesyncd give-up``: ends changes of one integration that have waited for too long (R19).

What is given up is named by the end of each input partition, taken before the journals are read. So the question shows what the
decision concerns, and changes that are published while the operator thinks are not given up.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from daemon.commands.connections import kafka_connection
from daemon.commands.decision_options import CourseParam, IntegrationParam, who_and_why
from daemon.commands.decisions import OBEYED, read_decisions, wall_ms, write_decisions
from daemon.commands.options import config_option, settings_or_exit
from daemon.commands.repair.journal_repair import (
    InspectedPartition,
    RepairError,
    confirmed,
    inspect_partitions,
    unjoined_log,
)
from daemon.commands.tables import printable
from daemon.config import Settings
from daemon.core.control import GIVEN_UP, GiveUp
from daemon.core.model import Item
from daemon.log.errors import LogError
from daemon.log.port import InputFacts, RepairLog


@click.command(name="give-up")
@click.argument("integration_id", metavar="INTEGRATION", type=IntegrationParam(patterns=False))
@click.option("--course", "origin_id", metavar="ID", type=CourseParam(), help="Only this course (origin_id).")
@click.option(
    "--open-tasks",
    is_flag=True,
    help="End open tasks as well, as TIMED_OUT. They stay watched, and a late end is still published.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be given up, and write nothing.")
@click.option("--yes", is_flag=True, help="Do not ask; for scripts.")
@who_and_why
@config_option
def give_up(
    *,
    integration_id: str,
    origin_id: str | None,
    open_tasks: bool,
    dry_run: bool,
    yes: bool,
    by: str,
    reason: str | None,
    config_file: Path | None,
) -> None:
    """Give up changes of an integration.

    All that were published before now, read or not. Waiting changes end FAILED with COURSESYNC.GIVEN_UP. So does a submission that the API has not accepted, if it cannot have
    received it; otherwise it stays until it ends. Open tasks keep their courses busy until they end, unless --open-tasks is
    given; their changes are not retried. Changes that are published later are not concerned.
    """
    settings = settings_or_exit(config_file, unneeded=frozenset({"kombo"}))
    try:
        connection = kafka_connection(settings.kafka)
        read_decisions(
            connection, settings.topics.control, wall_ms()
        )  # nobody answers a question for nothing
        plan = asyncio.run(_planned(settings, integration_id, origin_id))
        for line in plan.told(open_tasks=open_tasks):
            click.echo(printable(line))
        for sentence in plan.unreadable:
            click.echo(f"Not counted: {sentence}", err=True)
        if plan.is_nothing:
            click.echo("Nothing to do.")
            return
        if confirmed(printable(plan.question(open_tasks=open_tasks)), yes=yes, dry_run=dry_run):
            decision = GiveUp(
                integration_id, origin_id, open_tasks, plan.topic_id, plan.before, by, reason, wall_ms()
            )
            write_decisions(connection, settings.topics.control, [decision])
            click.echo(f"Given up. {OBEYED} The results have the code {GIVEN_UP}.")
    except (LogError, RepairError) as error:
        raise click.ClickException(str(error)) from None


@dataclass(slots=True)
class Plan:
    """What would be given up."""

    integration_id: str
    origin_id: str | None
    topic_id: str
    before: tuple[int, ...]
    """The end of each input partition."""
    unread: int = 0
    """Records before these ends that are not read yet, of any integration. Transaction markers count."""
    waiting: int = 0
    submissions: int = 0
    """Without a task, and all their changes are given up."""
    submission_changes: int = 0
    tasks: int = 0
    """Open, and all their changes are given up."""
    task_changes: int = 0
    shared: int = 0
    """Submissions and open tasks that also contain changes that are not given up."""
    unreadable: Sequence[str] = ()
    """A sentence for each journal that could not be read."""

    @property
    def is_nothing(self) -> bool:
        counted = self.waiting or self.submissions or self.tasks or self.shared or self.unread
        return not counted and not self.unreadable

    @property
    def whose(self) -> str:
        return self.integration_id if self.origin_id is None else f"{self.integration_id}, {self.origin_id}"

    def add(self, found: InspectedPartition) -> None:
        fold, position = found.fold, found.position
        end = self.before[found.partition]
        if position is None or position.topic_id != self.topic_id:
            self.unread += end - found.facts.earliest
        else:
            self.unread += max(0, end - position.next_offset)
        for (integration_id, origin_id), wait in fold.waits.items():
            self.waiting += integration_id == self.integration_id and self._concerns(
                wait.item, origin_id, end
            )
        for batch in fold.batches.values():
            if batch.sealed.integration_id == self.integration_id:
                self._add_batch(batch.items, end, is_accepted=batch.task is not None)

    def _add_batch(self, items: Iterable[Item], end: int, *, is_accepted: bool) -> None:
        given_up = [self._concerns(item, item.origin_id, end) for item in items]
        if not any(given_up):
            return
        if not all(given_up):
            self.shared += 1
        elif is_accepted:
            self.tasks += 1
            self.task_changes += len(given_up)
        else:
            self.submissions += 1
            self.submission_changes += len(given_up)

    def _concerns(self, item: Item, origin_id: str, end: int) -> bool:
        return self.origin_id in (None, origin_id) and item.offset < end

    def told(self, *, open_tasks: bool) -> Iterator[str]:
        """What the operator must know before answering."""
        if not (self.waiting or self.submissions or self.tasks or self.shared):
            yield f"{self.whose}: has nothing under way{'. Is this its id?' if self.unread else ''}"
        else:
            yield f"{self.whose}: the changes that were published before now"
        if self.waiting:
            yield f"waiting      {_count(self.waiting, 'change')}: FAILED with {GIVEN_UP}"
        if self.submissions:
            yield (
                f"not accepted {_count(self.submission_changes, 'change')} in {_count(self.submissions, 'submission')}, not "
                f"sent or refused: FAILED with {GIVEN_UP}, except where the API may have received a submission: that one "
                "stays until it ends"
            )
        if self.tasks:
            fate = (
                "TIMED_OUT; the tasks stay watched, and a late end is published as a correction"
                if open_tasks
                else "go on, and keep their courses busy until they end; not retried (--open-tasks ends them as TIMED_OUT)"
            )
            yield f"in tasks     {_count(self.task_changes, 'change')} in {_count(self.tasks, 'open task')}: {fate}"
        if self.shared:
            yield (
                f"shared       {_count(self.shared, 'submission or open task', 'submissions or open tasks')} with other changes "
                "as well: they go on until they end; the given up changes are not retried"
            )
        if self.unread:
            yield (
                f"not read yet up to {_count(self.unread, 'record')}, of all integrations: those of {self.whose} are given up "
                "when they are read"
            )

    def question(self, *, open_tasks: bool) -> str:
        parts = [
            (self.waiting, _count(self.waiting, "waiting change")),
            (self.submissions, _count(self.submissions, "submission") + " without a task"),
            (self.tasks if open_tasks else 0, _count(self.tasks, "open task")),
        ]
        named = [text for count, text in parts if count] or ["what is published"]
        return f"Give up {', '.join(named)} of {self.whose}?"


async def _planned(settings: Settings, integration_id: str, origin_id: str | None) -> Plan:
    log = await unjoined_log(settings)
    try:
        ends = [facts async for facts in _all_facts(log)]
        unreadable: list[str] = []
        plan = Plan(
            integration_id,
            origin_id,
            ends[0].topic_id,
            tuple(facts.latest for facts in ends),
            unreadable=unreadable,
        )
        if any(facts.topic_id != plan.topic_id for facts in ends):
            raise RepairError(
                f"{settings.topics.changes} was created again at this moment; run the command again"
            )
        async for found in inspect_partitions(log, settings.topics, unreadable, range(len(ends))):
            plan.add(found)
        return plan
    finally:
        await log.stop()


async def _all_facts(log: RepairLog) -> AsyncIterator[InputFacts]:
    first = await log.input_facts(0)
    yield first
    for partition in range(1, first.partitions):
        yield await log.input_facts(partition)


def _count(number: int, noun: str, plural: str | None = None) -> str:
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"
