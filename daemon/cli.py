"""The command line: the composition root."""

from __future__ import annotations

import click

from daemon import __version__


@click.group()
@click.version_option(__version__, prog_name="coursesyncd")
def main() -> None:
    """Mirror course changes from Kafka into learning systems."""
