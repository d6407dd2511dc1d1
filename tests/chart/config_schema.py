"""The part `config` of the chart's values.schema.json, made from the daemon's own table of settings.

`python -m tests.chart.config_schema` writes it into the file; a test holds the file to it.
"""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from typing import Any

from daemon.config.column import ValueKind
from daemon.config.table import Setting, all_settings
from daemon.config.units import format_duration, format_size

SCHEMA = Path(__file__).parents[2] / "helm" / "course-sync-daemon" / "values.schema.json"

_NUMBER = r"[0-9]{1,15}(\.[0-9]{1,6})?"
_NAME = {"type": "string", "minLength": 1}
_LOW = {"admin.port": 1}
"""Narrower than the daemon's: nobody would know which free port it has taken."""


def config_schema() -> dict[str, Any]:
    """Closed on all levels, so that a misspelt setting fails at `helm install`."""
    groups = {
        group: _closed({setting.attribute: _setting(setting) for setting in settings})
        for group, settings in groupby(all_settings(), key=lambda setting: setting.group)
    }
    about = "Settings of the daemon, see docs/configuration.md. Made from its table: python -m tests.chart.config_schema"
    return {"description": about, **_closed(groups)}


def document() -> str:
    """The whole file, with its part `config` as it has to be."""
    whole = json.loads(SCHEMA.read_text(encoding="utf-8"))
    whole["properties"]["config"] = config_schema()
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def _closed(properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties, **more}


def _setting(setting: Setting) -> dict[str, Any]:
    return {"description": _described(setting), **_allowed(setting)}


def _described(setting: Setting) -> str:
    default, kind = setting.default, setting.column.kind
    if setting.column.required:
        return f"Required. {setting.column.meaning}"
    if default is None:
        return setting.column.meaning
    spelled = {ValueKind.DURATION: format_duration, ValueKind.SIZE: format_size}.get(kind, str)(default)
    return f"{setting.column.meaning} Default of the daemon: {spelled}."


def _allowed(setting: Setting) -> dict[str, Any]:
    column = setting.column
    bounds = {"minimum": _LOW.get(setting.name, column.low), "maximum": column.high}
    match column.kind:
        case ValueKind.TEXT:
            return dict(_NAME)
        case ValueKind.CHOICE:
            return {"enum": list(column.choices)}
        case ValueKind.INTEGER:
            return {"type": "integer", **bounds}
        case ValueKind.NUMBER:
            return {"type": "number", **bounds}
        case ValueKind.DURATION:
            return {"type": "string", "pattern": f"^{_NUMBER}(ms|s|m|h|d)$"}
        case ValueKind.SIZE:
            return {
                "anyOf": [
                    {"type": "string", "pattern": f"^{_NUMBER}(B|KiB|MiB|GiB)?$"},
                    {"type": "integer", **bounds},
                ]
            }
        case ValueKind.FILE:
            sources = [
                _closed({source: dict(_NAME), "key": dict(_NAME)}, required=[source])
                for source in ("secret", "configMap")
            ]
            return {"anyOf": [*sources, {"type": "string", "pattern": "^/."}]}


if __name__ == "__main__":
    SCHEMA.write_text(document(), encoding="utf-8")
