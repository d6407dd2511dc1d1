"""Options, signals and error output that the sandbox's commands share."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import click
from rich.console import Console

from daemon.log.errors import LogError
from tests.sandbox.checker.readers import EvidenceError
from tests.sandbox.process import SandboxError
from tests.sandbox.profile import Demo

_INTERRUPTED = 130
"""Exit code of a program that Ctrl-C has ended, by the convention of shells."""

directory_option = click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(".sandbox"),
    show_default=True,
    help="Logs and the report go here.",
)
seed_option = click.option(
    "--seed", type=int, default=Demo().seed, show_default=True, help="Decides changes and faults."
)


@contextlib.contextmanager
def ending_in_order() -> Iterator[None]:
    """On any request to end, end the children first. An error is printed as a message, without a traceback."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        yield
    except KeyboardInterrupt:
        click.echo("Interrupted; everything has been stopped.", err=True)
        sys.exit(_INTERRUPTED)
    except (SandboxError, LogError, EvidenceError) as error:
        raise click.ClickException(str(error)) from error


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def plain_console() -> Console:
    return Console(highlight=False)
