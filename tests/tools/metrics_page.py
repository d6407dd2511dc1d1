"""``python -m tests.tools.metrics_page > docs/metrics.md``: the metrics, from the catalogue."""

from __future__ import annotations

import sys

from daemon.telemetry.catalogue import SECTIONS
from daemon.telemetry.labels import Label
from daemon.telemetry.metric import Kind, Metric

_HEADER = """\
<!-- Made from daemon/telemetry/catalogue.py by `python -m tests.tools.metrics_page`; do not edit here. -->
# Metrics

Served at `/metrics` in the Prometheus text format. Times are in seconds and sizes in bytes. A timestamp counts
from the Unix epoch, and 0 means "none". Every label value listed here is a series from the start, at 0. No
label ever holds the id of a task, course, integration or customer.

A **gauge histogram** is a distribution of current values. Prometheus sees it as a histogram with `_bucket`,
`_gsum` and `_gcount`. Its buckets also go down, so query them without `rate()`:
`histogram_quantile(0.99, sum by (le) (coursesync_pending_age_seconds_bucket))`.
"""


def page() -> str:
    """The page as Markdown."""
    sections = [
        f"## {section.title}\n\n| metric | type | labels | meaning |\n| --- | --- | --- | --- |\n"
        + "\n".join(_row(metric) for metric in section.metrics)
        + "\n"
        for section in SECTIONS
    ]
    return "\n".join([_HEADER, *sections])


def _row(metric: Metric) -> str:
    labels = "<br>".join(_label(label) for label in metric.labels)
    meaning = metric.help
    if metric.kind in (Kind.HISTOGRAM, Kind.GAUGE_HISTOGRAM):
        meaning += f" Buckets: {', '.join(f'{bound:g}' for bound in metric.buckets)}."
    return f"| `{metric.name}` | {metric.kind} | {labels} | {meaning} |"


def _label(label: Label) -> str:
    if label.values is None:
        return f"`{label.name}`: {label.bound}"
    return f"`{label.name}`: " + ", ".join(f"`{value}`" for value in label.values)


if __name__ == "__main__":
    sys.stdout.write(page())
