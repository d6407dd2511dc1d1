"""`coursesyncd sandbox …`: trying it without accounts."""

from __future__ import annotations

import time
from pathlib import Path

import click

from daemon.sandbox.broker import Broker
from daemon.sandbox.chaos.command import chaos
from daemon.sandbox.checker.command import check
from daemon.sandbox.generator.command import generate
from daemon.sandbox.process import SandboxError
from daemon.sandbox.profile import Demo
from daemon.sandbox.simulator.command import simulator
from daemon.sandbox.soak.command import soak
from daemon.sandbox.terminal import directory_option, ending_in_order, plain_console
from daemon.sandbox.up import stay_up

_DEMO = Demo()

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


for command in (chaos, soak, simulator, generate, check):
    sandbox.add_command(command)
