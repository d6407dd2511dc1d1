"""How the catalogue describes a metric."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from daemon.telemetry.health import Health
from daemon.telemetry.labels import Label
from daemon.telemetry.snapshot import Snapshot

PREFIX = "coursesync_"


class Kind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    GAUGE_HISTOGRAM = "gauge histogram"
    """A distribution of current values. Its buckets also go down: query them without ``rate()``."""


@dataclass(frozen=True)
class Reading:
    """What gauges are read from at a scrape."""

    snapshot: Snapshot
    health: Health
    version: str
    topic: str
    """The input topic."""
    task_timeout_s: float

    @cached_property
    def created_ms(self) -> list[int]:
        """When each pending task was created, ascending."""
        return sorted(self.snapshot.pending_created_ms)

    @property
    def integrations(self) -> dict[str, int]:
        return self.snapshot.integrations_by_state(halted=self.health.halt_reason is not None)


Values = Mapping[tuple[str, ...], float]
"""By the values of the labels."""


@dataclass(frozen=True, slots=True)
class Metric:
    kind: Kind
    short_name: str
    """Without the prefix."""
    help: str
    labels: tuple[Label, ...] = ()
    buckets: tuple[float, ...] = ()
    """Upper bounds, ascending, without +Inf. Only for the two histogram kinds. A quantile is known to within its bucket, so
    neighbouring bounds of durations differ by a factor of little more than 3 at most."""
    read: Callable[[Reading], Values] | None = None
    """How a gauge is read at a scrape; None where it is set when something happens."""

    @property
    def name(self) -> str:
        return PREFIX + self.short_name

    @property
    def label_names(self) -> tuple[str, ...]:
        return tuple(label.name for label in self.labels)


class Section:
    """A part of the catalogue, which makes its metrics and has them in the order in which they are described."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.metrics: list[Metric] = []

    def counter(self, name: str, help_: str, *labels: Label) -> Metric:
        return self._made(Metric(Kind.COUNTER, name, help_, labels))

    def gauge(
        self, name: str, help_: str, *labels: Label, read: Callable[[Reading], Values] | None = None
    ) -> Metric:
        return self._made(Metric(Kind.GAUGE, name, help_, labels, read=read))

    def histogram(self, name: str, help_: str, buckets: tuple[float, ...], *labels: Label) -> Metric:
        return self._made(Metric(Kind.HISTOGRAM, name, help_, labels, buckets))

    def gauge_histogram(self, name: str, help_: str, buckets: tuple[float, ...]) -> Metric:
        return self._made(Metric(Kind.GAUGE_HISTOGRAM, name, help_, buckets=buckets))

    def _made(self, metric: Metric) -> Metric:
        self.metrics.append(metric)
        return metric


def one(value: float) -> Values:
    """Of a gauge without labels."""
    return {(): value}


def seconds(at_ms: int | None) -> float:
    """A timestamp for a metric: 0 stands for none."""
    return 0.0 if at_ms is None else at_ms / 1000
