"""The command line: the composition root."""

from __future__ import annotations

import click

from daemon import __version__
from daemon.check import check
from daemon.demo import demo
from daemon.grow import grow_command
from daemon.publish import publish
from daemon.results import results
from daemon.run import run
from daemon.sandbox.cli_sandbox import sandbox
from daemon.skip import skip
from daemon.topics import topics_group


@click.group()
@click.version_option(__version__, prog_name="coursesyncd")
def main() -> None:
    """Mirror course changes from Kafka into learning systems."""


for command in (run, check, topics_group, skip, publish, results, sandbox):
    main.add_command(command)

topics_group.add_command(grow_command)
sandbox.add_command(demo)
