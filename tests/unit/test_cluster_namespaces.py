"""However `make cluster` ends, nothing of it goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.namespaces import run_apart

OUTER = "import sys; from tests.cluster.namespaces import run_apart; sys.exit(run_apart(sys.argv[1:]))"
INNER = """
import subprocess, sys, time
from tests.cluster.namespaces import be_process_1

def program():
    # One that belongs to nobody any more, and one that ignores what it is asked.
    subprocess.run(["sh", "-c", f"setsid sleep {sys.argv[1]} & trap '' TERM INT; sleep {sys.argv[1]} &"], check=True)
    time.sleep(600)

sys.exit(be_process_1(program))
"""
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def namespaces() -> None:
    """A loud skip where they are not allowed. Root in CI must be."""
    if os.geteuid() != 0:
        pytest.skip("NO NAMESPACES: they take root on Linux")
    made = subprocess.run(
        ["unshare", "--net", "--mount", "--pid", "true"], capture_output=True, text=True, check=False
    )
    if made.returncode:
        why = f"NO NAMESPACES: {made.stderr}"
        if os.environ.get("CI") == "true":
            pytest.fail(why, pytrace=False)
        pytest.skip(why)


def sleepers(seconds: str) -> list[int]:
    found = []
    for process in Path("/proc").iterdir():
        try:
            if (
                process.name.isdigit()
                and (process / "cmdline").read_bytes() == f"sleep\0{seconds}\0".encode()
            ):
                found.append(int(process.name))
        except OSError:
            pass
    return found


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_nothing_survives(number: signal.Signals) -> None:
    seconds = f"{os.getpid()}.{number.value}"
    command = [sys.executable, "-c", OUTER, sys.executable, "-c", INNER, seconds]
    outer = subprocess.Popen(command, cwd=ROOT)
    try:
        wait_until(lambda: len(sleepers(seconds)) == 2)
        outer.send_signal(number)
        outer.wait(120)
        wait_until(lambda: not sleepers(seconds))
    finally:
        outer.kill()


def test_the_exit_code_is_that_of_the_program() -> None:
    assert run_apart([sys.executable, "-c", "raise SystemExit(3)"]) == 3
