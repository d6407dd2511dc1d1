"""The sandbox as a whole: its parts come up together, and none of them is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from daemon.log.topic_access import read_topic
from tests.sandbox.generator import Plan
from tests.sandbox.process import SandboxError
from tests.sandbox.profile import PARTITIONS
from tests.sandbox.publishing import Publishing
from tests.sandbox.results_view import ResultsView
from tests.sandbox.stack import Stack

DEADLINE = 180.0

pytestmark = [pytest.mark.kafka, pytest.mark.usefixtures("kafka_bootstrap")]


def test_kafka_topics_and_simulator_come_up_and_take_changes(tmp_path: Path) -> None:
    said: list[str] = []
    with Stack(tmp_path, faults="none", seed=1, say=said.append) as stack:
        at = stack.addresses
        plan = Plan(changes=500, invalid_share=0.1)
        with (
            ResultsView(at.connection, at.topics.results) as view,
            Publishing(at.connection, at.topics.changes, plan, rate=2000.0) as publishing,
        ):
            wait_until(lambda: publishing.done)
            assert publishing.published == 500
            view.poll(0.1)
            assert not view.resolved
        records = list(read_topic(at.connection, at.topics.changes))
        assert len(records) == 500
        assert len({record.partition for record in records}) <= PARTITIONS
        assert stack.ask_simulator("stats")["tasks"] == {}
        stack.assert_running()

        with (
            pytest.raises(SandboxError, match="already running"),
            Stack(tmp_path, faults="none", seed=1, say=said.append),
        ):
            pass
    assert said


def test_publishing_stops_when_nobody_waits_for_the_rest(tmp_path: Path) -> None:
    with Stack(tmp_path, faults="none", seed=1, say=print) as stack:
        at = stack.addresses
        with Publishing(at.connection, at.topics.changes, Plan(changes=1_000_000), rate=100.0) as publishing:
            wait_until(lambda: publishing.published > 0)
        assert publishing.published < 1_000_000


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_nothing_is_left_running(tmp_path: Path, end: signal.Signals) -> None:
    code = (
        "import time; from pathlib import Path; from tests.sandbox.stack import Stack\n"
        f"with Stack(Path({str(tmp_path)!r}), faults='none', seed=1, say=lambda _: None) as stack:\n"
        "    children = [*stack._children, *([stack._broker._child] if stack._broker else [])]\n"
        "    print(*(child.pid for child in children), flush=True)\n"
        "    time.sleep(3600)"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as starter:
        try:
            assert starter.stdout is not None
            pids = [int(word) for word in starter.stdout.readline().split()]
            assert pids
            starter.send_signal(end)
            starter.wait(DEADLINE)
        finally:
            starter.kill()
    wait_until(lambda: not any(process_exists(pid) for pid in pids))


def process_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
