"""`coursesyncd sandbox demo` and `up`, as a user runs them: what they say, write and leave behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

DEADLINE = 100.0
COURSESYNCD = str(Path(sys.executable).with_name("coursesyncd"))
BAD_COLUMNS = ("lost", "duplicate", "false_successes", "misordered", "unconverged")

pytestmark = [pytest.mark.kafka, pytest.mark.usefixtures("startable_kafka")]


def test_a_small_demo_keeps_the_contract_over_a_kill(tmp_path: Path) -> None:
    with running(tmp_path, "demo", "--changes", "600") as demo:
        assert demo.process.wait(DEADLINE) == 0, demo.output()

    report = json.loads((tmp_path / "report.json").read_text())
    assert report["changes"] == 600
    assert sum(report["results"].values()) == 600
    assert report["results"]["SUCCEEDED"] > 0
    assert report["results"]["REJECTED"] > 0
    assert [report[column] for column in BAD_COLUMNS] == [0, 0, 0, 0, 0]
    assert report["kills"] == 1
    assert report["log"] == "kafka"
    assert report["seconds"] > 0
    assert "The contract was kept." in demo.output()
    assert demo.left_running() == []


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_demo_that_is_interrupted_leaves_nothing_running(tmp_path: Path, end: signal.Signals) -> None:
    with running(tmp_path, "demo") as demo:
        daemon_log = tmp_path / "coursesyncd.log"
        wait_until(lambda: daemon_log.exists() and "api.warning" in daemon_log.read_text(), demo)
        demo.process.send_signal(end)
        code = demo.process.wait(DEADLINE)
        wait_until(lambda: demo.left_running() == [], demo)

    assert code == (130 if end is not signal.SIGKILL else -signal.SIGKILL)
    assert not (tmp_path / "report.json").exists()


def test_up_prints_commands_that_work_and_starts_a_killed_daemon_again(tmp_path: Path) -> None:
    with running(tmp_path, "up") as up:
        wait_until(lambda: "Ctrl-C ends everything." in up.output(), up)
        commands = [line.strip() for line in up.output().splitlines() if line.startswith("  ")]

        shell(next(c for c in commands if c.startswith("coursesyncd sandbox generate")), tmp_path)
        lms = re.search(r"http\S+/_sim/lms", up.output())
        assert lms
        wait_until(lambda: fetch(lms[0]).count(b"\n") > 10, up)
        metrics = re.search(r"http\S+/metrics", up.output())
        assert metrics
        assert b"coursesync_changes_consumed_total" in fetch(metrics[0])

        shell(next(c for c in commands if "/_sim/key" in c), tmp_path)
        shell(next(c for c in commands if c.startswith("coursesyncd publish")), tmp_path)
        ready = next(c for c in commands if c.endswith("/readyz"))
        wait_until(lambda: "halted: PLATFORM.AUTHENTICATION_INVALID" in shell(ready, tmp_path), up)
        shell(next(c for c in commands if c.startswith("echo ")), tmp_path)
        wait_until(lambda: '"passed": true' in shell(ready, tmp_path), up)

        shell(next(c for c in commands if c.startswith("kill -9")), tmp_path)
        wait_until(lambda: "started again as process" in up.output(), up)

        up.process.send_signal(signal.SIGINT)
        assert up.process.wait(DEADLINE) == 130
        wait_until(lambda: up.left_running() == [], up)


class Running:
    """A `coursesyncd sandbox` command, and how to find what it has started."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, mark: str) -> None:
        self.process = process
        self._log = log
        self._mark = mark.encode()

    def output(self) -> str:
        return self._log.read_text()

    def left_running(self) -> list[str]:
        """Command lines of processes that have our mark in their environment."""
        if not Path("/proc/self/environ").exists():
            pytest.skip("finding what was left running needs /proc")
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if self._mark in (entry / "environ").read_bytes():
                    found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:  # it has just ended
                continue
        return found


@contextmanager
def running(directory: Path, *words: str) -> Iterator[Running]:
    mark = f"SANDBOX_TEST={uuid.uuid4().hex}"
    name, _, value = mark.partition("=")
    log = directory / "output"
    environment = {k: v for k, v in os.environ.items() if k != "KAFKA"} | {name: value, "COLUMNS": "200"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [COURSESYNCD, "sandbox", *words, "--directory", str(directory)],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
        )
    try:
        yield Running(process, log, mark)
    finally:
        process.kill()
        process.wait()


def shell(command: str, directory: Path) -> str:
    """As a user does: after `source …/env`. Returns what it wrote."""
    return subprocess.run(
        ["bash", "-c", f"source {directory}/env && {command}"],
        check=True,
        timeout=DEADLINE,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout


def fetch(url: str) -> bytes:
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=10) as answer:
        return answer.read()


def wait_until(condition: Callable[[], bool], of: Running) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain\n{of.output()}\n{of.left_running()}"
        time.sleep(0.05)
