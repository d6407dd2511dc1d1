"""``python -m tests.tools.configuration_page > docs/configuration.md``: the settings, from the table and the rules."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from daemon.config.column import ValueKind
from daemon.config.policy_tables import MAY_DIFFER
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
* **Single integrations** can have [settings of their own](#settings-of-single-integrations).
* **Secrets** are read from files only, never from the environment, the command line or this file.

One message reports all mistakes, and the command exits with code 2. `coursesyncd check` also checks the broker,
the topics and the API. [permissions.md](permissions.md) lists the Kafka permissions that the principal
(`kafka.sasl_username`, the subject of the token, or the name in the client certificate) needs.
"""


_INTEGRATIONS = """\
## Settings of single integrations

A table `[integrations."…"]` sets what differs for some integrations. Its name is the id of an integration, or the beginning
of ids followed by `*`. The `*` may stand only at the end, and there is no other wildcard. Upper and lower case differ.

```toml
[task]
timeout = "24h"

[integrations."workday:*"]          # all ids that begin with workday:
task.timeout = "72h"
poll.interval_max = "30m"

[integrations."workday:HWUTwvyx2wLoSUHphiWVrp28"]
batch.items_max = 20
window.batches_max = 1
http.requests_per_second_max = 0.5
```

**The most specific table wins, for each setting by itself**: the table with the exact id; then the patterns that match, the
longest first; then the common setting, from the environment, the file or the default. The last integration above has a
`task.timeout` of `72h`. No two tables can be equally specific: of two patterns that match an id, one is the beginning of the
other. `coursesyncd integrations show ID` prints each value and where it comes from.

These settings can differ; the bounds are those of the common settings:

SETTINGS

* `http.requests_per_second_max` in a table limits **each** integration of the table by itself, submissions and polls together,
  per process. The common limit holds as well.
* `batch.bytes_max` in a table limits submissions. One change may still have up to the common `batch.bytes_max`, and then goes
  alone.
* `batch.linger` cannot differ, because it is a time of the whole partition.

The relations below must hold for each table together with the tables and settings that apply beside it.

**Changes without a restart.** The daemon looks at its files every 5 seconds. It reads them again when their content has changed
and then stayed the same for a second, and at once on SIGHUP. Only the tables of integrations are used. What else has changed is named in the log
(`settings.changed`) and needs a restart. If there is any mistake, the earlier tables stay in use: the log line
`policies.rejected` lists all mistakes, and `coursesync_policies_last_read_successful` is 0. The line `policies.read` confirms
that new tables are used.

| setting | what is under way |
| --- | --- |
| `task.timeout`, `task.watch_after_timeout` | count at the next poll of every task, also of those that were accepted before: a task has the time-out that is in force when it is polled, counted from its creation |
| `poll.*` | the next poll stays where it is; the ones after it follow the new intervals |
| `batch.*`, `window.*` | count for the next submission that is sealed. Sealed ones stay as they are. If more are open than a new window allows, the next one waits |
| `retry.*`, `wait.age_max` | count at the next failure. Waits that have begun stay as they are |
| `unchanged.trust_for` | counts for the next change that is compared |
| `http.requests_per_second_max` | counts for the next call |

After a change, replicas use different tables for some seconds. That is harmless: none of these settings is written to the journal.

**A file of its own.** `COURSESYNC_INTEGRATIONS` names a second file, which may have nothing but such tables. The chart mounts
`config.integrations` there, so that a change of it restarts no pod. A table may be in one of the two files only.
"""


def page() -> str:
    """The page as Markdown."""
    sections = [_HEADER]
    for group, settings in groupby(all_settings(), key=lambda setting: setting.group):
        rows = "\n".join(_row(setting) for setting in settings)
        sections.append(
            f"## {group}\n\n| setting | default | allowed | meaning |\n| --- | --- | --- | --- |\n{rows}\n"
        )
    sections.append(_INTEGRATIONS.replace("SETTINGS", ", ".join(f"`{name}`" for name in MAY_DIFFER)))
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
