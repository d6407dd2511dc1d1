"""A host clock that is wrong for a while: the broker refuses what the daemon writes, and nothing is lost or blocked."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from daemon.commands.connections import kafka_connection
from daemon.log.topic_access import TopicRecord, read_topic
from daemon.runtime.reopening import REFUSALS_MAX
from tests.integration.trouble_world import PATIENCE, Site, results
from tests.sandbox import local_http
from tests.sandbox.ports import free_ports
from tests.sandbox.process import Child

pytestmark = [pytest.mark.endurance, pytest.mark.kafka]

COURSESYNCD = str(Path(sys.executable).with_name("coursesyncd"))
HOURS = 3600
SHIFTED = """
import time

def shifted(clock, unit):
    def now():
        with open({file!r}) as offset:
            return clock() + int(offset.read()) * unit
    return now

time.time, time.time_ns = shifted(time.time, 1), shifted(time.time_ns, 1_000_000_000)
"""
"""Runs in the command before anything else: its wall clock is off by the seconds in the file."""


class Host:
    """A machine with a clock of its own, on which the commands run as processes."""

    def __init__(self, site: Site, folder: Path) -> None:
        self._site = site
        self._clock = folder / "clock"
        self.set_clock(0)
        (folder / "sitecustomize.py").write_text(SHIFTED.format(file=str(self._clock)))
        (port,) = free_ports(1)
        self._admin = f"http://127.0.0.1:{port}"
        self._log = folder / "daemon.log"
        self._env = os.environ | site.environ
        self._env |= {
            "PYTHONPATH": str(folder),
            "COURSESYNC_LOG_FORMAT": "json",
            "COURSESYNC_ADMIN_PORT": str(port),
        }
        self.daemon: Child | None = None

    def set_clock(self, seconds: int) -> None:
        draft = self._clock.with_suffix(".draft")
        draft.write_text(str(seconds))
        draft.rename(self._clock)

    def start(self) -> None:
        self.daemon = Child.start("coursesyncd", [COURSESYNCD, "run"], log=self._log, env=self._env)

    async def check(self) -> tuple[int | None, str]:
        """Exit code and output of `coursesyncd check`."""
        process = await asyncio.create_subprocess_exec(
            COURSESYNCD, "check", env=self._env, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
        return process.returncode, output.decode()

    def refusals(self) -> list[str]:
        """What the daemon has logged about records that were refused."""
        whole, _, _ = self._log.read_text().rpartition("\n")
        lines = [json.loads(line) for line in whole.splitlines() if line.startswith("{")]
        drops = [line["error"] for line in lines if line["event"] == "partition.dropped"]
        return [error for error in drops if "is refused" in error]

    def partitions(self) -> Mapping[str, Any]:
        state: dict[str, Any] = json.loads(local_http.get(f"{self._admin}/state", timeout=PATIENCE))
        found: dict[str, Any] = state["partitions"]
        return found

    async def until(self, condition: Callable[[], Any], what: str) -> None:
        assert self.daemon is not None
        try:
            async with asyncio.timeout(2 * PATIENCE):
                while not await asyncio.to_thread(condition):
                    assert self.daemon.running, self.daemon.obituary()
                    await asyncio.sleep(0.05)
        except TimeoutError:
            pytest.fail(f"no {what}:\n{self.daemon.log_tail()}")


@pytest.fixture
async def host(site: Site, tmp_path: Path) -> AsyncIterator[Host]:
    (tmp_path / "host").mkdir()
    host = Host(site, tmp_path / "host")
    try:
        yield host
    finally:
        if host.daemon is not None:
            await asyncio.to_thread(host.daemon.stop)


async def test_a_clock_that_is_two_hours_ahead_is_waited_for_and_named(site: Site, host: Host) -> None:
    code, said = await host.check()
    assert code == 0, said
    assert "clock: agrees with Kafka" in said
    host.start()
    await site.publish(0, "a")
    await host.until(lambda: results(site.settings) == [(0, 0)], "first result")

    host.set_clock(2 * HOURS)
    await site.publish(0, "b")
    await site.publish(1, "c")
    await host.until(lambda: len(host.refusals()) > 2 * REFUSALS_MAX, "refusals")
    for refusal in host.refusals():
        assert "is refused (the times of its records: the clock of this host said 2" in refusal
        assert "and the broker accepts times up to 2" in refusal
    states = await asyncio.to_thread(host.partitions)
    assert {partition["state"] for partition in states.values()} <= {"restoring", "running"}
    code, said = await host.check()
    assert code == 1, said
    assert "s ahead of Kafka, which refuses records that are more than 3600 s ahead" in said
    assert results(site.settings) == [(0, 0)]

    host.set_clock(0)
    await host.until(lambda: results(site.settings) == [(0, 0), (0, 1), (1, 0)], "results of the others")
    code, said = await host.check()
    assert code == 0, said


@pytest.mark.parametrize(
    ("seconds", "limit"),
    [(90, {"message.timestamp.after.max.ms": "60000"}), (-90, {"message.timestamp.before.max.ms": "60000"})],
    ids=["ahead", "behind"],
)
async def test_results_that_are_refused_alone_wait_until_the_topic_takes_them(
    site: Site, host: Host, seconds: int, limit: dict[str, str]
) -> None:
    """The journal is written all the time. That does not show that the results would be accepted."""
    await site.configure(site.names.results, limit)
    host.set_clock(seconds)
    host.start()
    await site.publish(0, "a", "b")
    await host.until(lambda: len(host.refusals()) > REFUSALS_MAX, "refusals")
    assert any(f"for {site.names.results}, " in refusal for refusal in host.refusals())
    warned = await asyncio.to_thread(host.partitions)
    assert all(partition["state"] != "blocked" for partition in warned.values())
    await site.publish(1, "x")
    assert results(site.settings) == []

    await site.configure(site.names.results, dict.fromkeys(limit, str(24 * HOURS * 1000)))
    await host.until(lambda: results(site.settings) == [(0, 0), (0, 1), (1, 0)], "results")


@pytest.mark.parametrize(
    ("seconds", "expected"), [(40, "40 s ahead of Kafka"), (-4000, "4000 s behind Kafka")]
)
async def test_check_compares_the_clock_with_the_brokers_and_writes_nothing(
    site: Site, host: Host, seconds: int, expected: str
) -> None:
    host.set_clock(seconds)
    code, said = await host.check()
    assert code == 0, said
    assert f"advice  clock: this host is {expected}, which refuses records that are more than 3600 s" in said
    assert _dead_letters(site) == []


@pytest.mark.parametrize(
    "configs",
    [{"message.timestamp.type": "LogAppendTime"}, {"message.timestamp.after.max.ms": str(2**63 - 1)}],
    ids=["time of the log", "no limit"],
)
async def test_check_offers_no_record_to_a_topic_that_would_accept_it(
    site: Site, host: Host, configs: dict[str, str]
) -> None:
    await site.configure(site.names.dead_letters, configs)
    code, said = await host.check()
    assert code == 0, said
    assert "clock: agrees with the API" in said
    assert "with Kafka" not in said
    assert _dead_letters(site) == []


def _dead_letters(site: Site) -> list[TopicRecord]:
    return list(read_topic(kafka_connection(site.settings.kafka), site.names.dead_letters))
