"""PromQL over the metrics of the daemon's catalogue, limited to what is chosen in the dashboard's variables."""

from __future__ import annotations

from dataclasses import dataclass

from daemon.telemetry import catalogue as c
from daemon.telemetry.metric import Metric

CHOSEN = 'job=~"$job", namespace=~"$namespace", release=~"$release", instance=~"$instance"'
RELEASE = "by (job, namespace, release)"
"""Two releases may have different settings, so what is compared with a setting is compared per release."""

NOW = "2m"
"""The range of rates that are about the present: four scrapes, however far the dashboard is zoomed out."""


@dataclass(frozen=True, slots=True)
class Query:
    expr: str
    legend: str


def of(metric: Metric, *matchers: str, suffix: str = "") -> str:
    """Its series of the chosen replicas."""
    return f"{metric.name}{suffix}{{{', '.join((CHOSEN, *matchers))}}}"


UP = f"up{{{CHOSEN}}}"


def total(expression: str, *by: str) -> str:
    return f"sum by ({', '.join(by)}) ({expression})" if by else f"sum({expression})"


def per_second(counter: Metric, *by: str) -> str:
    return total(f"rate({of(counter)}[$__rate_interval])", *by)


def per_interval(counter: Metric, *by: str) -> str:
    """How many in each interval of a graph, for what is rare."""
    return total(f"increase({of(counter)}[$__rate_interval])", *by)


def share(counter: Metric, of_them: str, among: str, window: str) -> str:
    """The share of those that one matcher selects among those that another one selects. Nothing when there are none."""
    some = total(f"increase({of(counter, of_them)}[{window}])")
    every = total(f"increase({of(counter, *(among,) * bool(among))}[{window}])")
    return f"{some} / ({every} > 0)"


def quantile(q: float, histogram: Metric, *by: str, matcher: str = "") -> str:
    series = of(histogram, *(matcher,) * bool(matcher), suffix="_bucket")
    return f"histogram_quantile({q:g}, {total(f'rate({series}[$__rate_interval])', 'le', *by)})"


def quantiles(histogram: Metric, matcher: str = "") -> list[Query]:
    return [
        Query(quantile(q, histogram, matcher=matcher), legend)
        for q, legend in ((0.5, "median"), (0.9, "90 %"), (0.99, "99 %"))
    ]


def mean(histogram: Metric, *by: str) -> str:
    sums, counts = (
        total(f"rate({of(histogram, suffix=suffix)}[$__rate_interval])", *by) for suffix in ("_sum", "_count")
    )
    return f"{sums} / {counts}"


def mean_and_most(histogram: Metric) -> list[Query]:
    """For distributions of sizes: their mean, and what 90 % do not exceed."""
    return [Query(mean(histogram), "mean"), Query(quantile(0.9, histogram), "90 %")]


def since(timestamp: Metric) -> str:
    """Seconds since this timestamp, as of the scrape; no series while it is 0."""
    return f"timestamp({of(timestamp)}) - ({of(timestamp)} > 0)"


def since_or_zero(timestamp: Metric) -> str:
    """Seconds since this timestamp, as of the scrape; 0 while it is 0."""
    return f"(timestamp({of(timestamp)}) - {of(timestamp)}) * ({of(timestamp)} > bool 0)"


# --- of the first screen --------------------------------------------------------------------------

_BEHIND = (
    f"timestamp({of(c.LAST_RECORD)}) - {of(c.LAST_RECORD)} and min_over_time({of(c.CONSUMER_LAG)}[{NOW}]) > 0"
)
"""A record that has just come makes the age of the last one no delay: only a lag that stays does."""

OPEN_AGES = f"{since_or_zero(c.WAITING_OLDEST)} or {since_or_zero(c.PENDING_OLDEST_CREATED)} or {_BEHIND}"
"""Ages of the oldest changes without a result, wherever they are: held back, in a task, or not read yet."""

_TIMEOUTS = f"max {RELEASE} ({of(c.TASK_TIMEOUT)})"
OPEN_SHARE = (
    f"max(max {RELEASE} ({since_or_zero(c.WAITING_OLDEST)} or {_BEHIND}) / {_TIMEOUTS} "
    f"or {of(c.PENDING_TIMEOUT_RATIO)})"
)
"""What is not in a task yet is compared with the common time-out."""
PENDING_SHARE = f"max({of(c.PENDING_TIMEOUT_RATIO)})"

_SUCCEEDED_RESULTS = of(c.RESULTS, 'status="SUCCEEDED"')
_SUCCEEDED = total(f"rate({_SUCCEEDED_RESULTS}[{NOW}])")
_WORK_WAITS = " or ".join(
    f"{total(of(metric))} > 0" for metric in (c.CHANGES_WAITING, c.PENDING_TASKS, c.CONSUMER_LAG)
)
IDLE = -1
SUCCEEDED_OR_IDLE = f"{_SUCCEEDED} > 0 or {_SUCCEEDED} and ({_WORK_WAITS}) or {_SUCCEEDED} + ({IDLE})"
"""Succeeded changes per second; 0 only while work waits, else `IDLE`."""

_RUNNING = of(c.LIFECYCLE_STATE, 'state="running"')
RUNNING = f"{total(_RUNNING)} or {total(UP)} * 0"
"""A replica that does not answer has no state, and is none that runs."""
NOT_RUNNING = f"count({UP}) - ({RUNNING})"
