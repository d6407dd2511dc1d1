"""The reference page of the settings, made from the table."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from daemon.config.table import Setting, ValueKind, all_settings
from daemon.config.units import format_duration, format_size

_HEADER = """\
<!-- Made from daemon/config/table.py by `python -m daemon.config`; do not edit here. -->
# Configuration

Every setting can be given in the environment or in a TOML file; the environment wins.

* **Environment**: `COURSESYNC_` and the name in capitals, with `_` for the point:
  `batch.linger` is `COURSESYNC_BATCH_LINGER`. An empty variable counts as not set. A variable that
  begins with `COURSESYNC_` and belongs to no setting is a mistake.
* **File**: named by `--config` or `COURSESYNC_CONFIG`; the first word of a name is a table:

  ```toml
  [batch]
  linger = "500ms"
  items_max = 50
  ```
* **Helm**: `config` of the chart's values has the same names, `config.batch.linger`; see
  [its page](../helm/course-sync-daemon/README.md#settings).
* **Durations** carry their unit: `500ms`, `15s`, `5m`, `24h`, `7d`. **Sizes**: `512KiB`, `1MiB`, or a
  plain number of bytes.
* **Secrets** are only read from files, never from the environment, the command line or this file.

All mistakes are told in one message, and the command ends with exit code 2. `coursesyncd check` goes
further and looks at the broker, the topics and the API. What `kafka.sasl_username`, or the name in the client's
certificate, must be allowed in Kafka is in [permissions.md](permissions.md).
"""


def reference() -> str:
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
    return "path of a file" if column.kind is ValueKind.FILE else "text"


def _spelled(setting: Setting, value: Any) -> str:
    if setting.column.kind is ValueKind.DURATION:
        return format_duration(value)
    return format_size(value) if setting.column.kind is ValueKind.SIZE else str(value)


def _relations() -> Iterator[str]:
    yield "## What must hold between them\n"
    yield "Checked at start, each with a sentence that says why:\n"
    yield "* `fence.lease` < `kafka.session_timeout` and `drain.timeout` < `kafka.session_timeout`"
    yield "* `http.deadline` < `task.timeout`"
    yield "* `poll.first_after` ≤ `poll.interval_max` ≤ `task.timeout`"
    yield "* `retry.backoff_min` ≤ `retry.backoff_max`; `park.probe_min` ≤ `park.probe_max` ≤ `wait.age_max`"
    yield "* `http.poll_share` leaves at least one call to polls and one to submissions"
    yield "* the four topics have four names; SASL and TLS settings fit `kafka.security_protocol`"
    yield "* `kombo.base_url` is https, except on 127.0.0.1\n"
