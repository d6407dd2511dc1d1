"""What the commands have in common: the option for the configuration file, and loading the settings."""

from __future__ import annotations

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
