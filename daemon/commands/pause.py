"""``coursesyncd pause`` and ``coursesyncd resume``: stop and continue the submissions of integrations (R19).

The decision is written first: it must not depend on journals that may be unreadable. What it concerns is shown afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from daemon.codec.times import iso_ms
from daemon.commands.connections import kafka_connection
from daemon.commands.decision_options import IntegrationParam, UntilParam, who_and_why
from daemon.commands.decisions import OBEYED, described, read_decisions, wall_ms, write_decisions
from daemon.commands.integration_rows import WorkByIntegration, read_work
from daemon.commands.options import config_option, settings_or_exit
from daemon.commands.tables import printable
from daemon.config import Settings
from daemon.core.control import Control, Pause, covers, is_pattern
from daemon.log.errors import LogError

SHOWN_MAX = 10
"""Integrations that are listed for one pattern."""

_names = click.argument(
    "names", metavar="INTEGRATION...", nargs=-1, required=True, type=IntegrationParam(patterns=True)
)


@click.command()
@_names
@click.option(
    "--until",
    metavar="TIME",
    type=UntilParam(),
    help="When the pause ends by itself: a duration from now (2h), or a time with its zone (2026-11-29T18:00:00Z). "
    "Default: when it is resumed.",
)
@who_and_why
@config_option
def pause(
    *, names: tuple[str, ...], until: int | None, by: str, reason: str | None, config_file: Path | None
) -> None:
    """Pause integrations: none of their changes is submitted.

    INTEGRATION is an id, or the first characters of ids and a *. Open tasks are polled to their ends, and changes go on to
    be read: newer ones replace waiting ones. A pause ends no change. It survives restarts of the daemon. Of all pauses
    and resumptions that name an integration, the last one counts.
    """
    settings = settings_or_exit(config_file, unneeded=frozenset({"kombo"}))
    now = wall_ms()
    wanted = [Pause(name, True, until, by, reason, now) for name in dict.fromkeys(names)]
    try:
        connection = kafka_connection(settings.kafka)
        control = read_decisions(connection, settings.topics.control, now).control
        before = {each.integration: list(already_paused(control, each.integration, now)) for each in wanted}
        write_decisions(connection, settings.topics.control, wanted)
    except LogError as error:
        raise click.ClickException(str(error)) from None
    for each in wanted:
        _say(f"{each.integration}: paused {_when(until)}.")
        for line in before[each.integration]:
            _say(f"  {line}")
    _say(f"{OBEYED} Open tasks are polled to their ends.")
    _show_work(settings, [each.integration for each in wanted])


@click.command()
@_names
@who_and_why
@config_option
def resume(*, names: tuple[str, ...], by: str, reason: str | None, config_file: Path | None) -> None:
    """Resume paused integrations.

    INTEGRATION is an id, or the first characters of ids and a *. One integration of a paused pattern can be resumed, and the
    others stay paused.
    """
    settings = settings_or_exit(config_file, unneeded=frozenset({"kombo"}))
    now = wall_ms()
    try:
        connection = kafka_connection(settings.kafka)
        control = read_decisions(connection, settings.topics.control, now).control
        ended = {name: control.pauses_within(name) for name in dict.fromkeys(names)}
        wanted = [Pause(name, False, None, by, reason, now) for name, pauses in ended.items() if pauses]
        if wanted:
            write_decisions(connection, settings.topics.control, wanted)
    except LogError as error:
        raise click.ClickException(str(error)) from None
    for name, pauses in ended.items():
        if not pauses:
            _say(f"{name}: is not paused; nothing was written.")
            continue
        _say(f"{name}: resumed.")
        for each in pauses:
            _say(f"  {each.integration} was paused {described(each, now)}")
    if wanted:
        _say(OBEYED)
        _show_work(settings, [each.integration for each in wanted])


def already_paused(control: Control, name: str, wall: int) -> Iterator[str]:
    """What someone who pauses an id or a pattern must know of earlier pauses."""
    for each in control.pauses_within(name):
        told = described(each, wall)
        if each.integration == name:
            yield f"It was paused already {told}. The new decision replaces that one."
        elif covers(each.integration, name):
            yield f"It was paused already with {each.integration} {told}. The new decision counts for {name}."
        else:
            yield f"{each.integration} was paused already {told}. The new decision counts for it as well."


def matches(name: str, work: WorkByIntegration) -> Iterator[str]:
    """What an id or a pattern concerns at present."""
    found = {key: each for key, each in sorted(work.found.items()) if covers(name, key) and each.is_open}
    count, indent = len(found), ""
    if is_pattern(name):
        indent = "  "
        noun = "integration has" if count == 1 else "integrations have"
        yield f"{name}: {count:,} {noun} waiting or open changes{':' if found else '.'}"
    elif not found:
        yield f"{name}: has no waiting or open changes. Is this its id?"
    for key, each in list(found.items())[:SHOWN_MAX]:
        yield f"{indent}{key}: {each.waiting + each.sealed_changes:,} waiting, {each.task_changes:,} in open tasks"
    if count > SHOWN_MAX:
        yield f"  and {count - SHOWN_MAX:,} more: coursesyncd integrations"


def _show_work(settings: Settings, names: list[str]) -> None:
    """The decision counts already, so a journal that cannot be read is no failure of the command."""
    try:
        work = read_work(settings)
    except LogError as error:
        click.echo(f"What it concerns at present is unknown: {error}", err=True)
        return
    for name in names:
        for line in matches(name, work):
            _say(line)
    for sentence in work.unreadable:
        click.echo(f"Not counted: {sentence}", err=True)


def _when(until: int | None) -> str:
    return "until it is resumed" if until is None else f"until {iso_ms(until)}"


def _say(line: str) -> None:
    click.echo(printable(line))
