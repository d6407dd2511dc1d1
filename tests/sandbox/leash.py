"""Run a program that can not outlive whoever started it, not even one ended by kill -9.

    python -I -S leash.py FD PROGRAM ARGUMENT…

FD is the reading end of a pipe whose other end the starter holds and never writes to. This process
forks a watcher and then *becomes* the program, so that the starter's child is the program itself:
its pid, its exit code, its signals. The watcher reads FD; when that ends, the starter is gone
(closed by the system, whatever it died of) and the program's process group is killed.

Not ``PR_SET_PDEATHSIG``: that exists on Linux only, and follows the starting *thread*, so a program
started from a short-lived thread would be killed when the thread ends.

This file is run as a script, isolated, and so imports nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys

LOOK_EVERY = 0.5
"""Seconds between looks at the parent's pid, where the system can not wake us at its end."""


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
    # The program's output must end when the program does, so the watcher may not hold it open.
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    waited_for = [leash]
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # old kernels; the look at the parent's pid is enough
            waited_for.append(os.pidfd_open(program))
    while os.getppid() == program:
        readable, _, _ = select.select(waited_for, [], [], LOOK_EVERY)
        if leash in readable:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(program, signal.SIGKILL)
            return


if __name__ == "__main__":
    main()
