"""SIGTERM at any moment of the start: the process ends in order, as if it had been running for long."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.daemon_world import DEADLINE, probe, wait_until
from tests.sandbox.process import Child
from tests.sandbox.stack import Stack

pytestmark = pytest.mark.kafka

COURSESYNCD = str(Path(sys.executable).with_name("coursesyncd"))
MOMENTS = [0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1.0, 1.3, 1.6, 2.0, 2.5]
"""Seconds after the process was started: the interpreter's own start, imports, connecting, joining, running."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, kafka_bootstrap: str) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("stop-at-start")
    with Stack(folder, faults="none", seed=1, say=print, kafka=kafka_bootstrap) as stack:
        yield stack


@pytest.mark.parametrize("moment", MOMENTS)
def test_it_ends_in_order(stack: Stack, moment: float) -> None:
    stack.start_daemon()
    time.sleep(moment)  # the subject of the test, not a wait for anything
    stack.daemon.process.terminate()

    assert stack.daemon.process.wait(DEADLINE) == 0, stack.daemon.process.output()


def test_it_ends_in_order_while_kafka_is_away(stack: Stack, tmp_path: Path) -> None:
    """And does not wait for it: an attempt to connect takes 15 seconds, and tells that it has failed."""
    nowhere = stack.environment | {"COURSESYNC_KAFKA_BOOTSTRAP_SERVERS": "192.0.2.1:9092"}  # nobody answers
    child = Child.start("run", [COURSESYNCD, "run"], log=tmp_path / "log", env=nowhere)
    wait_until(lambda: probe(stack.addresses.admin_url, "livez")[0] == 200, "it tries to connect")

    failed = child.output().count("kafka.unavailable")
    child.terminate()
    assert child.wait(DEADLINE) == 0
    assert child.output().count("kafka.unavailable") == failed


def test_it_ends_in_order_as_process_1_of_its_namespace(stack: Stack, tmp_path: Path) -> None:
    """As in a container, where a signal without a handler is dropped. The earliest one that is not."""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "--pid", "--fork", "true"], check=False).returncode:
        pytest.skip("no PID namespaces here")
    command = [unshare, "--pid", "--fork", COURSESYNCD, "run"]
    child = Child.start("run", command, log=tmp_path / "log", env=stack.environment)
    try:
        inner = wait_until(lambda: _inner(child.pid), "the process in the namespace")
        wait_until(lambda: _hears_sigterm(inner), "a handler")
        os.kill(inner, signal.SIGTERM)
        assert child.wait(DEADLINE) == 0, child.output()
    finally:
        child.kill()


def _inner(unshare: int) -> int | None:
    """The only other child of `unshare` is the watcher that keeps it on the leash."""
    for pid in Path(f"/proc/{unshare}/task/{unshare}/children").read_text().split():
        if COURSESYNCD.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[1:2]:
            return int(pid)
    return None


def _hears_sigterm(pid: int) -> bool:
    caught = re.search(r"^SigCgt:\s*([0-9a-f]+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert caught is not None
    return bool(int(caught[1], 16) & 1 << (signal.SIGTERM - 1))
