"""The outcome of a chaos run."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.sandbox.chaos.fleet import UNEXPLAINED
from tests.sandbox.chaos.schedule import Kind
from tests.sandbox.checker.verdict import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class ChaosOutcome:
    strikes: Mapping[Kind, int]
    verdict: Verdict
    takeovers: Sequence[float]
    """Seconds for which the partitions of a killed replica did not run."""
    restarts: Sequence[float]
    """Seconds from the start of a killed replica's process until it ran its partitions again."""
    exits: Sequence[str] = field(default=())
    """Replicas that ended unexpectedly, and why."""
    stuck: str | None = None
    """What did not recover although everything had been healed."""
    seconds: float
    """From the first change to the last result."""

    @property
    def ok(self) -> bool:
        unexplained = any(line.endswith(UNEXPLAINED) for line in self.exits)
        return self.verdict.ok and self.stuck is None and not unexplained

    def as_dict(self) -> dict[str, Any]:
        """For one line of JSON."""
        return {
            "kills": self.strikes.get(Kind.KILL, 0),
            "zombies": sum(self.strikes.get(kind, 0) for kind in (Kind.ZOMBIE, Kind.REPLACE)),
            "broker_restarts": self.strikes.get(Kind.BROKER_KILL, 0),
            "changes": self.verdict.changes,
            **self.verdict.bad_columns(),
            "takeover_seconds": _spread(self.takeovers),
            "restart_seconds": _spread(self.restarts),
            "exits": len(self.exits),
            "seconds": round(self.seconds, 1),
        }


def _spread(seconds: Sequence[float]) -> dict[str, float | None]:
    if not seconds:
        return {"p50": None, "max": None}
    return {"p50": round(statistics.median(seconds), 2), "max": round(max(seconds), 2)}
