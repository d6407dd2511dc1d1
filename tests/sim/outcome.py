"""What became of one history."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Outcome:
    seed: int
    kind: str = ""
    changes: int = 0
    results: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    """Violations by kind; empty when the contract was kept."""
    plain: bool = True
    """Whether what everyone may see at the end (input, results, the API, the LMS, what is stuck) is right,
    whatever was seen on the way."""
    lines: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    steps: int = 0
    digest: str = ""
    """Of everything that crossed the daemon's edges."""
    trace: list[tuple[float, str]] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.counts

    def add(self, kind: str, line: str) -> None:
        self.counts[kind] += 1
        self.lines.append(f"{kind}: {line}")
