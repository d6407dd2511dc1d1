"""Loads the settings from the environment and TOML files; the environment takes precedence.

The whole configuration is checked before anything is reported: one `ConfigError` lists every mistake.
"""

from __future__ import annotations

import tomllib
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daemon.config.policy_tables import GROUP, PolicyTable, read_tables, table_mistakes
from daemon.config.rules import broken_rules
from daemon.config.table import Setting, Settings, all_settings, groups
from daemon.config.units import shown_path
from daemon.config.values import SECRETS, parse, unknown

PREFIX = "COURSESYNC_"
CONFIG_FILE_VARIABLE = "COURSESYNC_CONFIG"
INTEGRATIONS_FILE_VARIABLE = "COURSESYNC_INTEGRATIONS"
"""A second file, with tables of integrations only. Where the first one cannot change without a restart, this one can."""


class ConfigError(Exception):
    """All mistakes in the configuration, in one message."""

    def __init__(self, mistakes: list[str]) -> None:
        self.mistakes = mistakes
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        lines = "\n".join(f"  - {mistake}" for mistake in mistakes)
        super().__init__(
            f"The configuration has {count}:\n{lines}\nAll settings are described in docs/configuration.md."
        )


@dataclass(frozen=True, slots=True)
class Configuration:
    settings: Settings
    """The common ones."""
    tables: tuple[PolicyTable, ...]
    """Of integrations. No two have the same name."""
    origins: Mapping[str, str]
    """For each common setting that is not a default: the environment variable or the file that it comes from."""


def load_settings(
    environ: Mapping[str, str],
    config_file: Path | None = None,
    *,
    unneeded: Container[str] = (),
) -> Settings:
    """The common settings alone; see `load_configuration`."""
    return load_configuration(environ, config_file, unneeded=unneeded).settings


def load_configuration(
    environ: Mapping[str, str],
    config_file: Path | None = None,
    *,
    unneeded: Container[str] = (),
) -> Configuration:
    """Read, check and return the configuration.

    `config_file` defaults to the file that `COURSESYNC_CONFIG` names. An empty variable counts as not set. `unneeded`
    lists groups whose required settings, and files, may be missing: not every command calls the API, and nobody needs the API key
    to look at topics.

    Raises:
        ConfigError: with every mistake found.
    """
    rows = {setting.name: setting for setting in all_settings()}
    mistakes: list[str] = []
    given: dict[str, tuple[Any, str]] = {}
    tables: list[PolicyTable] = []
    config, integrations = files_of(environ, config_file)
    if config is not None:
        document = _document(config, mistakes)
        tables += read_tables(document.pop(GROUP, {}), str(config), mistakes)
        given |= _from_document(document, str(config), rows, mistakes)
    if integrations is not None:
        document = _document(integrations, mistakes)
        tables += read_tables(document.pop(GROUP, {}), str(integrations), mistakes)
        mistakes += [
            f"{name} ({integrations}): this file may only have tables of integrations, such as "
            f'[{GROUP}."workday:*"]; set the others in the file of {CONFIG_FILE_VARIABLE}'
            for name in document
        ]
    given |= _from_environment(environ, rows, mistakes)

    values: dict[str, dict[str, Any]] = {group: {} for group in groups()}
    for name, (raw, origin) in given.items():
        setting = rows[name]
        try:
            looks_at_file = setting.group not in unneeded
            values[setting.group][setting.attribute] = parse(setting, raw, looks_at_file=looks_at_file)
        except ValueError as error:
            mistakes.append(f"{name} ({origin}): {error}")
    mistakes += [
        f"{setting.name}: must be set ({setting.variable}); {setting.column.meaning}"
        for setting in rows.values()
        if setting.column.required and setting.name not in given and setting.group not in unneeded
    ]

    settings = Settings(**{group: cls(**values[group]) for group, cls in groups().items()})
    # A value that could not be parsed was replaced by its default, so a broken relation may not be the user's
    # mistake. Relations that name such a setting are checked in the next run.
    unread = tuple(name for name in rows if any(f"{name} (" in mistake for mistake in mistakes))
    broken = [*broken_rules(settings), *_names_given_twice(tables), *table_mistakes(settings, tables)]
    mistakes += [rule for rule in broken if not any(name in rule for name in unread)]
    if mistakes:
        raise ConfigError(mistakes)
    return Configuration(settings, tuple(tables), {name: origin for name, (_, origin) in given.items()})


def files_of(environ: Mapping[str, str], config_file: Path | None) -> tuple[Path | None, Path | None]:
    """The file with all kinds of settings, and the one with tables of integrations only."""
    config = config_file or _path(environ, CONFIG_FILE_VARIABLE)
    return config, _path(environ, INTEGRATIONS_FILE_VARIABLE)


def _path(environ: Mapping[str, str], variable: str) -> Path | None:
    text = environ.get(variable)
    return Path(text) if text else None


def _names_given_twice(tables: list[PolicyTable]) -> list[str]:
    files = {table.name: table.file for table in tables}
    return [
        f"{table.heading}: is in {table.file} and in {files[table.name]}; leave it in one of them"
        for table in tables
        if files[table.name] != table.file
    ]


def _document(path: Path, mistakes: list[str]) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        mistakes.append(f"The configuration file{shown_path(str(path))} cannot be read: {error.strerror}")
    except UnicodeDecodeError:
        mistakes.append(f"The configuration file {path} is not UTF-8; save it as UTF-8 (not as UTF-16)")
    except RecursionError:
        mistakes.append(f"The configuration file {path} is nested too deeply")
    except ValueError as error:  # also a path with the character NUL
        mistakes.append(f"The configuration file{shown_path(str(path))} is not TOML: {error}")
    return {}


def _from_document(
    document: Mapping[str, Any], file: str, rows: Mapping[str, Setting], mistakes: list[str]
) -> dict[str, tuple[Any, str]]:
    given: dict[str, tuple[Any, str]] = {}
    for group, content in document.items():
        if group not in groups() or not isinstance(content, dict):
            if isinstance(content, dict) and len(content) > 0:
                names = [f"{group}.{attribute}" for attribute in content]
            else:
                names = [group]
            mistakes += [f"{name} ({file}): {unknown(name, rows)}" for name in names]
            continue
        for attribute, raw in content.items():
            name = f"{group}.{attribute}"
            if name in rows:
                given[name] = (raw, file)
            else:
                mistakes.append(f"{name} ({file}): {unknown(name, rows)}")
    return given


def _from_environment(
    environ: Mapping[str, str], rows: Mapping[str, Setting], mistakes: list[str]
) -> dict[str, tuple[Any, str]]:
    variables = {setting.variable: setting for setting in rows.values()}
    given: dict[str, tuple[Any, str]] = {}
    for variable, raw in sorted(environ.items()):
        if not variable.startswith(PREFIX) or variable in (CONFIG_FILE_VARIABLE, INTEGRATIONS_FILE_VARIABLE):
            continue
        if variable not in variables:
            secret = {name.replace(".", "_").upper(): name for name in SECRETS}.get(variable[len(PREFIX) :])
            mistakes.append(f"{variable}: {unknown(secret or variable, variables)}")
        elif raw.strip():
            given[variables[variable].name] = (raw, variable)
    return given
