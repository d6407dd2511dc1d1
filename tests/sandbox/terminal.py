"""What the sandbox's commands have in common at a terminal."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import click
from rich.console import Console

from daemon.log.port import LogError
from tests.sandbox.checker.readers import EvidenceError
from tests.sandbox.process import SandboxError
from tests.sandbox.profile import Demo

_INTERRUPTED = 130
"""Exit code of a program that Ctrl-C has ended, as shells have it."""

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
    """Whatever asks us to end, the children are ended first; what goes wrong is told in a sentence."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        yield
    except KeyboardInterrupt:
        click.echo("Interrupted; everything is stopped.", err=True)
        sys.exit(_INTERRUPTED)
    except (SandboxError, LogError, EvidenceError) as error:
        raise click.ClickException(str(error)) from error


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def plain_console() -> Console:
    return Console(highlight=False)
