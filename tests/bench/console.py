"""The console in front of many changes: what does it hold, and how long does a page take?

`python -m tests.bench.console` writes the journals of 1,000 integrations with 1,000,000 waiting changes to a real Kafka, a quarter of
them with a failed attempt, and 200,000 results. It starts `coursesyncd console`, waits until that has read everything, asks for
each page several times, and asks once more while 2,000 records a second come in. It prints a table to stderr and a line of JSON to
stdout, and ends with exit code 1 if a page took a second or more, or if the process held 600 MB or more.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import click
import httpx
from kafka import KafkaProducer
from rich.console import Console
from rich.table import Table

from daemon.core import journal
from daemon.core.journal import Attempt, Position, SealedBatch, Task, Wait
from daemon.core.model import Error, Status
from daemon.log.port import Topics
from tests.bench.setting import DIRECTORY, kafka
from tests.integration.console_site import ConsoleSite, now_ms
from tests.unit.console_world import BODY, item, result

PARTITIONS = 12
SECONDS_MAX = 1.0
BYTES_MAX = 600_000_000
TIMES = 5
WEEK_MS = 7 * 24 * 3_600_000
DOWN = [
    Error("REMOTE.SERVICE_UNAVAILABLE", f"The tool answered with status {status}.")
    for status in range(500, 520)
]


def name_of(number: int) -> str:
    return f"workday:{number:024d}"


def course_of(number: int) -> str:
    return f"course-{number * 2_654_435_761 % 2**32:08x}-{number:012d}"


def waiting(changes: int, integrations: int, now: int) -> Iterator[tuple[int, bytes, journal.Value]]:
    """Partition, key and value of each."""
    random_ages = random.Random(1)
    for number in range(changes):
        integration, course = name_of(number % integrations), course_of(number)
        last = (
            Attempt(f"{number}-1", DOWN[number % len(DOWN)], f"task-{number:024d}", now, now)
            if number % 4 == 0
            else None
        )
        not_before = None if last is None else now + 600_000
        wait = Wait(item(number, course, now - random_ages.randrange(WEEK_MS)), BODY, not_before, last)
        yield number % integrations % PARTITIONS, journal.wait_key(integration, course), wait


class Bench:
    def __init__(self, site: ConsoleSite, bootstrap: str) -> None:
        self.site = site
        self._producer = KafkaProducer(
            bootstrap_servers=bootstrap,
            compression_type="lz4",
            linger_ms=20,
            batch_size=512 * 1024,
            max_in_flight_requests_per_connection=5,
        )

        self._http = httpx.Client(follow_redirects=True, timeout=60, trust_env=False)

    def fill(self, changes: int, integrations: int, results: int) -> None:
        now, topics = now_ms(), self.site.topics
        for partition, key, value in waiting(changes, integrations, now):
            self._producer.send(topics.journal, journal.encode_value(value), key, partition=partition)
        for number in range(integrations):
            batch = SealedBatch(
                name_of(number), now, 0, tuple(item(n, f"in-task-{n}", now) for n in range(20)), BODY
            )
            for key, value in (
                (journal.batch_key(f"b-{number}"), batch),
                (journal.task_key(f"b-{number}"), Task(f"t-{number}", now)),
            ):
                self._producer.send(
                    topics.journal, journal.encode_value(value), key, partition=number % PARTITIONS
                )
        for partition in range(PARTITIONS):
            position = Position(journal.FORMAT, 0, self.site.input_id, PARTITIONS, 0)
            self._producer.send(
                topics.journal, journal.encode_value(position), journal.POSITION_KEY, partition=partition
            )
        for number in range(results):
            status = Status.FAILED if number % 50 == 0 else Status.SUCCEEDED
            error = DOWN[0] if status is Status.FAILED else None
            one = result(
                number,
                name_of(number % integrations),
                course_of(number),
                status,
                now - number % 3_600_000,
                error=error,
            )
            self._producer.send(
                topics.results, *reversed(self.site.encoded_result(0, one)), partition=number % PARTITIONS
            )
        self._producer.flush()

    def churn(self, ended: threading.Event, per_second: int) -> None:
        """Waiting changes that come and go, until `ended`."""
        now, number = now_ms(), 0
        while not ended.wait(0.1):
            for _ in range(per_second // 20):
                key = journal.wait_key(name_of(number % 1000), f"new-{number}")
                wait = Wait(item(number, f"new-{number}", now), BODY)
                for value in (journal.encode_value(wait), None):
                    self._producer.send(self.site.topics.journal, value, key, partition=number % PARTITIONS)
                number += 1

    def seconds(self, address: str) -> list[float]:
        found = []
        for _ in range(TIMES):
            started = time.perf_counter()
            answer = self._http.get(self.site.url + address)
            found.append(time.perf_counter() - started)
            answer.raise_for_status()
        return found


def pages(integrations: int, changes: int) -> dict[str, str]:
    one = name_of(integrations // 2)
    return {
        "overview": "/",
        "integrations, by state": "/integrations",
        "integrations, by age": "/integrations?sort=oldest&page=5",
        "integrations, filtered": "/integrations?q=0000500",
        "one integration": f"/integration?id={one}",
        "partitions": "/partitions",
        "find a course": f"/search?q={course_of(changes - 1)}",
        "find a task": f"/search?q=task-{changes // 8 * 4:024d}",
        "find nothing": "/search?q=chg-none",
        "a course": f"/course?integration={name_of(1)}&id={course_of(1)}",
    }


def held(pid: int, what: str) -> int:
    """`VmRSS` or `VmHWM` of the process, bytes."""
    (line,) = (each for each in Path(f"/proc/{pid}/status").read_text().splitlines() if each.startswith(what))
    return int(line.split()[1]) * 1024


@click.command()
@click.option(
    "--changes", type=click.IntRange(1000), default=1_000_000, show_default=True, help="Waiting changes."
)
@click.option("--integrations", type=click.IntRange(1), default=1000, show_default=True)
@click.option("--results", type=click.IntRange(0), default=200_000, show_default=True)
def main(*, changes: int, integrations: int, results: int) -> None:
    """Measure the console."""
    console = Console(stderr=True)
    folder = DIRECTORY / "console"
    folder.mkdir(parents=True, exist_ok=True)
    names = Topics(
        *(
            f"console-bench-{now_ms()}-{name}"
            for name in ("changes", "journal", "results", "dead", "courses", "control")
        )
    )
    with (
        kafka(console) as (bootstrap, _),
        ConsoleSite(bootstrap, names, folder, partitions=PARTITIONS) as site,
    ):
        bench = Bench(site, bootstrap)
        console.print(f"Writing {changes:,} waiting changes of {integrations:,} integrations …")
        bench.fill(changes, integrations, results)
        started = time.perf_counter()
        site.start(within=900)
        loaded = time.perf_counter() - started
        quiet = {name: bench.seconds(address) for name, address in pages(integrations, changes).items()}
        ended = threading.Event()
        thread = threading.Thread(target=bench.churn, args=(ended, 2000))
        thread.start()
        busy = {name: bench.seconds(address) for name, address in pages(integrations, changes).items()}
        ended.set()
        thread.join()
        rss, peak = held(site.pid, "VmRSS"), held(site.pid, "VmHWM")
    table = Table("page", "quiet, worst s", "2,000 records a second, worst s")
    for name, seconds in quiet.items():
        table.add_row(name, f"{max(seconds):.3f}", f"{max(busy[name]):.3f}")
    console.print(table)
    console.print(f"Loaded in {loaded:.0f} s. Held: {rss / 1e6:.0f} MB, at most {peak / 1e6:.0f} MB.")
    figures = {
        "changes": changes,
        "integrations": integrations,
        "loaded_s": round(loaded, 1),
        "rss_bytes": rss,
        "peak_bytes": peak,
        "quiet_worst_s": {name: round(max(each), 3) for name, each in quiet.items()},
        "busy_worst_s": {name: round(max(each), 3) for name, each in busy.items()},
    }
    print(json.dumps(figures))
    if peak >= BYTES_MAX or max(max(each) for each in (*quiet.values(), *busy.values())) >= SECONDS_MAX:
        sys.exit(1)


if __name__ == "__main__":
    main()
