"""How long single edits take while a customer's whole catalogue is loaded: without a load, with one, and with one that is bulk.

`python -m tests.bench.bulk` measures all three in one run, on a real Kafka and with the simulator. A table goes to stderr, one
line of JSON to stdout. The edits come at a steady pace from the moment at which the load is published. Each is of another
course; every second course is in the load, where the edit supersedes what waits. An edit's time is that from the
timestamp of its record until a `read_committed` reader has its result.
"""

from __future__ import annotations

import json
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import click
import msgspec
from kafka import KafkaConsumer, KafkaProducer
from rich.console import Console
from rich.table import Table

from daemon.log.errors import LogError
from tests.bench.setting import DIRECTORY, Setting, kafka
from tests.sandbox.generator import GeneratedRecord, publish_records
from tests.sandbox.process import SandboxError
from tests.sandbox.stack import Addresses, Stack

INTEGRATION = "workday:HWUTwvyx2wLoSUHphiWVrp28"
SETTINGS = {"batch.linger": "1s"}
"""The production default; the other times are the sandbox's: the first poll after 300 ms, at most 2 s between two."""
TASK_SECONDS = 2.0
PAUSE = 0.5
"""Seconds between two edits."""
PATIENCE = 60.0
"""Seconds without a result after which the run has failed."""
PATHS = ("no load", "load", "bulk load")


@dataclass(frozen=True, slots=True)
class Measured:
    edit_ms: Sequence[float]
    load_seconds: float | None
    """From the first record of the load to its last result."""


@click.command
@click.option("--courses", type=click.IntRange(min=0), default=20_000, show_default=True, help="In the load.")
@click.option("--edits", type=click.IntRange(min=2), default=80, show_default=True)
def bulk(*, courses: int, edits: int) -> None:
    """How long single edits take during a load, with and without "priority": "bulk"."""
    console = Console(stderr=True, highlight=False)
    runs = {}
    try:
        with kafka(console) as (bootstrap, broker_pid):
            setting = Setting(DIRECTORY, bootstrap, broker_pid)
            for path in PATHS:
                size = 0 if path == "no load" else courses
                console.print(f"{path}: {edits} edits beside {size:,} courses …")
                runs[path] = _measure(setting, size, edits, bulk=path == "bulk load")
    except (SandboxError, LogError) as error:
        raise click.ClickException(str(error)) from error
    table = Table(
        "", "edits: p50", "p90", "slowest", "the load takes", title=f"{courses:,} courses, {edits} edits"
    )
    report: dict[str, Any] = {"courses": courses, "edits": edits}
    for path, run in runs.items():
        figures = _figures(run)
        report[path.replace(" ", "_")] = figures
        seconds = [f"{figures[name] / 1000:.1f} s" for name in ("p50_ms", "p90_ms", "max_ms")]
        table.add_row(path, *seconds, "" if run.load_seconds is None else f"{run.load_seconds:.0f} s")
    console.print(table)
    click.echo(json.dumps(report))


def _figures(run: Measured) -> dict[str, float]:
    cuts = statistics.quantiles(run.edit_ms, n=10, method="inclusive")
    figures: dict[str, float] = {
        "p50_ms": round(statistics.median(run.edit_ms)),
        "p90_ms": round(cuts[8]),
        "max_ms": round(max(run.edit_ms)),
    }
    return figures if run.load_seconds is None else {**figures, "load_seconds": round(run.load_seconds, 1)}


def _measure(setting: Setting, courses: int, edits: int, *, bulk: bool) -> Measured:
    with setting.stack("bulk", task_seconds=TASK_SECONDS, settings=SETTINGS) as stack:
        stack.start_daemon()
        stack.await_ready()
        reader = _Reader(stack.addresses)
        reader.start()
        try:
            began = time.time()
            at = stack.addresses
            publish_records(_load(courses, bulk=bulk), at.connection, at.topics.changes)
            published = _publish_edits(at, edits, courses)
            reader.await_all(stack, courses + edits)
        finally:
            reader.stop()
    times = [(reader.arrived[name] - at_ms / 1000) * 1000 for name, at_ms in published.items()]
    loaded = [at for name, at in reader.arrived.items() if name not in published]
    return Measured(times, max(loaded) - began if loaded else None)


