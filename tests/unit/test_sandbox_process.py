"""Children of the sandbox: they do as they are told, and die with whoever started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest

from tests.sandbox.process import Child, SandboxError

DEADLINE = 60.0
FOREVER = "import time; print('up as', __import__('os').getpid(), flush=True); time.sleep(3600)"


def test_a_child_is_the_program_itself(tmp_path: Path) -> None:
    child = Child.start("sleeper", [sys.executable, "-c", FOREVER], log=tmp_path / "log")
    try:
        assert int(child.wait_for_line(r"^up as (\d+)$", DEADLINE)[1]) == child.pid
        assert child.running
    finally:
        assert child.kill() == -signal.SIGKILL
    assert not child.running
    assert child.kill() == -signal.SIGKILL, "idempotent"


def test_stop_asks_first_and_kills_what_does_not_listen(tmp_path: Path) -> None:
    polite = Child.start("polite", [sys.executable, "-c", FOREVER], log=tmp_path / "polite")
    deaf_code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + FOREVER
    deaf = Child.start("deaf", [sys.executable, "-c", deaf_code], log=tmp_path / "deaf")
    for child in (polite, deaf):
        child.wait_for_line("up as", DEADLINE)
    assert polite.stop(grace=DEADLINE) == -signal.SIGTERM
    assert deaf.stop(grace=0.2) == -signal.SIGKILL


def test_a_child_that_ends_early_is_reported_with_its_last_words(tmp_path: Path) -> None:
    child = Child.start(
        "broken", [sys.executable, "-c", "raise SystemExit('no such thing')"], log=tmp_path / "log"
    )
    with pytest.raises(SandboxError, match=r"(?s)broken ended with exit code 1.*no such thing"):
        child.wait_for_line("never written", DEADLINE)


def test_a_line_of_an_earlier_run_is_not_taken_for_this_ones(tmp_path: Path) -> None:
    log = tmp_path / "log"
    Child.start("first", [sys.executable, "-c", "print('ready')"], log=log).wait(DEADLINE)
    second = Child.start("second", [sys.executable, "-c", "print('other')"], log=log)
    with pytest.raises(SandboxError, match="second ended with exit code 0"):
        second.wait_for_line("ready", DEADLINE)
    assert log.read_text() == "ready\nother\n"


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_child_dies_with_its_starter(tmp_path: Path, end: signal.Signals) -> None:
    log = tmp_path / "log"
    starter_code = (
        "import sys, time; from pathlib import Path; from tests.sandbox.process import Child\n"
        f"Child.start('orphan', [sys.executable, '-c', {FOREVER!r}], log=Path({str(log)!r}))\n"
        "time.sleep(3600)"
    )
    starter = subprocess.Popen([sys.executable, "-c", starter_code])
    try:
        wait_until(lambda: log.exists() and "up as" in log.read_text())
        orphan = int(log.read_text().split()[-1])
        starter.send_signal(end)
        starter.wait(DEADLINE)
    finally:
        starter.kill()
    wait_until(lambda: not alive(orphan))


def test_a_child_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    started: list[Child] = []

    def start() -> None:
        started.append(Child.start("sleeper", [sys.executable, "-c", FOREVER], log=tmp_path / "log"))

    thread = Thread(target=start)
    thread.start()
    thread.join(DEADLINE)
    (child,) = started
    try:
        child.wait_for_line("up as", DEADLINE)
        assert child.running
    finally:
        child.kill()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks at the threads in /proc")
def test_a_frozen_child_has_come_to_a_standstill_in_all_its_threads(tmp_path: Path) -> None:
    busy_code = (
        "import hashlib, threading\n"
        "def work():\n    while True: hashlib.sha256(bytes(1_000_000))\n"  # without the interpreter's lock
        "for _ in range(4): threading.Thread(target=work).start()\n"
        "print('up', flush=True)"
    )
    child = Child.start("busy", [sys.executable, "-c", busy_code], log=tmp_path / "log")
    try:
        child.wait_for_line("up", DEADLINE)
        for _ in range(50):
            child.freeze()
            assert thread_states(child.pid) == {"T"}
            child.freeze()
            child.thaw()
        wait_until(lambda: thread_states(child.pid) != {"T"})
    finally:
        child.kill()


def thread_states(pid: int) -> set[str]:
    stats = Path(f"/proc/{pid}/task").glob("*/stat")
    return {stat.read_text().rpartition(")")[2].split()[0] for stat in stats}


def alive(pid: int) -> bool:
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
