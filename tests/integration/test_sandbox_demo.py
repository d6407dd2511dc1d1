"""`python -m tests.sandbox demo` and `up`, as a user runs them: what they say, write and leave behind."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import urllib.request
from pathlib import Path

import pytest

from tests.integration.sandbox_command import DEADLINE, running, wait_until

BAD_COLUMNS = ("lost", "duplicate", "false_successes", "misordered", "unconverged")

pytestmark = [pytest.mark.endurance, pytest.mark.kafka, pytest.mark.usefixtures("startable_kafka")]


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
    with running(tmp_path, "demo", "--changes", "40000") as demo:  # far from its end when it is interrupted
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

        shell(next(c for c in commands if c.startswith("python -m tests.sandbox generate")), tmp_path)
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
        wait_until(lambda: "restarted as process" in up.output(), up)

        up.process.send_signal(signal.SIGINT)
        assert up.process.wait(DEADLINE) == 130
        wait_until(lambda: up.left_running() == [], up)


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
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=DEADLINE) as answer:
        return bytes(answer.read())
