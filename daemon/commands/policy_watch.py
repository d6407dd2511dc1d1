"""Reads the tables of integrations again while a process runs: when a file changes, or when the process is asked to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from daemon.config import ConfigError, Configuration, Policies, PolicyTable, Settings, load_configuration
from daemon.config.load import files_of
from daemon.config.table import all_settings
from daemon.telemetry.events import Observer, PoliciesRejected, PoliciesUsed, RestartNeeded

LOOK_INTERVAL = 5.0
"""Seconds between two looks at the files. Their contents are compared: Kubernetes swaps a symbolic link, and the time of a
file says nothing then.
"""
SETTLE_INTERVAL = 1.0
"""Seconds for which a changed file must stay as it is before it is read: half of a file that is being written may have no
mistakes, and even an empty one has none.
"""


class ConfigFiles:
    """The files of the configuration. `changed` compares them with those of the last call of `changed`, or else with those at
    the time when this object was made.
    """

    def __init__(
        self, environ: Mapping[str, str], config_file: Path | None, unneeded: frozenset[str] = frozenset()
    ) -> None:
        """`unneeded`: as in `load_configuration`."""
        self._unneeded = unneeded
        self._environ = dict(environ)
        self._config_file = config_file
        self._paths = [path for path in files_of(environ, config_file) if path is not None]
        self._seen = self._contents()

    def read(self) -> Configuration:
        """Raises `ConfigError`."""
        return load_configuration(self._environ, self._config_file, unneeded=self._unneeded)

    def changed(self) -> bool:
        seen, self._seen = self._seen, self._contents()
        return seen != self._seen

    def _contents(self) -> list[bytes | None]:
        return [_content(path) for path in self._paths]


class PolicyWatch:
    """`use` is called with tables that have no mistakes and differ from those of `policies`."""

    def __init__(
        self,
        files: ConfigFiles,
        settings: Settings,
        policies: Policies,
        observer: Observer,
        use: Callable[[Sequence[PolicyTable]], None],
        interval: float = LOOK_INTERVAL,
        settle: float = SETTLE_INTERVAL,
    ) -> None:
        self._files = files
        self._settings = settings
        self._policies = policies
        self._observer = observer
        self._use = use
        self._interval = interval
        self._settle = settle
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Read the files soon, even if they have not changed."""
        self._asked.set()

    async def run(self) -> None:
        """Run until cancelled."""
        is_settling = False
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), self._settle if is_settling else self._interval)
            asked = self._asked.is_set()
            self._asked.clear()
            changed = await asyncio.to_thread(self._files.changed)
            if asked or (is_settling and not changed):
                is_settling = False
                await self._read()
            elif changed:
                is_settling = True

    async def _read(self) -> None:
        try:
            read = await asyncio.to_thread(self._files.read)
        except ConfigError as error:
            self._observer.notify(PoliciesRejected(tuple(error.mistakes)))
            return
        names = _differing(self._settings, read.settings)
        if names:
            self._observer.notify(RestartNeeded(names))
        if mistakes := self._policies.mistakes(read.tables):
            self._observer.notify(PoliciesRejected(tuple(mistakes)))
            return
        is_news = read.tables != self._policies.tables
        if is_news:
            self._use(read.tables)
        self._observer.notify(PoliciesUsed(tuple(table.name for table in read.tables), is_news))


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (OSError, ValueError):
        return None


def _differing(running: Settings, read: Settings) -> tuple[str, ...]:
    """The names of the common settings that are not the same."""

    def value(settings: Settings, group: str, attribute: str) -> object:
        return getattr(getattr(settings, group), attribute)

    return tuple(
        row.name
        for row in all_settings()
        if value(running, row.group, row.attribute) != value(read, row.group, row.attribute)
    )
