"""The geometry of the pictures, which a template writes as SVG. No styles: the colours are classes of the style sheet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

WIDTH, HEIGHT = 600, 160
"""Of the part with bars, in units of the picture."""


class Series(NamedTuple):
    name: str
    css: str
    """Its colour in the style sheet."""
    values: Sequence[int]


class Rect(NamedTuple):
    x: float
    y: float
    width: float
    height: float
    css: str


class Column(NamedTuple):
    """One stacked bar."""

    label: str
    short: str
    """For the axis."""
    total: int
    x: float
    width: float
    middle: float
    top: float
    rects: list[Rect]
    parts: list[tuple[str, int]]
    """Name and value of each series."""


class Bars(NamedTuple):
    """Values by label, in one or several series of the same length."""

    labels: Sequence[str]
    series: Sequence[Series]
    short_labels: Sequence[str] = ()
    """For the axis, instead of `labels`."""

    @property
    def totals(self) -> list[int]:
        return [sum(values) for values in zip(*(each.values for each in self.series), strict=True)]

    @property
    def total(self) -> int:
        return sum(self.totals)

    @property
    def top(self) -> int:
        """The end of the scale: a round number, at least the largest total."""
        return _round_up(max(self.totals, default=0))

    def columns(self, gap: float = 0.25) -> Iterator[Column]:
        """Upright bars, from left to right. `gap`: the share of the width between two bars."""
        step, top = WIDTH / max(1, len(self.labels)), self.top
        for number, (label, total) in enumerate(zip(self.labels, self.totals, strict=True)):
            x, width = number * step + step * gap / 2, step * (1 - gap)
            y, rects = float(HEIGHT), []
            for each in self.series:
                height = HEIGHT * each.values[number] / top
                if height:
                    y -= height
                    rects.append(Rect(x, y, width, height, each.css))
            parts = [(each.name, each.values[number]) for each in self.series]
            short = self.short_labels[number] if self.short_labels else label
            yield Column(label, short, total, number * step, step, x + width / 2, y, rects, parts)

    def shares(self) -> Iterator[tuple[str, int, float]]:
        """Label, total, and the length of a lying bar between 0 and 100."""
        longest = max(self.totals, default=0) or 1
        for label, total in zip(self.labels, self.totals, strict=True):
            yield label, total, 100 * total / longest


def compact(value: int) -> str:
    """A number of an axis in few characters: 2k, 1.5M."""
    for unit, size in (("M", 1_000_000), ("k", 1000)):
        if value >= size:
            return f"{value / size:g}{unit}"
    return str(value)


def _round_up(value: int) -> int:
    """A round number of which the half is a whole one, so that a scale can be written on."""
    power = 1
    while True:
        for factor in (1, 1.2, 1.5, 2, 3, 4, 6, 8):
            end = round(factor * power)
            if end >= max(value, 4) and end % 2 == 0:
                return end
        power *= 10