def _load(courses: int, *, bulk: bool) -> Iterator[GeneratedRecord]:
    more = {"priority": "bulk"} if bulk else {}
    for number in range(courses):
        yield GeneratedRecord(INTEGRATION.encode(), _change(f"load-{number}", number, "first load", more))


def _publish_edits(at: Addresses, edits: int, courses: int) -> dict[str, int]:
    """Each edit's id, and its record's timestamp in ms since the epoch."""
    published = {}
    producer = KafkaProducer(bootstrap_servers=at.bootstrap.split(","), acks="all", linger_ms=0)
    try:
        for number in range(edits):
            name = f"edit-{number}"
            # From the end of the load, which waits longest, and beyond it.
            course = courses - 1 - number if number % 2 and courses > number else 1_000_000 + number
            value = _change(name, course, "edited", {})
            sent = producer.send(at.topics.changes, value, INTEGRATION.encode()).get(timeout=PATIENCE)
            published[name] = sent.timestamp
            time.sleep(PAUSE)
    finally:
        producer.close()
    return published


def _change(change_id: str, course: int, title: str, more: dict[str, str]) -> bytes:
    return msgspec.json.encode(
        {
            "id": change_id,
            "type": "course.upserted",
            "integration_id": INTEGRATION,
            "origin_id": f"course-{course}",
            "course": {
                "type": "EXTERNAL",
                "title": f"Course {course} ({title})",
                "course_url": f"https://learn.example.com/course-{course}",
                "description": "Learn the fundamentals in an afternoon, with exercises and a quiz at the end."
                * 5,
            },
            **more,
        }
    )


class _Data(msgspec.Struct):
    status: str
    change_id: str


class _Event(msgspec.Struct):
    """What is looked at of a result."""

    data: _Data


class _Reader(threading.Thread):
    """Reads the results as another program would, and notes when each arrives."""

    def __init__(self, at: Addresses) -> None:
        super().__init__(daemon=True)
        self.arrived: dict[str, float] = {}
        """By change id; seconds since the epoch."""
        self.statuses: dict[str, str] = {}
        self._stopping = threading.Event()
        self._at = at

    def run(self) -> None:
        decode = msgspec.json.Decoder(_Event).decode
        consumer = KafkaConsumer(
            self._at.topics.results,
            bootstrap_servers=self._at.bootstrap.split(","),
            isolation_level="read_committed",
            auto_offset_reset="earliest",
        )
        while not self._stopping.is_set():
            records = consumer.poll(timeout_ms=100)
            now = time.time()
            for record in (each for some in records.values() for each in some):
                data = decode(record.value).data
                self.arrived[data.change_id] = now
                self.statuses[data.change_id] = data.status
        consumer.close()

    def await_all(self, stack: Stack, count: int) -> None:
        """Wait for so many results.

        Raises:
            SandboxError: none came for `PATIENCE` seconds, or an edit did not succeed.
        """
        seen, news_at = -1, time.monotonic()
        while (arrived := len(self.arrived)) < count:
            if arrived != seen:
                seen, news_at = arrived, time.monotonic()
            if time.monotonic() - news_at > PATIENCE:
                raise SandboxError(f"of {count:,} changes only {arrived:,} have a result")
            stack.assert_running()
            time.sleep(0.1)
        for name, status in self.statuses.items():
            if status not in ("SUCCEEDED", "SUPERSEDED") or (
                name.startswith("edit") and status != "SUCCEEDED"
            ):
                raise SandboxError(f"the change {name} ended as {status}")

    def stop(self) -> None:
        self._stopping.set()
        self.join()


if __name__ == "__main__":
    bulk()
