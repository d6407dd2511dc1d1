"""What the commands have in common: the option for the configuration file, and loading the settings."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from daemon.config import ConfigError, Settings, load_settings

EXIT_CONFIGURATION = 2
"""Exit code when the configuration has mistakes."""

_F = TypeVar("_F", bound=Callable[..., Any])


def config_option(command: _F) -> _F:
    """``--config FILE``; passed on as ``config_file``. ``COURSESYNC_CONFIG`` is read with the settings."""
    return click.option(
        "--config",
        "config_file",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="Settings as TOML; COURSESYNC_CONFIG names it too. The environment wins.",
    )(command)


def settings_or_exit(config_file: Path | None, *, unneeded: frozenset[str] = frozenset()) -> Settings:
    """The settings; or every mistake on stderr, and exit code 2.

    ``unneeded`` names groups whose required settings may be missing for this command.
    """
    try:
        return load_settings(os.environ, config_file, unneeded=unneeded)
    except ConfigError as error:
        click.echo(str(error), err=True)
        sys.exit(EXIT_CONFIGURATION)


def bootstrap_option(command: _F) -> _F:
    """``--bootstrap-servers HOST:PORT``; for commands that a person points at a cluster."""
    return click.option(
        "--bootstrap-servers",
        metavar="HOST:PORT",
        help="Instead of kafka.bootstrap_servers of the configuration.",
    )(command)


def settings_for_topics(config_file: Path | None, bootstrap_servers: str | None) -> Settings:
    """The settings for a command that only reads or writes a topic; otherwise as `settings_or_exit`.

    ``bootstrap_servers`` from the command line wins over the configuration, which then need not name any.
    """
    if bootstrap_servers is None:
        return settings_or_exit(config_file, unneeded=frozenset({"kombo"}))
    settings = settings_or_exit(config_file, unneeded=frozenset({"kombo", "kafka"}))
    kafka = dataclasses.replace(settings.kafka, bootstrap_servers=bootstrap_servers)
    return dataclasses.replace(settings, kafka=kafka)
