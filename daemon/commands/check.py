"""``coursesyncd check``: checks everything that the daemon needs, and says how to fix problems.

It changes nothing. Each line is a `Finding`. A finding at level WRONG keeps the daemon from working; an advice concerns
the conditions of its guarantees. Exit code 0: nothing is wrong; 1: something is; 2: the configuration has mistakes.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from daemon.commands.connections import kafka_connection, kombo_client
from daemon.commands.decisions import read_decisions, wall_ms
from daemon.commands.finding import Finding, Level, count, print_finding
from daemon.commands.input_sample import read_sample
from daemon.commands.open_files import OpenFiles, raise_limit
from daemon.commands.options import config_option, settings_or_exit
from daemon.commands.topic_findings import topic_findings
from daemon.config import Settings
from daemon.kombo.api_key import ApiKeyError, ApiKeyFile
from daemon.kombo.client import KomboSetupError, wall_clock
from daemon.kombo.probe import KeyCheck, KeyState, check_key
from daemon.log.errors import LogError
from daemon.log.kafka.accepted_times import BrokerClock, broker_clock
from daemon.log.kafka.admin import Admin, TopicFacts, describe_topics
from daemon.log.kafka.clients import Clients

CLOCK_TOLERANCE = 5.0
"""Seconds. ``Date`` has whole seconds, and is as old as the response took."""
SHOWN_MAX = 5


@click.command()
@config_option
def check(*, config_file: Path | None) -> None:
    """Check configuration, Kafka, topics and API, and say what to do.

    Changes nothing. Exit code 0: nothing is wrong; 1: something is; 2: the configuration has mistakes.
    """
    settings = settings_or_exit(config_file)
    wrong = False
    for finding in findings(settings):
        wrong = wrong or finding.level is Level.WRONG
        print_finding(finding)
    if wrong:
        sys.exit(1)


def findings(settings: Settings) -> Iterator[Finding]:
    """Check everything in order. Reads from Kafka and calls the API once."""
    yield Finding(Level.OK, "configuration", "no mistakes")
    files = OpenFiles(raise_limit(), settings.http.in_flight_max)
    if mistake := files.mistake():
        yield Finding(Level.WRONG, "open files", mistake)
    yield from _kafka(settings, files)
    yield from _api(settings)


# --- Kafka ----------------------------------------------------------------------------------------


def _kafka(settings: Settings, files: OpenFiles) -> Iterator[Finding]:
    topics = settings.topics
    try:
        clients = Clients(kafka_connection(settings.kafka))
        admin = Admin(clients)
        try:
            facts = admin.ask(lambda client: describe_topics(client, topics.names))
        finally:
            admin.close()
    except LogError as error:
        yield Finding(Level.WRONG, "kafka", str(error))
        return
    yield Finding(Level.OK, "kafka", f"{settings.kafka.bootstrap_servers} answers")
    yield from topic_findings(topics, facts)
    changes = facts[topics.changes]
    if changes is not None and files.mistake() is None:
        yield open_files_finding(files, changes.partitions)
    if changes is not None and changes.partitions > 1:
        yield from _placement(settings, changes)
    control = facts[topics.control]
    if control is not None and control.partitions == 1:
        yield _decisions(settings)
    letters = facts[topics.dead_letters]
    if letters is not None and (clock := broker_clock(clients, letters)) is not None:
        yield clock_finding(clock)


def _decisions(settings: Settings) -> Finding:
    """Nothing is submitted until they are read."""
    topic = settings.topics.control
    try:
        decisions = read_decisions(kafka_connection(settings.kafka), topic, wall_ms())
    except LogError as error:
        return Finding(
            Level.WRONG,
            topic,
            f"the decisions of operators cannot be read, and nothing is submitted before they are: {error}",
            "if a permission is missing, allow this user to read the topic (docs/permissions.md)",
        )
    if decisions.not_decisions:
        offsets = ", ".join(str(record.offset) for record in decisions.not_decisions[:SHOWN_MAX])
        return Finding(
            Level.ADVICE,
            topic,
            f"{count(len(decisions.not_decisions), 'record')} of it cannot be read as a decision and counts for nothing, at "
            f"offset {offsets}{' …' if len(decisions.not_decisions) > SHOWN_MAX else ''}",
            "find out who wrote them: only coursesyncd pause, resume and give-up write to this topic",
        )
    pauses = decisions.control.pauses
    shown = ", ".join(pause.integration for pause in pauses[:SHOWN_MAX])
    more = " …" if len(pauses) > SHOWN_MAX else ""
    return Finding(Level.OK, topic, f"paused: {shown}{more}" if pauses else "nothing is paused")


def _placement(settings: Settings, changes: TopicFacts) -> Iterator[Finding]:
    """Order and convergence hold for courses whose changes are all in one partition."""
    try:
        sample = read_sample(kafka_connection(settings.kafka), changes.name, changes.partitions)
    except LogError as error:
        yield Finding(
            Level.ADVICE,
            changes.name,
            f"the keys of its records were not checked: {error}",
            "if a permission is missing, allow this user to read the topic (docs/permissions.md)",
        )
        return
    complaints = list(sample.complaints(settings.input.partitioner))
    for found, to_do in complaints:
        yield Finding(Level.ADVICE, changes.name, found, to_do)
    if sample.changes and not complaints:
        yield Finding(
            Level.OK, changes.name, f"the last {count(sample.changes, 'change')} are in their partitions"
        )


def open_files_finding(files: OpenFiles, partitions: int) -> Finding:
    """Whether one replica could hold all partitions, as it does while the others are down."""
    if not files.is_short(partitions):
        return Finding(Level.OK, "open files", f"enough for {count(partitions, 'partition')}")
    return Finding(
        Level.ADVICE,
        "open files",
        f"a process here may have {files.limit}, which is enough for {count(files.partitions_max, 'partition')}; the "
        f"input has {partitions}, and a replica that holds all of them needs {files.needed(partitions)}",
        "raise the hard limit of open files where the daemon runs, or run enough replicas even while one is down",
    )


def clock_finding(clock: BrokerClock) -> Finding:
    """The finding about the clocks of this host and of the broker."""
    to_do = "synchronise the clocks of this host and of the brokers with NTP"
    if clock.ahead > clock.ahead_max:
        return Finding(
            Level.WRONG,
            "clock",
            f"this host is {clock.ahead:.0f} s ahead of Kafka, which refuses records that are more than "
            f"{clock.ahead_max:.0f} s ahead: nothing can be written",
            to_do,
        )
    if abs(clock.ahead) <= CLOCK_TOLERANCE:
        return Finding(Level.OK, "clock", "agrees with Kafka")
    return Finding(
        Level.ADVICE,
        "clock",
        f"this host is {_apart(clock.ahead)} Kafka, which refuses records that are more than {clock.ahead_max:.0f} s ahead",
        to_do,
    )


# --- the API --------------------------------------------------------------------------------------


def _api(settings: Settings) -> Iterator[Finding]:
    try:
        checked = asyncio.run(_ask_api(settings))
    except ApiKeyError as error:
        yield Finding(Level.WRONG, "API key", str(error))
    except KomboSetupError as error:
        yield Finding(Level.WRONG, "API", str(error))
    else:
        yield from api_findings(settings.kombo.base_url, checked)


async def _ask_api(settings: Settings) -> KeyCheck:
    client = kombo_client(settings, ApiKeyFile(settings.kombo.api_key_file), in_flight_max=1)
    try:
        return await check_key(client, wall_clock)
    finally:
        await client.close()


def api_findings(base_url: str, checked: KeyCheck) -> Iterator[Finding]:
    """The findings about address, key and clock, from the API's response. An unreachable API is WRONG too."""
    level = Level.OK if checked.key is KeyState.ACCEPTED else Level.WRONG
    yield Finding(level, "API", f"{base_url}: {checked.message}")
    ahead = checked.clock_ahead
    if ahead is None:
        return
    if abs(ahead) <= CLOCK_TOLERANCE:
        yield Finding(Level.OK, "clock", "agrees with the API")
        return
    yield Finding(
        Level.ADVICE,
        "clock",
        f"this host is {_apart(ahead)} the API: no decision depends on "
        "it, but the times in results and metrics do",
        "synchronise the clock of this host with NTP",
    )


def _apart(ahead: float) -> str:
    return f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'}"
