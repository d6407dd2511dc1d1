"""The progress display while changes are in progress."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

_REFRESHES = 5
"""Per second. If the output is not a terminal, only the last state is written."""


class Watching:
    """Two progress bars, published and results, and the results by status. A context manager."""

    def __init__(self, console: Console, changes: int) -> None:
        self._bars = Progress(
            TextColumn("{task.description:<9}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
        )
        self._published = self._bars.add_task("published", total=changes)
        self._resolved = self._bars.add_task("results", total=changes)
        self._statuses, self._note = Text(), Text()
        self._live = Live(
            Group(self._bars, self._statuses, self._note), console=console, refresh_per_second=_REFRESHES
        )

    def update(self, published: int, statuses: Mapping[str, int], note: str = "") -> None:
        """`note` is shown on a separate line."""
        self._bars.update(self._published, completed=published)
        self._bars.update(self._resolved, completed=sum(statuses.values()))
        self._statuses.plain = "  ".join(f"{count} {status}" for status, count in sorted(statuses.items()))
        self._note.plain = note

    def __enter__(self) -> Self:
        self._live.start(refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()
