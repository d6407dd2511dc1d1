"""Where the process begins. Nothing heavy is imported before SIGTERM is answered.

Loading everything takes half a second, in which Python would end by the signal; and as process 1 of a
container it would not even hear of it, so that the orchestrator waited for its whole grace period.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

from daemon.stop_signals import STOPS


def main() -> None:
    """The script `coursesyncd`."""
    if sys.argv[1:2] == ["run"]:  # another command that is cut short has not done what it was asked to
        for number in STOPS:
            signal.signal(number, _end)
        # The parent may have started us with these blocked, so that none is lost before this line.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
    from daemon.cli import main as command_line  # noqa: PLC0415 - takes half a second

    command_line()


def _end(_number: int, _frame: FrameType | None) -> None:
    """Told to stop before anything has begun; `run` soon puts its own way to end in this one's place. Not
    `sys.exit`: whoever is being imported could catch it.
    """
    os._exit(0)
