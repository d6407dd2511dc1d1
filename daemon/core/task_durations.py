"""Learns how long tasks take: a small sketch of the durations for each tool and size class of the batch.

A sketch is a histogram whose bins grow by 9 %, from a tenth of a second to two days. Each task counts a little more
than the one before it, so that the last `MEMORY` tasks have most of the weight, and a tool that becomes slower or
faster is followed. Nothing here is durable: after a restart the durations are learned again.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Sequence
from enum import StrEnum
from itertools import accumulate
from typing import NamedTuple

SHORTEST = 0.1
"""Seconds: the first bin. `poll.first_after` is not shorter, so nothing shorter can be polled for."""
BINS_PER_OCTAVE = 8
BINS = 21 * BINS_PER_OCTAVE
"""The last bin ends after 58 hours. Whatever takes longer is counted there."""
MEMORY = 100.0
"""Tasks. Of this many tasks ago, a task has 1/e of the weight of the last one."""
UNSEEN = 1.0
"""Tasks: the weight of durations that were not seen. With it, no age is certain to be without an end, and a task that
is older than all that were seen is polled at intervals that grow with its age.
"""
WEIGHT_MAX = 1e100
SKETCHES_MAX = 256
"""Each takes about 1.5 KB. Of more tools, those are kept whose tasks ended last."""


class SizeClass(StrEnum):
    """Of a batch, by its number of changes; also a metric label. Tasks of one class take about equally long."""

    SINGLE = "1"
    SMALL = "2-20"
    LARGE = "21+"


SMALL_MAX = 20
"""Changes in a batch of the class `SMALL`."""


def size_class(items: int) -> SizeClass:
    if items > SMALL_MAX:
        return SizeClass.LARGE
    return SizeClass.SINGLE if items == 1 else SizeClass.SMALL


class Likeness(NamedTuple):
    """Tasks that are expected to take equally long."""

    tool: str
    """What stands before the colon in the id of the integration; the whole id if it has none."""
    size: SizeClass


def likeness(integration_id: str, items: int) -> Likeness:
    return Likeness(integration_id.partition(":")[0], size_class(items))


class Sketch:
    """The durations of tasks that are alike."""

    __slots__ = ("_bins", "_total", "_weight", "tasks")

    def __init__(self) -> None:
        self._bins = array("d", bytes(8 * BINS))
        self._total = 0.0
        self._weight = 1.0
        """Of the last task."""
        self.tasks = 0
        """All that were ever added."""

    def add(self, seconds: float) -> None:
        """A task has taken this long."""
        self.tasks += 1
        self._weight *= 1 + 1 / MEMORY
        if self._weight > WEIGHT_MAX:
            self._bins = array("d", [each / self._weight for each in self._bins])
            self._total /= self._weight
            self._weight = 1.0
        self._total += self._weight
        place = int(math.log2(max(seconds, SHORTEST) / SHORTEST) * BINS_PER_OCTAVE)
        # A part goes into the neighbours: of a few tasks, none has exactly the duration of the next one.
        for bin_, share in ((place - 1, 0.25), (place, 0.5), (place + 1, 0.25)):
            self._bins[min(max(bin_, 0), BINS - 1)] += self._weight * share

    @property
    def median(self) -> float:
        """Seconds, to within two bins. There must be a task."""
        place = bisect_left(list(accumulate(self._bins)), self._total / 2)
        return SHORTEST * 2 ** ((place + 0.5) / BINS_PER_OCTAVE)

    def ended(self, ages: Sequence[float]) -> list[float]:
        """Of tasks of these ages (seconds, ascending), the share that has ended. There must be a task."""
        seen = self._total / (self._total + UNSEEN * self._weight)
        median, bins = self.median, self._bins
        found, place, below = [], 0, 0.0
        low, high = 0.0, _EDGES[0]
        for age in ages:
            while age > high and place < BINS - 1:
                below += bins[place]
                place += 1
                low, high = high, _EDGES[place]
            part = min(1.0, (age - low) / (high - low))
            known = min(1.0, (below + part * bins[place]) / self._total)
            found.append(seen * known + (1 - seen) * age / (age + median))
        return found


_EDGES = [SHORTEST * 2 ** ((place + 1) / BINS_PER_OCTAVE) for place in range(BINS)]
"""The upper ends of the bins, in seconds."""


class TaskDurations:
    """The sketches of a process."""

    def __init__(self) -> None:
        self._sketches: OrderedDict[Likeness, Sketch] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sketches)

    def add(self, alike: Likeness, seconds: float) -> Sketch:
        """A task has taken this long. Returns its sketch."""
        sketch = self._sketches.get(alike)
        if sketch is None:
            sketch = self._sketches[alike] = Sketch()
            if len(self._sketches) > SKETCHES_MAX:
                self._sketches.popitem(last=False)
        self._sketches.move_to_end(alike)
        sketch.add(seconds)
        return sketch

    def get(self, alike: Likeness) -> Sketch | None:
        return self._sketches.get(alike)
