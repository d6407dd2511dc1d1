"""Options that the commands share, and loading the settings."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from daemon.config import ConfigError, Configuration, Settings, load_configuration
from daemon.config.rules import brokers_mistakes

EXIT_CONFIGURATION = 2
"""Exit code for an invalid configuration."""

_F = TypeVar("_F", bound=Callable[..., Any])


def config_option(command: _F) -> _F:
    """``--config FILE``, passed as ``config_file``. ``COURSESYNC_CONFIG`` is read with the settings."""
    return click.option(
        "--config",
        "config_file",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="Settings as TOML; COURSESYNC_CONFIG names it too. The environment wins.",
    )(command)


def settings_or_exit(config_file: Path | None, *, unneeded: frozenset[str] = frozenset()) -> Settings:
    """The common settings alone; see `configuration_or_exit`."""
    return configuration_or_exit(config_file, unneeded=unneeded).settings


def configuration_or_exit(
    config_file: Path | None, *, unneeded: frozenset[str] = frozenset()
) -> Configuration:
    """Load the configuration, or print all mistakes to stderr and exit with code 2.

    ``unneeded`` names groups whose required settings and files this command does not need.
    """
    try:
        return load_configuration(os.environ, config_file, unneeded=unneeded)
    except ConfigError as error:
        click.echo(str(error), err=True)
        sys.exit(EXIT_CONFIGURATION)


def bootstrap_option(command: _F) -> _F:
    """``--bootstrap-servers HOST:PORT``, for commands that may be used without a configuration."""
    return click.option(
        "--bootstrap-servers",
        metavar="HOST:PORT",
        help="Instead of kafka.bootstrap_servers of the configuration.",
    )(command)


def settings_for_topics(config_file: Path | None, bootstrap_servers: str | None) -> Settings:
    """As `settings_or_exit`, for a command that only reads or writes a topic.

    ``bootstrap_servers`` from the command line overrides the configuration, which then need not set it.
    """
    if bootstrap_servers is None:
        return settings_or_exit(config_file, unneeded=frozenset({"kombo"}))
    for mistake in brokers_mistakes(bootstrap_servers):
        raise click.BadParameter(mistake, param_hint="--bootstrap-servers")
    settings = settings_or_exit(config_file, unneeded=frozenset({"kombo", "kafka"}))
    kafka = dataclasses.replace(settings.kafka, bootstrap_servers=bootstrap_servers)
    return dataclasses.replace(settings, kafka=kafka)
