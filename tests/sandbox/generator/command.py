"""`generate`: fill an input topic with course changes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

import click

from daemon.log.errors import LogError
from daemon.log.kafka.clients import KafkaConnection
from tests.sandbox.generator.publisher import publish_records
from tests.sandbox.generator.records import GeneratedRecord, Plan, generate_records

_DEFAULTS = Plan()
_SHARE = click.FloatRange(0, 1)


@click.command
@click.option(
    "--bootstrap-servers",
    envvar="COURSESYNC_KAFKA_BOOTSTRAP_SERVERS",
    required=True,
    metavar="HOST:PORT",
    help="The Kafka cluster.",
)
@click.option(
    "--topic",
    envvar="COURSESYNC_TOPICS_CHANGES",
    default="course-changes",
    show_default=True,
    help="The input topic.",
)
@click.option("--changes", type=click.IntRange(min=0), default=_DEFAULTS.changes, show_default=True)
@click.option(
    "--rate",
    type=click.FloatRange(0, min_open=True),
    help="Changes per second. Default: as fast as possible.",
)
@click.option("--integrations", type=int, default=_DEFAULTS.integrations, show_default=True)
@click.option(
    "--courses",
    type=int,
    default=_DEFAULTS.courses_per_integration,
    show_default=True,
    help="Courses per integration.",
)
@click.option(
    "--quiet-integrations",
    type=int,
    default=_DEFAULTS.quiet_integrations,
    show_default=True,
    help="Number of integrations with a single course that alternates between two contents.",
)
@click.option(
    "--repeats",
    type=_SHARE,
    default=_DEFAULTS.repeat_share,
    show_default=True,
    help="Share of changes to a course that was changed just before.",
)
@click.option(
    "--returns",
    type=_SHARE,
    default=_DEFAULTS.return_share,
    show_default=True,
    help="Share of changes that return to earlier content (A, B, A).",
)
@click.option(
    "--invalid",
    type=_SHARE,
    default=_DEFAULTS.invalid_share,
    show_default=True,
    help="Share of records that are not valid changes and must be rejected.",
)
@click.option(
    "--retired",
    type=_SHARE,
    default=_DEFAULTS.retire_share,
    show_default=True,
    help="Share of changes that deactivate a course that was changed just before.",
)
@click.option(
    "--bulk",
    type=_SHARE,
    default=_DEFAULTS.bulk_share,
    show_default=True,
    help='Share of valid changes with "priority": "bulk".',
)
@click.option("--seed", type=int, default=_DEFAULTS.seed, show_default=True, help="Same seed, same records.")
def generate(
    *,
    bootstrap_servers: str,
    topic: str,
    changes: int,
    rate: float | None,
    integrations: int,
    courses: int,
    quiet_integrations: int,
    repeats: float,
    returns: float,
    invalid: float,
    retired: float,
    bulk: float,
    seed: int,
) -> None:
    """Fill the input topic with course changes, some of them invalid."""
    try:
        plan = Plan(
            seed=seed,
            changes=changes,
            integrations=integrations,
            courses_per_integration=courses,
            quiet_integrations=min(quiet_integrations, integrations - 1),
            repeat_share=repeats,
            return_share=returns,
            invalid_share=invalid,
            retire_share=retired,
            bulk_share=bulk,
            first_time_ms=time.time_ns() // 1_000_000,
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    kinds: Counter[str] = Counter()

    def counted() -> Iterator[GeneratedRecord]:
        for record in generate_records(plan):
            if record.invalid is not None:
                kinds[record.invalid] += 1
            yield record

    try:
        connection = KafkaConnection(tuple(bootstrap_servers.split(",")))
        sent = publish_records(counted(), connection, topic, rate=rate)
    except LogError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{sent} records sent to {topic}, {kinds.total()} of them invalid on purpose.")
    for kind, count in kinds.most_common():
        click.echo(f"  {count:>6}  {kind}")
