"""The columns of the table of settings: kind, unit, bounds and meaning of one setting.

A helper for each kind returns a dataclass field that has its column in the metadata.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from daemon.config.units import parse_duration, parse_size

METADATA_KEY = "setting"


class ValueKind(StrEnum):
    TEXT = "text"
    CHOICE = "choice"
    FILE = "file"
    INTEGER = "integer"
    NUMBER = "number"
    DURATION = "duration"
    SIZE = "size"


@dataclass(frozen=True, slots=True)
class Column:
    """What the table says about a setting besides its name and default."""

    kind: ValueKind
    meaning: str
    low: float | None = None
    high: float | None = None
    """Both inclusive, in the unit of the value."""
    choices: tuple[str, ...] = ()
    required: bool = False
    secret: bool = False
    """The file contains a secret."""


def duration(default: str, low: str, high: str, meaning: str) -> Any:
    column = Column(ValueKind.DURATION, meaning, parse_duration(low), parse_duration(high))
    return field(default=parse_duration(default), metadata={METADATA_KEY: column})


def size(default: str, low: str, high: str, meaning: str) -> Any:
    column = Column(ValueKind.SIZE, meaning, parse_size(low), parse_size(high))
    return field(default=parse_size(default), metadata={METADATA_KEY: column})


def integer(default: int, low: int, high: int, meaning: str) -> Any:
    return field(default=default, metadata={METADATA_KEY: Column(ValueKind.INTEGER, meaning, low, high)})


def number(default: float | None, low: float, high: float, meaning: str) -> Any:
    return field(default=default, metadata={METADATA_KEY: Column(ValueKind.NUMBER, meaning, low, high)})


def text(default: str | None, meaning: str, *, required: bool = False) -> Any:
    return field(default=default, metadata={METADATA_KEY: Column(ValueKind.TEXT, meaning, required=required)})


def choice(default: str | None, choices: tuple[str, ...], meaning: str) -> Any:
    return field(default=default, metadata={METADATA_KEY: Column(ValueKind.CHOICE, meaning, choices=choices)})


def file(meaning: str, *, required: bool = False, secret: bool = False) -> Any:
    column = Column(ValueKind.FILE, meaning, required=required, secret=secret)
    return field(default=Path() if required else None, metadata={METADATA_KEY: column})
