"""The entry point of the process. The signal handlers are installed before any slow import.

The imports take half a second. A signal during that time would end Python with the status of a killed process. Process 1 of a
container would ignore the signal, and the orchestrator would wait for its whole grace period.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

from daemon.stop_signals import READ_AGAIN, STOPS


def main() -> None:
    """The script `coursesyncd`."""
    # Any other command that is interrupted has failed, so it must not exit with 0.
    if sys.argv[1:2] == ["run"]:
        for number in STOPS:
            signal.signal(number, _end)
        signal.signal(READ_AGAIN, signal.SIG_IGN)  # the configuration is still to be read
    # The parent process may have blocked these signals, so that none is lost before this line. The image does.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
    from daemon.cli import main as command_line  # noqa: PLC0415 - takes half a second

    command_line()


def _end(_number: int, _frame: FrameType | None) -> None:
    """Exit on a signal that arrives before `run` has started. `run` later installs its own handlers. This does not use
    `sys.exit`, because a module that is being imported could catch the exception.
    """
    os._exit(0)
