"""``python -m tests.tools.configuration_page > docs/configuration.md``: the settings, from the table and the rules."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from daemon.config.column import ValueKind
from daemon.config.rules import RULES
from daemon.config.table import Setting, all_settings
from daemon.config.units import format_duration, format_size

_HEADER = """\
<!-- Generated from daemon/config by `python -m tests.tools.configuration_page`; do not edit. -->
# Configuration

Every setting can be given as an environment variable or in a TOML file. The environment takes precedence.

* **Environment**: `COURSESYNC_` plus the name in capitals, with `_` in place of the dot:
  `batch.linger` is `COURSESYNC_BATCH_LINGER`. An empty variable counts as not set. A variable that
  starts with `COURSESYNC_` and does not belong to a setting is reported as a mistake.
* **File**: given by `--config` or `COURSESYNC_CONFIG`. The first part of a name is a table:

  ```toml
  [batch]
  linger = "500ms"
  items_max = 50
  ```
* **Helm**: the values of the chart use the same names under `config`, for example `config.batch.linger`; see
  [the chart's page](../helm/course-sync-daemon/README.md#settings).
* **Durations** carry their unit: `500ms`, `15s`, `5m`, `24h`, `7d`. **Sizes**: `512KiB`, `1MiB`, or a
  plain number of bytes.
* **Secrets** are read from files only, never from the environment, the command line or this file.

One message reports all mistakes, and the command exits with code 2. `coursesyncd check` also checks the broker,
the topics and the API. [permissions.md](permissions.md) lists the Kafka permissions that the principal
(`kafka.sasl_username`, the subject of the token, or the name in the client certificate) needs.
"""


def page() -> str:
    """The page as Markdown."""
    sections = [_HEADER]
    for group, settings in groupby(all_settings(), key=lambda setting: setting.group):
        rows = "\n".join(_row(setting) for setting in settings)
        sections.append(
            f"## {group}\n\n| setting | default | allowed | meaning |\n| --- | --- | --- | --- |\n{rows}\n"
        )
    sections.append("\n".join(_relations()))
    return "\n".join(sections)


def _row(setting: Setting) -> str:
    return f"| `{setting.name}` | {_default(setting)} | {_allowed(setting)} | {setting.column.meaning} |"


def _default(setting: Setting) -> str:
    if setting.column.required:
        return "**required**"
    return "" if setting.default is None else f"`{_spelled(setting, setting.default)}`"


def _allowed(setting: Setting) -> str:
    column = setting.column
    if column.choices:
        return ", ".join(f"`{choice}`" for choice in column.choices)
    if column.low is not None:
        return f"`{_spelled(setting, column.low)}` to `{_spelled(setting, column.high)}`"
    return "file path" if column.kind is ValueKind.FILE else "text"


def _spelled(setting: Setting, value: Any) -> str:
    if setting.column.kind is ValueKind.DURATION:
        return format_duration(value)
    return format_size(value) if setting.column.kind is ValueKind.SIZE else str(value)


def _relations() -> Iterator[str]:
    yield "## Relations between settings\n"
    yield "These rules are checked at start. A broken rule is reported with its reason.\n"
    for rule in RULES:
        yield f"* {rule.description}"
    yield ""


if __name__ == "__main__":
    sys.stdout.write(page())
