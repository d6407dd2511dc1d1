"""The instruments of the catalogue, behind methods named after what happened.

There are two sources of values. *Events* (a result, a commit, a call) are reported through the methods below, once each, and
never during a restore. The *current state* (pending tasks, lag, partitions) is read at each scrape from a `Snapshot` and
from `Health`.

Each instance has its own registry, so tests and simulations can have many in one process. Methods take label values only as
enums, so that no text from outside can become a series. Counting a result takes about 0.4 µs. A scrape takes about 3 ms
with 10,000 pending tasks, most of it for sorting them.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import product

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeHistogramMetricFamily, GaugeMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector

from daemon.core.answers import NoAnswerReason
from daemon.core.model import RejectReason, Status
from daemon.core.placement import Misplacement
from daemon.core.step import TaskOutcome, Trigger
from daemon.core.task_durations import SizeClass
from daemon.telemetry import catalogue as c
from daemon.telemetry.health import Health
from daemon.telemetry.histogram import CountingHistogram
from daemon.telemetry.labels import (
    ANSWERS,
    LATENCY_STATUSES,
    CertificateUsage,
    ChangeType,
    DropReason,
    LogLevel,
    Rebalance,
    Resend,
    TaskSource,
)
from daemon.telemetry.metric import Metric, Reading, Values
from daemon.telemetry.snapshot import Snapshot, SnapshotProvider, nothing_yet

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Content type of `Metrics.exposition`. OpenMetrics is never used, even if the scraper accepts it: it has a separate type
for gauge histograms, which Prometheus parses differently."""

