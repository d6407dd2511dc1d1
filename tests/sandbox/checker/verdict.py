"""The findings of the checker: the number of violations by kind, and a line for each of the first ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

LINES_KEPT_PER_KIND = 1000
"""Bounds the memory for a run with very many violations. More lines are not useful to a reader."""


class Kind(StrEnum):
    """The promise that was broken. The values are the names of the counts."""

    LOST = "lost"  # an input record without a result
    DUPLICATE = "duplicate"  # a second result for an input record, or a result for no input record
    FALSE_SUCCESS = "false_successes"  # SUCCEEDED, but the API did not report that for this change
    FALSE_FAILURE = "false_failures"  # FAILED or TIMED_OUT, but the API reported something else
    MISORDERED = "misordered"  # changes of a course out of order, or two submissions of it open at once
    UNCONVERGED = "unconverged"  # the newest change SUCCEEDED, but the LMS holds something else
    REJECTION = "rejections"  # REJECTED although acceptable, or not REJECTED although not acceptable
    SUPERSESSION = "supersessions"  # SUPERSEDED without a newer change, or after it was submitted
    CORRECTION = "corrections"  # a correction that is not needed or not true
    KNOWN = "known"  # a course record that is not true, or UNCHANGED without a confirmed content
    UNASKED = "unasked"  # content was submitted that no change has
    MALFORMED = "malformed"  # violates the wire format, or contradicts the change that it names


_ASKED_FOR = (Kind.LOST, Kind.DUPLICATE, Kind.FALSE_SUCCESS, Kind.MISORDERED, Kind.UNCONVERGED)


class Violation(NamedTuple):
    kind: Kind
    line: str
    """Where and what, for people. Begins with topic, partition and offset if they are known."""


@dataclass(slots=True)
class Verdict:
    """The outcome of a check. Created by `judge` and not changed afterwards."""

    changes: int = 0
    """Number of input records, acceptable or not."""
    results: Counter[str] = field(default_factory=Counter)
    """Input records by the status of their (first) result."""
    deactivations: Counter[str] = field(default_factory=Counter)
    """Of these, the acceptable changes that retire a course."""
    inactive: int = 0
    """Number of courses that the LMS does not offer any more."""
    corrected: int = 0
    """Number of changes with a correction."""
    spread_courses: int = 0
    """Number of courses with changes in several partitions. Their order is undefined and is not judged."""
    counts: Counter[Kind] = field(default_factory=Counter)
    violations: list[Violation] = field(default_factory=list)
    """The first ones of each kind. `counts` counts all of them."""

    @property
    def ok(self) -> bool:
        return not self.counts.total()

    def add(self, kind: Kind, line: str) -> None:
        self.counts[kind] += 1
        if self.counts[kind] <= LINES_KEPT_PER_KIND:
            self.violations.append(Violation(kind, line))

    def first(self, count: int) -> Iterator[Violation]:
        """At most `count` violations, evenly from all kinds: the first of each kind, the second of each, …"""
        queues = [[v for v in self.violations if v.kind is kind] for kind in Kind]
        ranked = sorted((rank, k, v.line) for k, queue in enumerate(queues) for rank, v in enumerate(queue))
        for _, k, line in ranked[:count]:
            yield Violation(list(Kind)[k], line)

    def bad_columns(self) -> dict[str, int]:
        """The counts of the most important kinds of violations by name, and the sum of all others."""
        named = {kind.value: self.counts[kind] for kind in _ASKED_FOR}
        return {**named, "other_violations": self.counts.total() - sum(named.values())}

    def as_dict(self) -> dict[str, Any]:
        """For one line of JSON: changes, results by status, and every count by its kind."""
        return {
            "ok": self.ok,
            "changes": self.changes,
            "results": dict(sorted(self.results.items())),
            "deactivations": dict(sorted(self.deactivations.items())),
            "inactive": self.inactive,
            "corrected": self.corrected,
            "spread_courses": self.spread_courses,
            **{kind.value: self.counts[kind] for kind in Kind},
        }
