"""The tables ``[integrations."…"]``: settings that differ between integrations.

The name of a table is the id of an integration, or the beginning of ids followed by ``*``, which may stand only at the end.
For each setting, the most specific table that names it counts: the one with the exact id, then the patterns that match, the
longest first, then the common setting. Two patterns that match the same id never tie: one of them is the beginning of the
other, and no two tables have the same name.

So the tables that apply to an id are known once its most specific one is: they are that table and the patterns that match its
own name. There are as many combinations as tables, and each of them is checked.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from daemon.config.rules import broken_rules
from daemon.config.table import Setting, Settings, all_settings
from daemon.config.values import parse, unknown

ANY_END = "*"
GROUP = "integrations"
"""The tables' place in the file."""

OWN_RATE = "http.requests_per_second_max"
"""In a table it limits each integration of the table by itself, in addition to the common limit."""

MAY_DIFFER = (
    "batch.items_max",
    "batch.bytes_max",
    "window.batches_max",
    OWN_RATE,
    "poll.first_after",
    "poll.factor",
    "poll.interval_max",
    "task.timeout",
    "task.watch_after_timeout",
    "retry.backoff_min",
    "retry.backoff_max",
    "retry.attempts_max",
    "wait.age_max",
    "unchanged.trust_for",
)
"""The settings that may differ between integrations."""

_ROWS: dict[str, Setting] = {setting.name: setting for setting in all_settings()}


@dataclass(frozen=True, slots=True)
class PolicyTable:
    name: str
    """An id, or a pattern."""
    values: Mapping[str, Any]
    """By name of the setting, one of `MAY_DIFFER`."""
    file: str = ""
    """Where it is written."""

    @property
    def prefix(self) -> str | None:
        """With what the ids begin that the pattern matches. None for an exact id."""
        return self.name[: -len(ANY_END)] if self.name.endswith(ANY_END) else None

    @property
    def heading(self) -> str:
        """As in the file."""
        return f"[{GROUP}.{_quoted(self.name)}]"


def applying(tables: Iterable[PolicyTable], name: str) -> list[PolicyTable]:
    """The tables for the integration with this id, the most specific one first. `name` may also be that of a table: then they
    are those for the ids of which this table is the most specific one.
    """
    found = [each for each in tables if each.name == name or _matches(each, name)]
    return sorted(found, key=lambda each: (each.name == name, len(each.name)), reverse=True)


def merged(settings: Settings, chain: Iterable[PolicyTable]) -> Settings:
    """The settings for an integration with these tables, the most specific one first. Without `OWN_RATE`: see `own_rate`."""
    values: dict[str, Any] = {}
    for table in chain:
        values = dict(table.values) | values
    groups: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        if name != OWN_RATE:
            group, _, attribute = name.partition(".")
            groups.setdefault(group, {})[attribute] = value
    changed = {
        group: dataclasses.replace(getattr(settings, group), **given) for group, given in groups.items()
    }
    return dataclasses.replace(settings, **changed)


def own_rate(chain: Iterable[PolicyTable]) -> float | None:
    """Calls a second for one integration with these tables. None: no limit of its own."""
    return next((table.values[OWN_RATE] for table in chain if OWN_RATE in table.values), None)


def read_tables(content: Any, file: str, mistakes: list[str]) -> list[PolicyTable]:
    """The tables in the part `integrations` of a file. What is wrong is added to `mistakes`."""
    if not isinstance(content, dict):
        mistakes.append(f'{GROUP} ({file}): is not a table; write [{GROUP}."workday:*"]')
        return []
    tables = []
    for name, given in content.items():
        where = f"{GROUP}.{_quoted(name)}"
        if (mistake := _name_mistake(name, given)) is not None:
            mistakes.append(f"{where} ({file}): {mistake}")
        else:
            values = dict(_values(where, given, file, mistakes))
            tables.append(PolicyTable(name, values, file))
    return tables


def table_mistakes(settings: Settings, tables: Iterable[PolicyTable]) -> Iterator[str]:
    """Relations between settings that a table breaks, alone or with the tables and settings that apply beside it."""
    tables = list(tables)
    common = set(broken_rules(settings))
    for table in tables:
        chain = applying(tables, table.name)
        others = " and ".join(each.heading for each in chain[1:])
        beside = f" (with {others})" if others else ""
        reported = {
            sentence
            for each in chain[1:]
            for sentence in broken_rules(merged(settings, applying(tables, each.name)))
        }
        for sentence in broken_rules(merged(settings, chain)):
            if sentence not in common and sentence not in reported:
                yield f"{GROUP}.{_quoted(table.name)} ({table.file}){beside}: {sentence}"


def _matches(table: PolicyTable, name: str) -> bool:
    return table.prefix is not None and name.removesuffix(ANY_END).startswith(table.prefix)


def _name_mistake(name: str, given: Any) -> str | None:
    if not isinstance(given, dict):
        return f'is not a table; write [{GROUP}."workday:*"] with the settings below it'
    if name == ANY_END:
        return "would be for all integrations; use the common settings"
    if not name or ANY_END in name[:-1]:
        return f"is neither an id nor the beginning of ids followed by {ANY_END}, such as workday:*"
    return None


def _values(
    where: str, given: Mapping[str, Any], file: str, mistakes: list[str]
) -> Iterator[tuple[str, Any]]:
    for group, content in given.items():
        settings = content if isinstance(content, dict) and content else {"": content}
        for attribute, raw in settings.items():
            name = f"{group}.{attribute}" if attribute else group
            try:
                if name not in MAY_DIFFER:
                    raise ValueError(_may_not_differ(name))
                yield name, parse(_ROWS[name], raw)
            except ValueError as error:
                mistakes.append(f"{where}.{name} ({file}): {error}")


def _may_not_differ(name: str) -> str:
    if name in _ROWS:
        return "cannot differ between integrations; docs/configuration.md lists the settings that can"
    return unknown(name, MAY_DIFFER)


def _quoted(name: str) -> str:
    """The name as a key of a TOML file."""
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    shown = "".join(each if each.isprintable() else f"\\u{ord(each):04X}" for each in escaped)
    return f'"{shown}"'