# A process-wide switch of the library: `_created` series would add one series for every counter and histogram, and
# nothing reads them.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """All methods except `log_message` are called from the event loop's thread."""

    def __init__(self, health: Health, *, version: str, input_topic: str, task_timeout_s: float) -> None:
        self._provide: SnapshotProvider = nothing_yet
        self.registry = CollectorRegistry()
        self._log_messages = self._counters(c.LOG_MESSAGES)
        self._certificates = self._gauges(c.CERTIFICATE_NOT_AFTER)
        self._policies_read = Gauge(c.POLICIES_READ.name, c.POLICIES_READ.help, registry=self.registry)
        self.policies_read(successful=True)  # a process with mistakes in its configuration does not start
        self._consumed = self._counters(c.CHANGES_CONSUMED)
        self._rejected = self._counters(c.CHANGES_REJECTED)
        self._superseded = self._counter(c.CHANGES_SUPERSEDED)
        self._misplaced = self._counters(c.RECORDS_MISPLACED)
        self._sealed = self._counters(c.BATCHES_SEALED)
        self._batch_items = self._histogram(c.BATCH_ITEMS)
        self._batch_bytes = self._histogram(c.BATCH_BYTES)
        self._tasks_created = self._counters(c.TASKS_CREATED)
        self._task_ids_shared = self._counter(c.TASK_IDS_SHARED)
        self._tasks_finished = self._counters(c.TASKS_FINISHED)
        self._task_duration = self._histograms(c.TASK_DURATION)
        self._task_polls = self._histograms(c.TASK_POLLS)
        self._detection_lag = self._histograms(c.DETECTION_LAG)
        self._schedule_delay = self._histogram(c.SCHEDULE_DELAY)
        self._results = self._counters(c.RESULTS)
        self._result_latency = CountingHistogram(c.RESULT_LATENCY, _values(c.RESULT_LATENCY))
        self.registry.register(self._result_latency)
        self._http_requests = self._http_counters()
        self._http_duration = self._histograms(c.HTTP_DURATION)
        self._http_retries = self._counters(c.HTTP_RETRIES)
        self._commits = self._counter(c.COMMITS)
        self._commit_duration = self._histogram(c.COMMIT_DURATION)
        self._shard_drops = self._counters(c.SHARD_DROPS)
        self._restore_records = self._counter(c.RESTORE_RECORDS)
        self._restore_duration = Gauge(
            c.RESTORE_DURATION.name, c.RESTORE_DURATION.help, registry=self.registry
        )
        self._rebalances = self._counters(c.REBALANCES)
        self.registry.register(
            _AtScrape(self, health, version=version, topic=input_topic, task_timeout_s=task_timeout_s)
        )

    # --- changes ----------------------------------------------------------------------------------

    def changes_consumed(self, type_: ChangeType, n: int = 1) -> None:
        self._consumed[type_].inc(n)

    def misplaced(self, reason: Misplacement, n: int) -> None:
        self._misplaced[reason].inc(n)

    def changes_rejected(self, reason: RejectReason, n: int = 1) -> None:
        self._rejected[reason].inc(n)

    def superseded(self, n: int = 1) -> None:
        self._superseded.inc(n)

    def results(self, status: Status, latency_s: float, n: int = 1) -> None:
        """`n` changes have their results. `latency_s` counts from their consumption (wall clock, may jump)."""
        self._results[status].inc(n)
        if status in LATENCY_STATUSES:
            self._result_latency.observe(status, max(latency_s, 0.0), n)

    # --- batches and tasks ------------------------------------------------------------------------

    def batch_sealed(self, trigger: Trigger, items: int, size_bytes: int) -> None:
        self._sealed[trigger].inc()
        self._batch_items.observe(items)
        self._batch_bytes.observe(size_bytes)

    def task_created(self, source: TaskSource, n: int = 1) -> None:
        self._tasks_created[source].inc(n)

    def task_id_shared(self) -> None:
        """The API accepted a submission with the task id of another open one."""
        self._task_ids_shared.inc()

    def task_finished(self, outcome: TaskOutcome, polls: int, size: SizeClass) -> None:
        self._tasks_finished[outcome].inc()
        self._task_polls[size].observe(polls)

    def task_lasted(self, outcome: TaskOutcome, seconds: float) -> None:
        """`outcome` is one of `DURATION_OUTCOMES`. `seconds` is measured with the API's timestamps."""
        self._task_duration[outcome].observe(max(seconds, 0.0))

    def end_detected(self, lag_s: float, size: SizeClass) -> None:
        """A poll has seen the end of a task, this long after it."""
        self._detection_lag[size].observe(max(lag_s, 0.0))

    def poll_started(self, delay_s: float) -> None:
        """`delay_s` counts from the time at which the poll was due."""
        self._schedule_delay.observe(max(delay_s, 0.0))

    # --- the API ----------------------------------------------------------------------------------

    def http(self, endpoint: str, status: str, seconds: float) -> None:
        """A call to the API ended. `endpoint` is one of `Endpoint`, `status` one of `ANSWERS`. A status class that does not
        exist in HTTP counts as a protocol error."""
        known = status if status in ANSWERS else NoAnswerReason.PROTOCOL_ERROR
        self._http_requests[endpoint, known].inc()
        self._http_duration[endpoint].observe(seconds)

    def http_retry(self, reason: Resend) -> None:
        """The same bytes are POSTed again."""
        self._http_retries[reason].inc()

    # --- the log ----------------------------------------------------------------------------------

    def commit(self, seconds: float) -> None:
        """A transaction was committed, and its success is confirmed."""
        self._commits.inc()
        self._commit_duration.observe(seconds)

    def shard_dropped(self, reason: DropReason) -> None:
        self._shard_drops[reason].inc()

    def restore_progress(self, records: int) -> None:
        self._restore_records.inc(records)

    def restore_finished(self, seconds: float) -> None:
        self._restore_duration.set(seconds)

    def rebalance(self, event: Rebalance) -> None:
        self._rebalances[event].inc()

    # --- the process ------------------------------------------------------------------------------

    def log_message(self, level: LogLevel) -> None:
        """Called from any thread."""
        self._log_messages[level].inc()

    def policies_read(self, *, successful: bool) -> None:
        """The tables of integrations were read."""
        self._policies_read.set(successful)

    def certificate(self, usage: CertificateUsage, not_after_s: float) -> None:
        """The certificate for this usage expires at this time (seconds since the epoch)."""
        self._certificates[usage].set(not_after_s)

    def observe(self, provider: SnapshotProvider) -> None:
        """From now on, gauges are read from what `provider` returns. It is called in the event loop at each scrape and must
        not block."""
        self._provide = provider

    def snapshot(self) -> Snapshot:
        return self._provide()

    def exposition(self) -> bytes:
        """All series in the text format 0.0.4. See `CONTENT_TYPE`."""
        return generate_latest(self.registry)

    # --- making instruments -----------------------------------------------------------------------

    def _counter(self, metric: Metric) -> Counter:
        return Counter(metric.name, metric.help, registry=self.registry)

    def _counters(self, metric: Metric) -> dict[str, Counter]:
        """One child for each value of the only label. All are created at once, so that each exists as 0."""
        parent = Counter(metric.name, metric.help, metric.label_names, registry=self.registry)
        return {value: parent.labels(value) for value in _values(metric)}

    def _gauges(self, metric: Metric) -> dict[str, Gauge]:
        parent = Gauge(metric.name, metric.help, metric.label_names, registry=self.registry)
        return {value: parent.labels(value) for value in _values(metric)}

    def _http_counters(self) -> dict[tuple[str, str], Counter]:
        metric = c.HTTP_REQUESTS
        parent = Counter(metric.name, metric.help, metric.label_names, registry=self.registry)
        endpoints, statuses = (label.values or () for label in metric.labels)
        return {pair: parent.labels(*pair) for pair in product(endpoints, statuses)}

    def _histogram(self, metric: Metric) -> Histogram:
        return Histogram(metric.name, metric.help, buckets=metric.buckets, registry=self.registry)

    def _histograms(self, metric: Metric) -> dict[str, Histogram]:
        parent = Histogram(
            metric.name, metric.help, metric.label_names, buckets=metric.buckets, registry=self.registry
        )
        return {value: parent.labels(value) for value in _values(metric)}


