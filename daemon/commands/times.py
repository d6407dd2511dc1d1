"""Times and durations on the command line."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import click

from daemon.commands.decisions import wall_ms
from daemon.config.units import parse_duration

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00Z")


def duration_ms(text: str) -> int | None:
    """A duration, in ms; None if the text is none."""
    try:
        return round(parse_duration(text.strip()) * 1000)
    except ValueError:
        return None


def time_ms(text: str) -> int:
    """A time with its zone, in ms since the epoch.

    Raises:
        ValueError: it is none. The message takes into account that a duration was possible, too.
    """
    text = text.strip()
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is neither a duration (30m, 2h, 7d) nor a time (2026-11-29T18:00:00Z)"
        ) from None
    if time.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone: add Z for UTC, or for example +01:00")
    return round((time - _EPOCH) / timedelta(milliseconds=1))


class SinceParam(click.ParamType[int]):
    """A duration back from now, a time with its zone, or a date, which begins in UTC. The value is in ms since the epoch, by this
    host's clock.
    """

    name = "duration or time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text, now = str(value).strip(), wall_ms()
        if (ago := duration_ms(text)) is not None:
            return max(0, now - ago)
        try:
            since = time_ms(f"{text}T00:00:00Z" if _DATE.fullmatch(text) else text)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if since > now:
            self.fail(f"{text!r} is in the future", param, ctx)
        return max(0, since)
