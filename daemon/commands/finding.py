"""One finding of ``coursesyncd check``, and how it is printed."""

from __future__ import annotations

import os
from enum import StrEnum
from typing import NamedTuple

import click

from daemon.commands.tables import printable


class Level(StrEnum):
    OK = "ok"
    ADVICE = "advice"
    WRONG = "WRONG"


class Finding(NamedTuple):
    level: Level
    subject: str
    found: str
    to_do: str | None = None


_COLOURS = {Level.OK: "green", Level.ADVICE: "yellow", Level.WRONG: "red"}


def print_finding(finding: Finding) -> None:
    colour = None if os.environ.get("NO_COLOR") else _COLOURS[finding.level]
    level = click.style(f"{finding.level:<7}", fg=colour, bold=finding.level is Level.WRONG)
    click.echo(f"{level} {finding.subject}: {printable(finding.found)}")
    if finding.to_do is not None:
        click.echo(f"        → {printable(finding.to_do)}")


def count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