def _values(metric: Metric) -> tuple[str, ...]:
    (label,) = metric.labels
    assert label.values is not None, f"{metric.name}: the values of {label.name} are not known in advance"
    return label.values


class _AtScrape(Collector):
    """Reads the gauges of the catalogue that have a reader."""

    def __init__(
        self, metrics: Metrics, health: Health, *, version: str, topic: str, task_timeout_s: float
    ) -> None:
        self._metrics = metrics
        self._health = health
        self._version = version
        self._topic = topic
        self._task_timeout_s = task_timeout_s

    def collect(self) -> Iterator[Family]:
        snapshot = self._metrics.snapshot()
        reading = Reading(snapshot, self._health, self._version, self._topic, self._task_timeout_s)
        for metric in c.CATALOGUE:
            if metric.read is not None:
                yield _gauge(metric, metric.read(reading))
        yield pending_ages(reading.created_ms, snapshot.now_ms)


def pending_ages(created_ms: list[int], now_ms: int) -> GaugeHistogramMetricFamily:
    """The ages at `now_ms` of tasks with these creation times (ascending).

    A creation after `now_ms` (the API's clock is ahead of ours) counts as age 0. There is one bisection per bound: an age is
    at most b if and only if the creation is not before now - b.
    """
    n = len(created_ms)
    buckets = [
        (str(float(bound)), float(n - bisect_left(created_ms, now_ms - bound * 1000)))
        for bound in c.PENDING_AGE.buckets
    ]
    past = bisect_right(created_ms, now_ms)
    total_ms = past * now_ms - sum(created_ms[:past])
    return GaugeHistogramMetricFamily(
        c.PENDING_AGE.name,
        c.PENDING_AGE.help,
        buckets=[*buckets, ("+Inf", float(n))],
        gsum_value=total_ms / 1000,
    )


def _gauge(metric: Metric, values: Values) -> GaugeMetricFamily:
    family = GaugeMetricFamily(metric.name, metric.help, labels=metric.label_names)
    for labels, value in values.items():
        family.add_metric(labels, value)
    return family
