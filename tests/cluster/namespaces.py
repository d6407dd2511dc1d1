"""Runs a program in namespaces of its own, which end with it, however it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType

_UNSHARE = (
    "unshare",
    "--net",
    "--mount",
    "--uts",
    "--ipc",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
)
_GRACE = 30.0
"""Seconds that the program has for its own end after a signal. Then it is killed, and everything in the namespaces with it."""
_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_apart(command: Sequence[str]) -> int:
    """Run it as process 1 of new namespaces, and return its exit code. Signals that ask this process to end are passed on.

    If this process is killed, the kernel kills `unshare`, that kills process 1, and the kernel everything else in there.
    """
    with _noting_stops() as stopped:
        process = subprocess.Popen(["setpriv", "--pdeathsig=KILL", *_UNSHARE, *command], process_group=0)
        killed_at: float | None = None
        while process.poll() is None:
            if stopped():
                killed_at = killed_at or time.monotonic() + _GRACE
                if time.monotonic() > killed_at:
                    process.kill()
                else:
                    _ask_to_end(process.pid)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1.0)
    return process.returncode


def be_process_1(program: Callable[[], int]) -> int:
    """Run it in a child, pass SIGTERM on to that, and reap what is left to this process. Returns its exit code."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = program()
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))
    while True:
        pid, status = os.wait()
        if pid == child:
            return os.waitstatus_to_exitcode(status)


def remove_cgroups(prefix: str) -> None:
    """Those with this prefix. There are no processes in them any more."""
    for found in Path("/sys/fs/cgroup").glob(f"*/{prefix}*"):
        for folder, _, _ in os.walk(found, topdown=False):
            with contextlib.suppress(OSError):
                Path(folder).rmdir()


def _ask_to_end(unshare: int) -> None:
    """Repeated: process 1 ignores a signal that it does not handle yet."""
    with contextlib.suppress(OSError):
        for pid in Path(f"/proc/{unshare}/task/{unshare}/children").read_text().split():
            os.kill(int(pid), signal.SIGTERM)


@contextlib.contextmanager
def _noting_stops() -> Iterator[Callable[[], bool]]:
    noted: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        noted.append(number)

    before = {number: signal.signal(number, note) for number in _STOPS}
    try:
        yield lambda: bool(noted)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
