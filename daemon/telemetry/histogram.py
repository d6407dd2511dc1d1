"""A histogram that takes many equal values at once. That of prometheus_client takes one at a time, with two locks."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client.core import HistogramMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from daemon.telemetry.metric import Metric


class _Series:
    """One value of the label."""

    def __init__(self, bounds: int) -> None:
        self.counts = [0] * (bounds + 1)
        """Of each bucket alone, the last one without a bound."""
        self.sum = 0.0


class CountingHistogram(Collector):
    """A histogram with one label. Used and read in one thread.

    Args:
        metric: its description.
        values: those of its label. All exist from the start, as 0.
    """

    def __init__(self, metric: Metric, values: tuple[str, ...]) -> None:
        self._metric = metric
        self._series = {value: _Series(len(metric.buckets)) for value in values}
        self._bounds = [*map(floatToGoString, metric.buckets), "+Inf"]

    def observe(self, label: str, value: float, n: int) -> None:
        """`n` observations of `value`."""
        series = self._series[label]
        series.counts[bisect_left(self._metric.buckets, value)] += n
        series.sum += n * value

    def collect(self) -> Iterator[Family]:
        metric = self._metric
        family = HistogramMetricFamily(metric.name, metric.help, labels=metric.label_names)
        for label, series in self._series.items():
            cumulative = map(float, accumulate(series.counts))
            family.add_metric([label], list(zip(self._bounds, cumulative, strict=True)), series.sum)
        yield family
