"""The settings of what is known of courses."""

from __future__ import annotations

from dataclasses import dataclass

from daemon.config.column import duration, integer


@dataclass(frozen=True, slots=True)
class CoursesSettings:
    """What a process remembers of the courses topic."""

    index_max: int = integer(
        1_000_000,
        0,
        100_000_000,
        "Maximum number of courses whose known state a process keeps in memory, over all its partitions; about 100 bytes "
        "each. Further courses count as not known: they are always sent.",
    )


@dataclass(frozen=True, slots=True)
class UnchangedSettings:
    """Changes that end without a submission, because the course is known to have their content."""

    trust_for: float = duration(
        "7d",
        "0s",
        "3650d",
        "A change ends as `UNCHANGED` only if the API confirmed the course's content less than this time ago. `0s`: every "
        "change is sent. Longer: changes that other programs or people make in a learning system stay longer.",
    )
