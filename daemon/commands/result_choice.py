"""Options that choose results, for the commands that show them or act on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, TypeVar

import click
import msgspec

from daemon.codec.result import SyncResult
from daemon.codec.times import iso_ms
from daemon.commands.decision_options import CourseParam, IntegrationParam
from daemon.commands.times import SinceParam
from daemon.core.control import covers
from daemon.core.model import Status

CORRECTED = "course.sync.corrected"
NO_CODE = "none"

_F = TypeVar("_F", bound=Callable[..., Any])


class ResultEvent(msgspec.Struct):
    """A record of the results topic."""

    type: str
    data: SyncResult

    @property
    def is_correction(self) -> bool:
        return self.type == CORRECTED


decode_event = msgspec.json.Decoder(ResultEvent).decode
"""Raises `daemon.codec.diagnose.DECODE_ERRORS`."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which results are meant. What is empty or None, restricts nothing."""

    statuses: tuple[Status, ...] = ()
    integrations: tuple[str, ...] = ()
    """Ids, or patterns that end in ``*``."""
    courses: tuple[str, ...] = ()
    change_ids: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    """With ``*`` for any characters; `NO_CODE` for an error without a code."""
    since: int | None = None
    """Resolved at this time (ms) or later."""

    def includes(self, result: SyncResult) -> bool:
        return (
            (not self.statuses or result.status in self.statuses)
            and (not self.courses or result.origin_id in self.courses)
            and (not self.change_ids or result.change_id in self.change_ids)
            and (
                not self.integrations
                or any(covers(name, result.integration_id or "") for name in self.integrations)
            )
            and (not self.codes or self._has_code(result))
            and (self.since is None or result.resolved_at >= iso_ms(self.since))
        )

    def _has_code(self, result: SyncResult) -> bool:
        if result.error is None:
            return False
        code = result.error.code
        if code is None:
            return NO_CODE in self.codes
        return any(fnmatchcase(code, pattern) for pattern in self.codes)

    def arguments(self) -> list[str]:
        """As on the command line, with a time in place of a duration."""
        named: list[tuple[str, tuple[str, ...]]] = [
            ("--status", tuple(self.statuses)),
            ("--code", self.codes),
            ("--integration", self.integrations),
            ("--course", self.courses),
            ("--change-id", self.change_ids),
            ("--since", () if self.since is None else (iso_ms(self.since),)),
        ]
        return [text for option, values in named for value in values for text in (option, value)]


def choice_options(statuses: tuple[Status, ...]) -> Callable[[_F], _F]:
    """The options. Pass their values to `Choice`, by the names of its fields. `statuses`: those that may be chosen."""

    def decorate(command: _F) -> _F:
        for option in (
            click.option(
                "--since",
                metavar="TIME",
                type=SinceParam(),
                help="Resolved since then: 2h, 7d, 2026-11-29 (UTC) or 2026-11-29T18:00:00Z.",
            ),
            click.option(
                "--change-id", "change_ids", multiple=True, metavar="ID", help="The `id` of the change."
            ),
            click.option(
                "--course",
                "courses",
                multiple=True,
                metavar="ID",
                type=CourseParam(),
                help="The origin_id of the course.",
            ),
            click.option(
                "--integration",
                "integrations",
                multiple=True,
                metavar="ID",
                type=IntegrationParam(patterns=True),
                help="An id, or the first characters of ids and *.",
            ),
            click.option(
                "--code",
                "codes",
                multiple=True,
                metavar="CODE",
                help=f"The error.code, * for any characters: 'INTEGRATION.*'; {NO_CODE}: an error without a code.",
            ),
            click.option(
                "--status",
                "statuses",
                multiple=True,
                type=click.Choice(list(statuses), case_sensitive=False),
                help="Only these. This option and the next ones may be repeated.",
            ),
        ):
            command = option(command)
        return command

    return decorate
