"""What the checker found: how many violations of which kind, and a line for each of the first ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

LINES_KEPT_PER_KIND = 1000
"""Of a run in which everything is wrong, nobody reads more."""


class Kind(StrEnum):
    """Which promise was broken. The values are the names of the counts."""

    LOST = "lost"  # an input record without a result
    DUPLICATE = "duplicate"  # a second result for an input record, or a result for no input record
    FALSE_SUCCESS = "false_successes"  # SUCCEEDED, and the API never said so of this change
    FALSE_FAILURE = "false_failures"  # FAILED or TIMED_OUT, and the API said something else
    MISORDERED = "misordered"  # changes of a course out of order, or two submissions of it open at once
    UNCONVERGED = "unconverged"  # the newest change SUCCEEDED, and the LMS holds something else
    REJECTION = "rejections"  # REJECTED though acceptable, or not REJECTED though not acceptable
    SUPERSESSION = "supersessions"  # SUPERSEDED without a newer change, or after it was submitted
    CORRECTION = "corrections"  # a correction of what needs none, or that is not true
    UNASKED = "unasked"  # something was submitted that no change asked for
    MALFORMED = "malformed"  # not as the wire format says, or about another change than it says


_ASKED_FOR = (Kind.LOST, Kind.DUPLICATE, Kind.FALSE_SUCCESS, Kind.MISORDERED, Kind.UNCONVERGED)


class Violation(NamedTuple):
    kind: Kind
    line: str
    """Where and what, for people; begins with the topic, partition and offset where there is one."""


@dataclass(slots=True)
class Verdict:
    """The outcome of a check. Made by `judge`, not changed afterwards."""

    changes: int = 0
    """Records in the input, acceptable or not."""
    results: Counter[str] = field(default_factory=Counter)
    """Input records by the status of their (first) result."""
    corrected: int = 0
    """Changes with a correction."""
    spread_courses: int = 0
    """Courses with changes in several partitions. Their order means nothing and is not judged."""
    counts: Counter[Kind] = field(default_factory=Counter)
    violations: list[Violation] = field(default_factory=list)
    """The first ones of each kind; `counts` has them all."""

    @property
    def ok(self) -> bool:
        return not self.counts.total()

    def add(self, kind: Kind, line: str) -> None:
        self.counts[kind] += 1
        if self.counts[kind] <= LINES_KEPT_PER_KIND:
            self.violations.append(Violation(kind, line))

    def first(self, count: int) -> Iterator[Violation]:
        """At most `count` violations, fairly of all kinds: the first of each, the second of each, …"""
        queues = [[v for v in self.violations if v.kind is kind] for kind in Kind]
        ranked = sorted((rank, k, v.line) for k, queue in enumerate(queues) for rank, v in enumerate(queue))
        for _, k, line in ranked[:count]:
            yield Violation(list(Kind)[k], line)

    def bad_columns(self) -> dict[str, int]:
        """Of the violations those that people ask for first, by name, and all the others in one sum."""
        named = {kind.value: self.counts[kind] for kind in _ASKED_FOR}
        return {**named, "other_violations": self.counts.total() - sum(named.values())}

    def as_dict(self) -> dict[str, Any]:
        """For one line of JSON: changes, results by status, and every count by its kind."""
        return {
            "ok": self.ok,
            "changes": self.changes,
            "results": dict(sorted(self.results.items())),
            "corrected": self.corrected,
            "spread_courses": self.spread_courses,
            **{kind.value: self.counts[kind] for kind in Kind},
        }
