"""One measurement of the running daemon: its own metrics, and the figures of Linux for its process."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.sandbox import local_http
from tests.sandbox.process import SandboxError
from tests.sandbox.replica import Replica


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    at: float
    """Seconds since the overload began."""
    rss_mb: float
    """Resident memory of the process, in MiB."""
    peak_mb: float
    """Maximum of the resident memory so far, in MiB."""
    threads: int
    descriptors: int
    waiting: int
    """Changes held back, in all partitions."""
    paused: int
    """Partitions whose input is paused at a limit."""
    partitions: int
    lag: int
    """Records of the input that are not consumed, in all partitions."""
    pending_tasks: int
    """Batches that the API has accepted."""
    resolved: int
    """Results since the start of the daemon."""


def look_at(replica: Replica, at: float) -> Look:
    """Raises SandboxError if the daemon is not running, or if this is not Linux."""
    try:
        page = local_http.get(f"{replica.admin_url}/metrics").decode()
        process = Path(f"/proc/{replica.process.pid}")
        status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
        descriptors = sum(1 for _ in (process / "fd").iterdir())
    except OSError as error:
        raise SandboxError(f"{replica.name} cannot be measured (only Linux has /proc): {error}") from error
    totals = _totals(page)
    return Look(
        at=at,
        rss_mb=_mebibytes(status["VmRSS"]),
        peak_mb=_mebibytes(status["VmHWM"]),
        threads=int(status["Threads"]),
        descriptors=descriptors,
        waiting=totals["coursesync_changes_waiting"],
        paused=totals["coursesync_partitions_paused"],
        partitions=totals["coursesync_kafka_assigned_partitions"],
        lag=totals["coursesync_kafka_consumer_lag_records"],
        pending_tasks=totals["coursesync_pending_tasks"],
        resolved=totals["coursesync_results_total"],
    )


def _totals(page: str) -> Counter[str]:
    """The sum of each metric over all its labels. 0 if there is no series yet. Not meaningful for histograms."""
    totals: Counter[str] = Counter()
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            totals[sample.name] += int(sample.value)
    return totals


def _mebibytes(entry: str) -> float:
    """MiB of an entry such as ``  93456 kB``."""
    return int(entry.split(maxsplit=1)[0]) / 1024
