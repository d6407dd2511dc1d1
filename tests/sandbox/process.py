"""Child processes of the sandbox: they have a log file, and never outlive the sandbox.

A child gets its own process group, so that Ctrl-C at the terminal reaches only the sandbox, which then ends its children
gracefully. If the sandbox itself is killed, the leash (see `leash`) kills them.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Self

_LEASH = Path(__file__).with_name("leash.py")
_LOOK_EVERY = 0.02  # seconds between two checks of a child's log or state
_TAIL_BYTES = 64 * 1024


class SandboxError(Exception):
    """The sandbox cannot do what was requested. The message says what to do about it."""


class Child:
    """A running program. Start it with `Child.start`. All times are in seconds."""

    def __init__(
        self, name: str, process: subprocess.Popen[bytes], leash: int, log: Path, log_start: int
    ) -> None:
        self.name = name
        self.log = log
        self._process = process
        self._leash: int | None = leash
        self._log_start = log_start

    @classmethod
    def start(
        cls,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        hold_sigterm: bool = False,
    ) -> Self:
        """Start a program whose output is appended to `log`. `env` is its complete environment; None means that of this
        process.

        With `hold_sigterm`, a SIGTERM that arrives before the program can handle it stays pending. The program starts with
        the signal blocked and has to unblock it (`daemon.entry` does).
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        watched, leash = os.pipe()
        try:
            with log.open("ab") as output, _sigterm_blocked() if hold_sigterm else nullcontext():
                log_start = output.tell()
                process = subprocess.Popen(
                    [sys.executable, "-I", "-S", str(_LEASH), str(watched), *command],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=env,
                    cwd=cwd,
                    pass_fds=[watched],
                    process_group=0,
                )
        except BaseException:
            os.close(leash)
            raise
        finally:
            os.close(watched)
        return cls(name, process, leash, log, log_start)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs. The negative signal number if a signal ended it."""
        code = self._process.poll()
        if code is not None and self._leash is not None:
            os.close(self._leash)
            self._leash = None
        return code

    @property
    def running(self) -> bool:
        return self.exit_code is None

    def freeze(self) -> None:
        """Suspend it (SIGSTOP): it keeps its resources and does nothing until `thaw`. Idempotent.

        Sending the signal is not enough: the system stops a process only when one of its threads is scheduled and handles
        the signal. On a busy machine the other threads may run for milliseconds until then.
        """
        self._signal(signal.SIGSTOP)
        if self.running and hasattr(os, "waitid"):  # Python has it on macOS from 3.13 on
            os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def thaw(self) -> None:
        """Resume it (SIGCONT). The process is not notified that it was suspended. Idempotent."""
        self._signal(signal.SIGCONT)

    def terminate(self) -> None:
        """Request its end (SIGTERM) without waiting for it."""
        self._signal(signal.SIGTERM)

    def stop(self, grace: float = 10.0) -> int:
        """Request its end (SIGTERM) and kill it after `grace`. Returns its exit code. Idempotent."""
        self.terminate()
        self.thaw()  # a suspended process would not handle the signal
        try:
            self._process.wait(grace)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
        return self.wait()

    def kill(self) -> int:
        """End it as kill -9 does. Returns its exit code. Idempotent."""
        self._signal(signal.SIGKILL)
        return self.wait()

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises `subprocess.TimeoutExpired`."""
        self._process.wait(timeout)
        code = self.exit_code
        assert code is not None
        return code

    def wait_for_line(self, pattern: str, timeout: float) -> re.Match[str]:
        """The first match of a regular expression in its output since it was started.

        Raises:
            SandboxError: it ended, or wrote no such line in time. The message contains the end of its log.
        """
        sought = re.compile(pattern, re.MULTILINE)
        deadline = time.monotonic() + timeout
        while True:
            running = self.running  # read before the output, so that its last output is still searched
            if match := sought.search(self.output()):
                return match
            if not running:
                raise SandboxError(self.obituary())
            if time.monotonic() > deadline:
                raise SandboxError(f"{self.name} did not start within {timeout:g} s.\n{self.log_tail()}")
            time.sleep(_LOOK_EVERY)

    def output(self) -> str:
        """Its output since it was started."""
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    def obituary(self) -> str:
        """How it ended, with the last lines of its log, for people."""
        return f"{self.name} ended with exit code {self.exit_code}.\n{self.log_tail()}"

    def log_tail(self, lines: int = 20) -> str:
        """The last lines of its log, under a heading with the path of the log."""
        with self.log.open("rb") as log:
            log.seek(max(self._log_start, self.log.stat().st_size - _TAIL_BYTES))
            tail = log.read().decode(errors="replace").splitlines()[-lines:]
        return "\n".join([f"The end of {self.log}:", *(f"  {line}" for line in tail)])

    def _signal(self, number: signal.Signals) -> None:
        if self.running:
            os.killpg(self.pid, number)


@contextmanager
def _sigterm_blocked() -> Iterator[None]:
    """Block SIGTERM in this thread. Processes started meanwhile inherit the blocked signal permanently."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
