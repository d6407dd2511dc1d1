"""A `python -m tests.sandbox` command as a user runs it, and what it leaves behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

DEADLINE = 300.0
"""Seconds. Only a failure waits so long."""
SANDBOX = (sys.executable, "-m", "tests.sandbox")


class Running:
    """A `python -m tests.sandbox` command, and how to find what it has started."""

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
            [*SANDBOX, *words, "--directory", str(directory)],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
        )
    try:
        yield Running(process, log, mark)
    finally:
        process.kill()
        process.wait()


def wait_until(condition: Callable[[], bool], of: Running) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain\n{of.output()}\n{of.left_running()}"
        time.sleep(0.05)
