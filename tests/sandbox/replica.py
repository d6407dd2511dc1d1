"""One `coursesyncd run` over all its restarts: the same name in the group, the same port, the same log.

A replacement is another process with the same name in the group, but with a separate port and log. This is what happens when
a node is given up and its pod is recreated on another node while the old process still runs.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from tests.sandbox import local_http
from tests.sandbox.ports import free_ports
from tests.sandbox.process import Child, SandboxError

START_TIMEOUT = 60.0
"""Seconds within which it must start, and within which it must end gracefully."""


class Replica:
    """All methods are called from one thread."""

    def __init__(
        self,
        name: str,
        command: list[str],
        env: Mapping[str, str],
        admin_url: str,
        log: Path,
        *,
        hold_sigterm: bool = True,
    ) -> None:
        """`env` is its complete environment. Its admin port must be that of `admin_url`. `hold_sigterm` as in `Child.start`."""
        self.name = name
        self.admin_url = admin_url
        self.log = log
        self._command = command
        self._env = dict(env)
        self._hold_sigterm = hold_sigterm
        self._child: Child | None = None
        self._replaced = 0

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.running

    @property
    def started(self) -> bool:
        """Whether it was ever started."""
        return self._child is not None

    @property
    def process(self) -> Child:
        """The process that was started last, for sending signals."""
        assert self._child is not None, "only after `start`"
        return self._child

    def start(self) -> None:
        """Start or restart it. `await_ready` waits until it works."""
        assert not self.running
        self._child = Child.start(
            self.name, self._command, log=self.log, env=self._env, hold_sigterm=self._hold_sigterm
        )

    def replace(self) -> Child:
        """Start another process in place of the running one, and return the old one. The caller is responsible for ending
        it."""
        old = self.process
        port = free_ports(1)[0]
        self.admin_url = f"http://127.0.0.1:{port}"
        self._env["COURSESYNC_ADMIN_PORT"] = str(port)
        self._replaced += 1
        self.log = old.log.with_name(f"{self.name}.{self._replaced}.log")
        self._child = None
        self.start()
        return old

    def drain(self) -> None:
        """End it as an operator does.

        Raises:
            SandboxError: it did not end with exit code 0.
        """
        if self.process.stop(grace=START_TIMEOUT) != 0:
            raise SandboxError(self.process.obituary())

    def close(self) -> None:
        """End it, gracefully if possible. Idempotent."""
        if self._child is not None:
            self._child.stop()

    def await_ready(self) -> None:
        """Wait until it reports that it is ready.

        Raises:
            SandboxError: it ended, or took longer than `START_TIMEOUT`.
        """
        deadline = time.monotonic() + START_TIMEOUT
        while not self._says_ready():
            if not self.running:
                raise SandboxError(self.process.obituary())
            if time.monotonic() > deadline:
                raise SandboxError(
                    f"{self.name} was not ready within {START_TIMEOUT:g} s.\n{self.process.log_tail()}"
                )
            time.sleep(0.05)

    def _says_ready(self) -> bool:
        try:
            local_http.get(f"{self.admin_url}/readyz", timeout=2.0)
        except OSError:
            return False
        return True

    def partitions(self, timeout: float) -> dict[int, str] | None:
        """The state of each partition that it holds (restoring, running, blocked). None if it does not answer within
        `timeout` seconds."""
        if not self.running:
            return None
        try:
            state: Any = msgspec.json.decode(local_http.get(f"{self.admin_url}/state", timeout=timeout))
        except (OSError, msgspec.DecodeError):
            return None
        return {int(number): partition["state"] for number, partition in state["partitions"].items()}
