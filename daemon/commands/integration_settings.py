"""``coursesyncd integrations show``: the settings that count for one integration, and where each comes from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click

from daemon.commands.options import config_option, configuration_or_exit
from daemon.commands.tables import print_table
from daemon.config import Configuration
from daemon.config.column import ValueKind
from daemon.config.policy_tables import MAY_DIFFER, OWN_RATE, applying
from daemon.config.table import Setting, all_settings
from daemon.config.units import format_duration, format_size


class Row(NamedTuple):
    setting: str
    value: str
    origin: str


@click.command("show")
@config_option
@click.argument("integration_id", metavar="ID")
def show(*, config_file: Path | None, integration_id: str) -> None:
    """Show the settings that count for one integration, and where each comes from.

    Reads the configuration of this process, not that of a running daemon: neither Kafka nor the API is called, and the
    integration need not exist.
    """
    configuration = configuration_or_exit(config_file, unneeded=frozenset({"kafka", "kombo"}))
    chain = applying(configuration.tables, integration_id)
    headings = ", ".join(table.heading for table in chain)
    click.echo(f"Tables for this integration, the most specific one first: {headings or 'none'}")
    print_table(("setting", "value", "from"), rows(configuration, integration_id))


def rows(configuration: Configuration, integration_id: str) -> Iterator[Row]:
    """One for each setting that may differ between integrations, in the order of the table of settings."""
    chain = applying(configuration.tables, integration_id)
    for setting in all_settings():
        name = setting.name
        if name not in MAY_DIFFER:
            continue
        table = next((each for each in chain if name in each.values), None)
        if table is not None:
            origin = f"{table.heading} in {table.file}"
            yield Row(name, _spelled(setting, table.values[name]), origin)
        elif name == OWN_RATE:
            yield Row(name, "no limit of its own", "default")
        else:
            value = getattr(getattr(configuration.settings, setting.group), setting.attribute)
            yield Row(name, _spelled(setting, value), configuration.origins.get(name, "default"))


def _spelled(setting: Setting, value: Any) -> str:
    match setting.column.kind:
        case ValueKind.DURATION:
            return format_duration(value)
        case ValueKind.SIZE:
            return format_size(value)
        case _:
            return f"{value:g}"
