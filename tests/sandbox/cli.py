"""`python -m tests.sandbox …`: try the daemon on this machine, without accounts."""

from __future__ import annotations

import time
from pathlib import Path

import click

from tests.sandbox.broker import Broker
from tests.sandbox.chaos.command import chaos
from tests.sandbox.checker.command import check
from tests.sandbox.demo.command import demo
from tests.sandbox.generator.command import generate
from tests.sandbox.process import SandboxError
from tests.sandbox.simulator.command import simulator
from tests.sandbox.soak.command import soak
from tests.sandbox.terminal import directory_option, ending_in_order, plain_console, seed_option
from tests.sandbox.up import stay_up


@click.group()
def sandbox() -> None:
    """Try it without accounts: a real Kafka on this machine, and a simulated Kombo API.

    With KAFKA=host:port, that Kafka is used, with separate topics.
    """


@sandbox.command()
@click.option("--faults", default="none", show_default=True, help="A plan, as for `simulator`.")
@seed_option
@directory_option
def up(faults: str, seed: int, directory: Path) -> None:
    """Start everything, print instructions, and keep running. Ctrl-C ends everything."""
    with ending_in_order():
        stay_up(directory, faults=faults, seed=seed, console=plain_console())


@sandbox.command()
def kafka() -> None:
    """Start Kafka alone. Ctrl-C ends it, and deletes its data."""
    with ending_in_order(), Broker() as broker:
        click.echo(f"Kafka is running at {broker.bootstrap}; its log is {broker.log}. Ctrl-C ends it.")
        while broker.running:
            time.sleep(0.2)
        raise SandboxError("Kafka ended unexpectedly.")


for command in (demo, chaos, soak, simulator, generate, check):
    sandbox.add_command(command)
