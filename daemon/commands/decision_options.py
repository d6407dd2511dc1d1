"""Arguments and options of the commands with which operators decide something about integrations."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Callable
from typing import Any, TypeVar

import click
import msgspec

from daemon.codec.change import INTEGRATION_ID_MAX, ORIGIN_ID_MAX, IntegrationId, OriginId
from daemon.commands.decisions import wall_ms
from daemon.commands.times import duration_ms, time_ms
from daemon.core.control import PATTERN_END

TEXT_MAX = 500
"""Characters of a name or a reason. Every replica keeps all decisions in memory."""

_F = TypeVar("_F", bound=Callable[..., Any])


class IntegrationParam(click.ParamType[str]):
    """The id of an integration; with `patterns`, also its first characters and ``*``."""

    name = "integration"

    def __init__(self, *, patterns: bool) -> None:
        self._patterns = patterns

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        try:
            msgspec.convert(text, IntegrationId)
        except msgspec.ValidationError:
            self.fail(
                f"{text!r} is not the id of an integration: 1 to {INTEGRATION_ID_MAX} printable ASCII characters, no spaces",
                param,
                ctx,
            )
        if PATTERN_END in text and not self._patterns:
            self.fail(f"{text!r} contains a *: name one integration by its whole id", param, ctx)
        if PATTERN_END in text.removesuffix(PATTERN_END):
            self.fail(
                f"{text!r} contains a * before its end: a pattern is the first characters of ids and one *, for example "
                "workday:*",
                param,
                ctx,
            )
        return text


class CourseParam(click.ParamType[str]):
    name = "course"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        try:
            msgspec.convert(_utf8(text), OriginId)
        except (msgspec.ValidationError, ValueError):
            self.fail(
                f"{text!r} is not the origin_id of a course: 1 to {ORIGIN_ID_MAX} characters, no control characters",
                param,
                ctx,
            )
        return text


class UntilParam(click.ParamType[int]):
    """A duration from now, or a time with its zone. The value is in ms since the epoch, by this host's clock."""

    name = "duration or time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text, now = str(value).strip(), wall_ms()
        if (ahead := duration_ms(text)) is not None:
            until = now + ahead
        else:
            try:
                until = time_ms(text)
            except ValueError as error:
                self.fail(str(error), param, ctx)
        if until <= now:
            self.fail(f"{text!r} is over: name a duration from now, or a time in the future", param, ctx)
        return until


class TextParam(click.ParamType[str]):
    """A text that operators read."""

    name = "text"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            text = _utf8(str(value)).strip()
        except ValueError:
            self.fail(f"{str(value)!r} is not text in UTF-8", param, ctx)
        if not 1 <= len(text) <= TEXT_MAX:
            self.fail(f"it has {len(text)} characters, expected 1 to {TEXT_MAX}", param, ctx)
        return text


def who_and_why(command: _F) -> _F:
    """``--reason`` and ``--by``."""
    for option in (
        click.option(
            "--by",
            metavar="WHO",
            type=TextParam(),
            default=user_at_host,
            help="Who decides it. Default: user@host.",
        ),
        click.option("--reason", metavar="TEXT", type=TextParam(), help="Why, for the other operators."),
    ):
        command = option(command)
    return command


def user_at_host() -> str:
    """In a container the user may have no name."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"[:TEXT_MAX]


def _utf8(text: str) -> str:
    """Raises ValueError for what an argument has instead of bytes that are not UTF-8."""
    text.encode()
    return text
