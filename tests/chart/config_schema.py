"""What the chart knows about the daemon's settings, made from the daemon's own table: the part `config` of
values.schema.json, and files/settings.json, from which the templates take defaults, bounds, orders and logins.

`python -m tests.chart.config_schema` writes both; a test compares the files with it.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

from daemon.config.column import ValueKind
from daemon.config.policy_tables import GROUP, MAY_DIFFER
from daemon.config.rules import LOGIN_MAY_HAVE, LOGIN_NEEDS, RULES
from daemon.config.table import Setting, all_settings
from daemon.config.units import format_duration, format_size

_CHART = Path(__file__).parents[2] / "helm" / "course-sync-daemon"
SCHEMA = _CHART / "values.schema.json"
TABLE = _CHART / "files" / "settings.json"

_NAME = {"type": "string", "pattern": r"\S"}
_UNSET = {"type": "null"}
"""`null` is how Helm takes a value back, so every setting may be null."""
_LOW = {"admin.port": 1}
"""Narrower than the daemon's: nobody would know which free port it has taken."""


def config_schema() -> dict[str, Any]:
    """Closed on all levels, so that a misspelt setting fails at `helm install`."""
    groups = {
        group: _closed(
            {setting.attribute: _setting(setting) for setting in settings}, type=["object", "null"]
        )
        for group, settings in groupby(all_settings(), key=lambda setting: setting.group)
    }
    about = "Settings of the daemon, see docs/configuration.md. Made from its table: python -m tests.chart.config_schema"
    return {"description": about, **_closed(groups | {GROUP: _integrations()})}


def _integrations() -> dict[str, Any]:
    about = (
        "Settings of single integrations, by id or by the beginning of ids followed by *. The most specific table wins, for "
        "each setting by itself. A change restarts no pod."
    )
    rows = [setting for setting in all_settings() if setting.name in MAY_DIFFER]
    groups = {
        group: _closed(
            {setting.attribute: _setting(setting) for setting in settings}, type=["object", "null"]
        )
        for group, settings in groupby(rows, key=lambda setting: setting.group)
    }
    table = _closed(groups, type=["object", "null"])
    return {"description": about, "type": ["object", "null"], "additionalProperties": table}


def document() -> str:
    """The whole file, with its part `config` as it has to be."""
    whole = json.loads(SCHEMA.read_text(encoding="utf-8"))
    whole["properties"]["config"] = config_schema()
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def _closed(properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties} | more


def table() -> str:
    """The whole file files/settings.json."""
    settings = {
        setting.name: {"kind": setting.column.kind.value, **_numbers(setting)} for setting in all_settings()
    }
    orders = [asdict(rule.order) for rule in RULES if rule.order is not None]
    whole = {"settings": settings, "orders": orders, "logins": _logins(), "may_differ": list(MAY_DIFFER)}
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def _logins() -> list[dict[str, Any]]:
    """Each setting of a login, in the daemon's order: the mechanisms that need it, and those that use it."""
    rows = []
    for setting in all_settings():
        name = setting.attribute
        if setting.group == "kafka" and name.startswith("sasl_"):
            needed = [mechanism for mechanism, names in LOGIN_NEEDS.items() if name in names]
            optional = [mechanism for mechanism, names in LOGIN_MAY_HAVE.items() if name in names]
            used = list(LOGIN_NEEDS) if name == "sasl_mechanism" else needed + optional
            rows.append({"setting": name, "needed_by": needed, "used_by": used})
    return rows


def _numbers(setting: Setting) -> dict[str, str]:
    """Default and bounds, as far as there are any, as a user would write them."""
    column = setting.column
    default = None if column.kind is ValueKind.FILE else setting.default
    given = {"default": default, "low": column.low, "high": column.high}
    return {name: _spelled(column.kind, value) for name, value in given.items() if value is not None}


def _spelled(kind: ValueKind, value: Any) -> str:
    if kind is ValueKind.DURATION:
        return format_duration(value)
    return format_size(int(value)) if kind is ValueKind.SIZE else str(value)


def _setting(setting: Setting) -> dict[str, Any]:
    return {"description": _described(setting), "anyOf": [*_allowed(setting), _UNSET]}


def _described(setting: Setting) -> str:
    default, kind = setting.default, setting.column.kind
    if setting.column.required:
        return f"Required. {setting.column.meaning}"
    if default is None:
        return setting.column.meaning
    return f"{setting.column.meaning} Default of the daemon: {_spelled(kind, default)}."


def _allowed(setting: Setting) -> list[dict[str, Any]]:
    """Alternatives. The templates check values with a unit and paths: when a pattern does not match, Helm repeats the value,
    and it may be a secret.
    """
    column = setting.column
    bounds = {"minimum": _LOW.get(setting.name, column.low), "maximum": column.high}
    match column.kind:
        case ValueKind.TEXT:
            return [_NAME]
        case ValueKind.CHOICE:
            return [{"enum": list(column.choices)}]
        case ValueKind.INTEGER:
            return [{"type": "integer", **bounds}]
        case ValueKind.NUMBER:
            return [{"type": "number", **bounds}]
        case ValueKind.DURATION:
            return [_NAME]
        case ValueKind.SIZE:
            return [_NAME, {"type": "integer", **bounds}]
        case ValueKind.FILE:
            sources = [
                _closed({source: _NAME, "key": _NAME}, required=[source])
                for source in ("secret", "configMap")
            ]
            return [*sources, _NAME]


if __name__ == "__main__":
    SCHEMA.write_text(document(), encoding="utf-8")
    TABLE.write_text(table(), encoding="utf-8")
