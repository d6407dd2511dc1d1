"""Loads the settings from the environment and an optional TOML file; the environment takes precedence.

The whole configuration is checked before anything is reported: one `ConfigError` lists every mistake.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

from daemon.config.column import ValueKind
from daemon.config.rules import broken_rules
from daemon.config.secret_file import read_secret
from daemon.config.table import Setting, Settings, all_settings, groups
from daemon.config.units import (
    format_duration,
    format_size,
    parse_duration,
    parse_float,
    parse_int,
    parse_size,
    shown_path,
)

PREFIX = "COURSESYNC_"
CONFIG_FILE_VARIABLE = "COURSESYNC_CONFIG"

_SECRETS = {
    "kombo.api_key": "kombo.api_key_file",
    "kafka.sasl_password": "kafka.sasl_password_file",
    "kombo.proxy_password": "kombo.proxy_password_file",
    "kafka.sasl_oauth_client_secret": "kafka.sasl_oauth_client_secret_file",
}
"""Names that users try when they expect to pass the secret itself."""


class ConfigError(Exception):
    """All mistakes in the configuration, in one message."""

    def __init__(self, mistakes: list[str]) -> None:
        self.mistakes = mistakes
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        lines = "\n".join(f"  - {mistake}" for mistake in mistakes)
        super().__init__(
            f"The configuration has {count}:\n{lines}\nAll settings are described in docs/configuration.md."
        )


def load_settings(
    environ: Mapping[str, str],
    config_file: Path | None = None,
    *,
    unneeded: Container[str] = (),
) -> Settings:
    """Read, check and return the settings.

    `config_file` defaults to the file that `COURSESYNC_CONFIG` names. An empty variable counts as not set. `unneeded`
    lists groups whose required settings may be missing, because not every command calls the API.

    Raises:
        ConfigError: with every mistake found.
    """
    table = {setting.name: setting for setting in all_settings()}
    mistakes: list[str] = []
    if config_file is None and environ.get(CONFIG_FILE_VARIABLE):
        config_file = Path(environ[CONFIG_FILE_VARIABLE])
    given: dict[str, tuple[Any, str]] = {}
    if config_file is not None:
        given |= _from_file(config_file, table, mistakes)
    given |= _from_environment(environ, table, mistakes)

    values: dict[str, dict[str, Any]] = {group: {} for group in groups()}
    for name, (raw, origin) in given.items():
        setting = table[name]
        try:
            values[setting.group][setting.attribute] = _parse(setting, raw)
        except ValueError as error:
            mistakes.append(f"{name} ({origin}): {error}")
    mistakes += [
        f"{setting.name}: must be set ({setting.variable}); {setting.column.meaning}"
        for setting in table.values()
        if setting.column.required and setting.name not in given and setting.group not in unneeded
    ]

    settings = Settings(**{group: cls(**values[group]) for group, cls in groups().items()})
    # A value that could not be parsed was replaced by its default, so a broken relation may not be the user's
    # mistake. Relations that name such a setting are checked in the next run.
    unread = tuple(name for name in given if any(m.startswith(f"{name} (") for m in mistakes))
    mistakes += [rule for rule in broken_rules(settings) if not any(name in rule for name in unread)]
    if mistakes:
        raise ConfigError(mistakes)
    return settings


def _from_file(path: Path, table: Mapping[str, Setting], mistakes: list[str]) -> dict[str, tuple[Any, str]]:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        mistakes.append(f"The configuration file{shown_path(str(path))} cannot be read: {error.strerror}")
        return {}
    except UnicodeDecodeError:
        mistakes.append(f"The configuration file {path} is not UTF-8; save it as UTF-8 (not as UTF-16)")
        return {}
    except ValueError as error:  # also a path with the character NUL
        mistakes.append(f"The configuration file{shown_path(str(path))} is not TOML: {error}")
        return {}
    given: dict[str, tuple[Any, str]] = {}
    for group, content in document.items():
        if group not in groups() or not isinstance(content, dict):
            if isinstance(content, dict) and len(content) > 0:
                unknown = [f"{group}.{attribute}" for attribute in content]
            else:
                unknown = [group]
            mistakes += [f"{name} ({path}): {_unknown(name, list(table))}" for name in unknown]
            continue
        for attribute, raw in content.items():
            name = f"{group}.{attribute}"
            if name in table:
                given[name] = (raw, str(path))
            else:
                mistakes.append(f"{name} ({path}): {_unknown(name, list(table))}")
    return given


def _from_environment(
    environ: Mapping[str, str], table: Mapping[str, Setting], mistakes: list[str]
) -> dict[str, tuple[Any, str]]:
    variables = {setting.variable: setting for setting in table.values()}
    given: dict[str, tuple[Any, str]] = {}
    for variable, raw in sorted(environ.items()):
        if not variable.startswith(PREFIX) or variable == CONFIG_FILE_VARIABLE:
            continue
        if variable not in variables:
            secret = {name.replace(".", "_").upper(): name for name in _SECRETS}.get(variable[len(PREFIX) :])
            mistakes.append(f"{variable}: {_unknown(secret or variable, list(variables))}")
        elif raw.strip():
            given[variables[variable].name] = (raw, variable)
    return given


def _unknown(name: str, known: list[str]) -> str:
    """The message never quotes the value, which may be a misplaced secret."""
    if name in _SECRETS:
        return f"is not a setting: secrets are read from files only; set {_SECRETS[name]} to the file's path"
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return "is not a setting" + (f"; did you mean {nearest[0]}?" if nearest else "")


def _parse(setting: Setting, raw: Any) -> Any:
    """Parse what the user wrote for a setting; raises ValueError."""
    kind = setting.column.kind
    if kind is ValueKind.DURATION:
        return _bounded(setting, parse_duration(raw), format_duration)
    if kind is ValueKind.SIZE:
        return _bounded(setting, parse_size(raw), lambda size: format_size(int(size)))
    if kind is ValueKind.INTEGER:
        return _bounded(setting, parse_int(raw), lambda number: f"{number:.0f}")
    if kind is ValueKind.NUMBER:
        return _bounded(setting, parse_float(raw), lambda number: f"{number:g}")
    if not isinstance(raw, str) or not raw.strip():
        raise ValueError("the value is not text; write text in quotes that is not empty")
    text = raw.strip()
    if kind is ValueKind.FILE:
        if setting.column.secret:
            read_secret(Path(text))
            return Path(text)
        return _readable_file(text)
    if kind is ValueKind.CHOICE:
        return _chosen(setting, text)
    return text.rstrip("/") if setting.name == "kombo.base_url" else text


def _bounded(setting: Setting, value: Any, spell: Any) -> Any:
    low, high = setting.column.low, setting.column.high
    if (low is not None and value < low) or (high is not None and value > high):
        raise ValueError(
            f"{spell(value)} is out of range: it must be at least {spell(low)} and at most {spell(high)}"
        )
    return value


def _chosen(setting: Setting, text: str) -> str:
    for choice in setting.column.choices:
        if text.casefold() == choice.casefold():
            return choice
    raise ValueError(f"the value is not one of {', '.join(setting.column.choices)}")


def _readable_file(text: str) -> Path:
    path = Path(text)
    try:
        with path.open("rb") as file:
            if not file.read(1):
                raise ValueError(f"the file{shown_path(text)} is empty")
    except OSError as error:
        raise ValueError(
            f"the file{shown_path(text)} cannot be read: {error.strerror}; set the path of a file, not its content"
        ) from None
    return path
