"""`coursesyncd sandbox …`: trying it without accounts."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import click
from rich.console import Console

from daemon.log.port import LogError
from daemon.sandbox.broker import Broker
from daemon.sandbox.checker.command import check
from daemon.sandbox.checker.readers import EvidenceError
from daemon.sandbox.generator.command import generate
from daemon.sandbox.process import SandboxError
from daemon.sandbox.profile import Demo
from daemon.sandbox.simulator.command import simulator
from daemon.sandbox.up import stay_up

_DEMO = Demo()
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
    "--seed", type=int, default=_DEMO.seed, show_default=True, help="Decides changes and faults."
)


@click.group()
def sandbox() -> None:
    """Try it without accounts: a real Kafka on this machine, and a simulated Kombo API.

    With KAFKA=host:port that Kafka is used, with topics of its own.
    """


@sandbox.command()
@click.option("--faults", default="none", show_default=True, help="As of `sandbox simulator`.")
@seed_option
@directory_option
def up(faults: str, seed: int, directory: Path) -> None:
    """Start everything and stay; says what to play with. Ctrl-C ends it all."""
    with ending_in_order():
        stay_up(directory, faults=faults, seed=seed, console=plain_console())


@sandbox.command()
def kafka() -> None:
    """Start Kafka alone. Ctrl-C ends it, and deletes its data."""
    with ending_in_order(), Broker() as broker:
        click.echo(f"Kafka is up at {broker.bootstrap}; its log is {broker.log}. Ctrl-C ends it.")
        while broker.running:
            time.sleep(0.2)
        raise SandboxError("Kafka ended by itself.")


for command in (simulator, generate, check):
    sandbox.add_command(command)


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
