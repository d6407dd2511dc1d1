"""The demo without Kafka: the real core, runtime and API client, the simulator behind HTTP and the generator, in one process
on the embedded log.

A part of a process cannot be ended by kill -9. Instead, the daemon is abandoned in the middle: its tasks are cancelled
without a drain, its memory is discarded, and a new one starts from the journal.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import msgspec
from rich.console import Console

from daemon.commands.assembly import make_api, make_engine, make_instruments
from daemon.config import Policies, Settings, load_settings
from daemon.kombo.api_key import ApiKeyFile
from daemon.log.port import Message, Topics
from daemon.runtime.engine import Engine
from daemon.telemetry import logs
from daemon.telemetry.labels import LogLevel
from tests.embedded_log import EmbeddedCluster, EmbeddedLog
from tests.sandbox import profile
from tests.sandbox.checker import DeactivationCall, LogRecord, judge
from tests.sandbox.checker.command import print_verdict
from tests.sandbox.checker.rows import held_course_of, task_of
from tests.sandbox.generator import generate_records
from tests.sandbox.profile import Demo
from tests.sandbox.report import print_api, print_results, write_report
from tests.sandbox.simulator import readout
from tests.sandbox.simulator.faults import DEMO
from tests.sandbox.simulator.server import listening
from tests.sandbox.simulator.state import Simulator
from tests.sandbox.watching import Watching

API_KEY = "sandbox-key"
LOOK_EVERY = 0.2
"""Seconds."""


def run_demo_in_process(demo: Demo, directory: Path, console: Console) -> bool:
    """Run it, print the results and write `report.json` into `directory`. Returns whether the contract was kept."""
    directory.mkdir(parents=True, exist_ok=True)
    report = directory / "report.json"
    report.unlink(missing_ok=True)
    key_file = directory / "api-key"
    key_file.write_text(API_KEY + "\n")
    simulator = Simulator(
        rng=random.Random(demo.seed),
        now=_now_ms(),
        api_key=API_KEY,
        plan=DEMO,
        task_seconds=profile.TASK_SECONDS,
    )
    with (directory / "coursesyncd.log").open("w") as log:
        logs.configure(logs.Style.JSON, LogLevel.INFO, lambda _: None, log)
        run = asyncio.run(_watched(demo, simulator, key_file, console))
    return run.judge(report)


async def _watched(demo: Demo, simulator: Simulator, key_file: Path, console: Console) -> _Run:
    async with listening(simulator, "127.0.0.1", 0) as url:
        settings = load_settings(
            profile.environment(
                {},
                bootstrap="127.0.0.1:1",  # not used: the log is in this process
                topics=Topics(),
                group="course-sync-daemon",
                base_url=f"{url}/v1",
                api_key_file=key_file,
                admin_port=0,
            )
        )
        run = _Run(demo, settings, simulator, console)
        await run.watch()
        return run


class _Run:
    def __init__(self, demo: Demo, settings: Settings, simulator: Simulator, console: Console) -> None:
        self._demo = demo
        self._settings = settings
        self._simulator = simulator
        self._console = console
        self._topics = Topics()
        self._cluster = EmbeddedCluster(_now_ms)
        for topic in (self._topics.changes, self._topics.journal, self._topics.courses):
            self._cluster.create_topic(topic, profile.PARTITIONS)
        for topic in (self._topics.results, self._topics.dead_letters, self._topics.control):
            self._cluster.create_topic(topic, 1)
        self._engine: Engine | None = None
        self._daemon: asyncio.Task[None] | None = None
        self._published = 0
        self._results_read = 0
        self._statuses: Counter[str] = Counter()
        self._may_republish = asyncio.Event()
        self._kills = 0
        self._seconds = 0.0

    # --- running ----------------------------------------------------------------------------------

    async def watch(self) -> None:
        """Publish, follow the results, abandon the daemon in the middle, and publish the catalogue again."""
        demo, began = self._demo, time.monotonic()
        self._start()
        publishing = asyncio.create_task(self._publish())
        with Watching(self._console, demo.changes) as watching:
            while self._statuses.total() < demo.changes:
                if time.monotonic() - began > demo.deadline:
                    self._console.print(f"[bold red]Not finished after {demo.deadline:g} s; giving up.")
                    break
                for task in (publishing, self._daemon):
                    if task is not None and task.done():
                        task.result()
                await asyncio.sleep(LOOK_EVERY)
                self._read_results()
                watching.update(self._published, self._statuses)
                if demo.may_republish(self._statuses.total()):
                    self._may_republish.set()
                if not self._kills and self._statuses.total() >= demo.kill_at * demo.changes:
                    await self._abandon()
        self._seconds = time.monotonic() - began
        publishing.cancel()
        assert self._engine is not None
        assert self._daemon is not None
        self._engine.stop()
        await self._daemon

    def _start(self) -> None:
        self._daemon = asyncio.create_task(self._live())

    async def _live(self) -> None:
        settings = self._settings
        instruments = make_instruments(settings, {})
        event_log = EmbeddedLog(self._cluster, self._topics, "coursesyncd-0")
        key = ApiKeyFile(settings.kombo.api_key_file)
        api = make_api(settings, key, instruments.metrics)
        try:
            await event_log.start()
            self._engine = make_engine(settings, Policies(settings), event_log, api, instruments, key.changed)
            await self._engine.run()
        finally:
            await api.close()

    async def _abandon(self) -> None:
        assert self._daemon is not None
        self._daemon.cancel()
        await asyncio.wait([self._daemon])
        self._kills += 1
        self._start()
        self._console.print(
            "[yellow]The daemon was abandoned in the middle of its work, and is started again."
        )

    async def _publish(self) -> None:
        began = time.monotonic()
        for record in generate_records(self._demo.plan(_now_ms())):
            if self._published == self._demo.changes - self._demo.republished:
                await self._may_republish.wait()
            ahead = began + self._published / self._demo.rate - time.monotonic()
            if ahead > 0:
                await asyncio.sleep(ahead)
            message = Message(record.key, record.value, record.headers)
            self._cluster.append(self._topics.changes, message)
            self._published += 1

    def _read_results(self) -> None:
        records, self._results_read = self._cluster.read_committed(
            self._topics.results, 0, self._results_read, 1_000_000
        )
        for record in records:
            event = msgspec.json.decode(record.value or b"")
            if event["type"] == "course.sync.resolved":
                self._statuses[event["data"]["status"]] += 1

    # --- judging ----------------------------------------------------------------------------------

    def judge(self, report: Path) -> bool:
        print_results(self._console, self._latencies())
        now = _now_ms()
        print_api(self._console, readout.stats(self._simulator, now))
        verdict = judge(
            self._records(self._topics.changes),
            self._records(self._topics.results),
            [task_of(msgspec.to_builtins(readout.task_row(t, now))) for t in self._simulator.tasks.values()],
            [DeactivationCall(**row) for row in readout.deactivation_rows(self._simulator)],
            [held_course_of(msgspec.to_builtins(row)) for row in readout.course_rows(self._simulator)],
            profile.check_limits(),
            self._records(self._topics.courses),
        )
        print_verdict(self._console, verdict)
        write_report(report, verdict, kills=self._kills, seconds=self._seconds, log="embedded")
        self._console.print(f"{self._seconds:.0f} seconds; abandoned: {self._kills}. The report is {report}.")
        return verdict.ok

    def _records(self, topic: str) -> Iterator[LogRecord]:
        for partition in range(self._cluster.partition_count(topic)):
            for r in self._cluster.read_committed(topic, partition, 0, 1_000_000)[0]:
                yield LogRecord(topic, partition, r.offset, r.key, r.value, r.headers)

    def _latencies(self) -> dict[str, list[float]]:
        """Seconds from a change's record to its result's record, by status."""
        published = {
            (partition, record.offset): record.timestamp
            for partition in range(profile.PARTITIONS)
            for record in self._cluster.read_committed(self._topics.changes, partition, 0, 1_000_000)[0]
        }
        latencies: dict[str, list[float]] = defaultdict(list)
        for record in self._cluster.read_committed(self._topics.results, 0, 0, 1_000_000)[0]:
            event = msgspec.json.decode(record.value or b"")
            if event["type"] == "course.sync.resolved":
                change = event["data"]["change"]
                since = published[change["partition"], change["offset"]]
                latencies[event["data"]["status"]].append((record.timestamp - since) / 1000)
        return latencies


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
