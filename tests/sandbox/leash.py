"""Run a program that cannot outlive its starter, even if the starter is ended by kill -9.

    python -I -S leash.py FD PROGRAM ARGUMENT…

FD is the read end of a pipe. The starter holds the write end and never writes to it. This process forks a watcher and then
*becomes* the program, so that the starter's child is the program itself, with its pid, exit code and signals. The watcher
reads FD. At end of file the starter has ended (the system closes its descriptors in any case), and the watcher kills the
program's process group.

``PR_SET_PDEATHSIG`` is not used: it exists only on Linux, and it depends on the starting *thread*, so a program started
from a short-lived thread would be killed when the thread ends.

This file runs as an isolated script, so it imports only the standard library.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys

LOOK_EVERY = 0.5
"""Seconds between two checks of the parent's pid, for systems that cannot notify this process of its end."""


def main() -> None:
    leash, command = int(sys.argv[1]), sys.argv[2:]
    program = os.getpid()
    if os.fork() == 0:
        try:
            _watch(leash, program)
        finally:
            os._exit(0)
    os.close(leash)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")


def _watch(leash: int, program: int) -> None:
    """Wait for the end of the program or of the starter, whichever comes first."""
    os.setsid()
    # The program's output must be closed when the program ends, so the watcher must not hold it open.
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    waited_for = [leash]
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # old kernels; the check of the parent's pid is sufficient
            waited_for.append(os.pidfd_open(program))
    while os.getppid() == program:
        readable, _, _ = select.select(waited_for, [], [], LOOK_EVERY)
        if leash in readable:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(program, signal.SIGKILL)
            return


if __name__ == "__main__":
    main()
