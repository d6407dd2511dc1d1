"""Asks the API server, and runs kubectl and Helm as a person types them."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from ssl import SSLContext
from typing import Any

from tests.sandbox.process import SandboxError

_ASK_TIMEOUT = 10.0
_COMMAND_TIMEOUT = 900.0
"""Seconds. Commands that wait, such as `kubectl drain`, get their own time-outs as options."""


class Api:
    """Read only. Cheaper than a kubectl every second."""

    def __init__(self, url: str, token: str, tls: SSLContext) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"}
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=tls)
        )

    def get(self, path: str) -> Any:
        """The JSON at this path. Raises OSError, for an answer that is not 200 too."""
        request = urllib.request.Request(self._url + path, headers=self._headers)
        with self._opener.open(request, timeout=_ASK_TIMEOUT) as answer:
            return json.loads(answer.read())

    def exists(self, path: str) -> bool:
        """False also if there is no answer."""
        try:
            self.get(path)
        except OSError:
            return False
        return True

    def ready(self) -> bool:
        try:
            request = urllib.request.Request(f"{self._url}/readyz", headers=self._headers)
            with self._opener.open(request, timeout=_ASK_TIMEOUT):
                return True
        except OSError:
            return False

    def await_nodes(self, count: int, timeout: float = 180.0) -> None:
        """Until so many nodes are ready. Raises SandboxError."""
        deadline = time.monotonic() + timeout
        while True:
            nodes = self.get("/api/v1/nodes")["items"] if self.ready() else []
            if sum(_ready(node) for node in nodes) == count:
                return
            if time.monotonic() > deadline:
                raise SandboxError(f"{count} nodes were not ready within {timeout:g} s.")
            time.sleep(0.5)


def _ready(thing: Any) -> bool:
    conditions = thing.get("status", {}).get("conditions", ())
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


class Shell:
    """Runs commands in one folder, and writes them and their output to a log."""

    def __init__(self, folder: Path, log: Path, variables: dict[str, str], path: Path) -> None:
        self._folder = folder
        self._log = log
        self._environment = {**os.environ, **variables, "PATH": f"{path}:{os.environ['PATH']}"}

    def __call__(self, command: str) -> str:
        """What it prints on both streams. Raises SandboxError if it fails."""
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_COMMAND_TIMEOUT,
            check=False,
        )
        with self._log.open("a", encoding="utf-8") as log:
            log.write(f"$ {command}\n{done.stdout}exit code {done.returncode}\n\n")
        if done.returncode:
            raise SandboxError(f"{command}: exit code {done.returncode}\n{done.stdout.strip()[-2000:]}")
        return done.stdout
