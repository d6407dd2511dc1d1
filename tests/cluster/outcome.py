"""The outcome of a run: a table for people, and a line of JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.cluster.figures import Row
from tests.sandbox.checker.verdict import Verdict


@dataclass(frozen=True)
class Outcome:
    rows: Sequence[Row]
    verdict: Verdict
    seconds: float
    """From nothing to the verdict."""

    def print(self, console: Console) -> None:
        table = Table(title="Disturbances", title_justify="left")
        for heading in ("phase", "seconds", "changes", "unread", "slowest result"):
            table.add_column(heading, justify="left" if heading == "phase" else "right")
        for row in self.rows:
            figures = (
                f"{row.seconds:.0f}",
                f"{row.changes:,}",
                f"{row.unread:.1f} s",
                f"{row.slowest:.1f} s",
            )
            table.add_row(row.name, *figures)
        console.print(table)
        for row in self.rows:
            for note in row.notes:
                console.print(f"{row.name}: {note}", soft_wrap=True)

    def as_dict(self) -> dict[str, Any]:
        """For one line of JSON."""
        phases = {
            row.name: {
                "unread_seconds": round(row.unread, 1),
                "slowest_result_seconds": round(row.slowest, 1),
            }
            for row in self.rows
        }
        return {
            "changes": self.verdict.changes,
            **self.verdict.bad_columns(),
            "phases": phases,
            "seconds": round(self.seconds),
        }
