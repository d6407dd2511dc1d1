"""What PromQL expressions ask for, and what a running daemon shows."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.unit.log_world import LogWorld, read

PROMETHEUS = {"up", "ALERTS"}
"""Series that Prometheus itself makes for every target and rule."""


class Matcher(NamedTuple):
    label: str
    operator: str
    value: str


class Selector(NamedTuple):
    metric: str
    matchers: tuple[Matcher, ...]


def selectors(expression: str) -> list[Selector]:
    """Every selector, one without braces too."""
    names = re.finditer(r"\b(coursesync_\w+|up|ALERTS)\b(?:\{([^}]*)\})?", expression)
    return [
        Selector(
            name, tuple(Matcher(*m) for m in re.findall(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"', inside or ""))
        )
        for name, inside in (match.groups() for match in names)
    ]


@dataclass
class Shown:
    """An exposition: the labels of all series, by name (`_bucket` and the like included)."""

    series: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)
    """By series, as it is written."""

    @classmethod
    def of(cls, exposition: str) -> Shown:
        shown = cls()
        for line in exposition.splitlines():
            if not line.startswith("#"):
                series, value = line.rsplit(" ", 1)
                name, _, inside = series.partition("{")
                shown.series.setdefault(name, []).append(dict(re.findall(r'(\w+)="([^"]*)"', inside)))
                shown.values[series] = value
        return shown

    def missing(self, selector: Selector) -> str | None:
        """What this asks for in vain; matchers of a target's own labels, and with variables, are passed over."""
        name, matchers = selector
        if name in PROMETHEUS:
            return None
        if name not in self.series:
            return f"no metric {name}"
        for label, operator, value in matchers:
            if label in {"job", "instance", "namespace"} or "$" in value:
                continue
            for wanted in value.split("|") if operator in {"=~", "!~"} else [value]:
                if wanted not in {labels.get(label) for labels in self.series[name]}:
                    return f'no {name} with {label}="{wanted}"'
        return None


async def of_a_running_daemon(*, changes: str = "abc") -> Shown:
    """What a real engine shows, on the embedded log, when these courses have their results."""
    async with LogWorld() as world:
        await world.start()
        await world.running(0)
        await world.running(1)
        await read(world, 0, changes)
        # The result is in the log before the commit is confirmed here.
        await world.until(lambda: not world.metrics.snapshot().commit_since_ms, "the last commit")
        return Shown.of(world.scrape())
