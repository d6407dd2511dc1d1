"""Child processes of the sandbox: started with a log file, and never left behind.

A child gets its own process group, so that Ctrl-C at the terminal reaches only the sandbox, which
then ends its children in order. Should the sandbox itself be killed, the leash (see `leash`) kills
them.
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
_LOOK_EVERY = 0.02  # seconds between looks at a child's log or state
_TAIL_BYTES = 64 * 1024


class SandboxError(Exception):
    """The sandbox can not do what was asked; the message says what to do about it."""


class Child:
    """A running program. Start it with `Child.start`; all times are seconds."""

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
        """Start a program whose output is appended to `log`. `env` is its whole environment, None our own.

        With `hold_sigterm` a SIGTERM that comes before the program can hear it waits until then. The program
        has to let it through (`daemon.entry` does): it starts with the signal blocked.
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
        """None while it runs; minus the signal when a signal ended it."""
        code = self._process.poll()
        if code is not None and self._leash is not None:
            os.close(self._leash)
            self._leash = None
        return code

    @property
    def running(self) -> bool:
        return self.exit_code is None

    def freeze(self) -> None:
        """Stop it where it is (SIGSTOP): it holds what it holds, and does nothing, until `thaw`. Idempotent.

        Sending the signal is not enough: the system stops a process when one of its threads comes to run and
        takes it, and on a busy machine the others may work on for milliseconds until then.
        """
        self._signal(signal.SIGSTOP)
        if self.running and hasattr(os, "waitid"):  # Python has it on macOS from 3.13 on
            os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def thaw(self) -> None:
        """Let it go on (SIGCONT). It is not told that it was frozen. Idempotent."""
        self._signal(signal.SIGCONT)

    def terminate(self) -> None:
        """Ask it to end (SIGTERM), and do not wait for it."""
        self._signal(signal.SIGTERM)

    def stop(self, grace: float = 10.0) -> int:
        """Ask it to end (SIGTERM), kill it after `grace`. Returns its exit code; idempotent."""
        self.terminate()
        self.thaw()  # one that is frozen would not hear
        try:
            self._process.wait(grace)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
        return self.wait()

    def kill(self) -> int:
        """End it as kill -9 does. Returns its exit code; idempotent."""
        self._signal(signal.SIGKILL)
        return self.wait()

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises `subprocess.TimeoutExpired`."""
        self._process.wait(timeout)
        code = self.exit_code
        assert code is not None
        return code

    def wait_for_line(self, pattern: str, timeout: float) -> re.Match[str]:
        """The first match of a regular expression in what it has written since it was started.

        Raises:
            SandboxError: it ended, or wrote no such line in time; the message has the end of its log.
        """
        sought = re.compile(pattern, re.MULTILINE)
        deadline = time.monotonic() + timeout
        while True:
            running = self.running  # before the look: what it wrote last is still seen
            if match := sought.search(self.output()):
                return match
            if not running:
                raise SandboxError(self.obituary())
            if time.monotonic() > deadline:
                raise SandboxError(f"{self.name} did not come up within {timeout:g} s.\n{self.log_tail()}")
            time.sleep(_LOOK_EVERY)

    def output(self) -> str:
        """What it has written since it was started."""
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    def obituary(self) -> str:
        """What it ended with, and its last words: for people."""
        return f"{self.name} ended with exit code {self.exit_code}.\n{self.log_tail()}"

    def log_tail(self, lines: int = 20) -> str:
        """The last lines of its log, under a heading that says where the rest is."""
        with self.log.open("rb") as log:
            log.seek(max(self._log_start, self.log.stat().st_size - _TAIL_BYTES))
            tail = log.read().decode(errors="replace").splitlines()[-lines:]
        return "\n".join([f"The end of {self.log}:", *(f"  {line}" for line in tail)])

    def _signal(self, number: signal.Signals) -> None:
        if self.running:
            os.killpg(self.pid, number)


@contextmanager
def _sigterm_blocked() -> Iterator[None]:
    """In this thread, and for ever in what it starts meanwhile."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
