"""Waiting for what a process does."""

from __future__ import annotations

import time
import urllib.error
from collections.abc import Callable

from tests.sandbox import local_http
from tests.sandbox.process import Child


def status(port: int, path: str, child: Child) -> int:
    """Of the answer, 0 when there is none yet. The process must live."""
    assert child.running, child.obituary()
    try:
        local_http.get(f"http://127.0.0.1:{port}{path}")
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0
    return 200


def wait_until(condition: Callable[[], bool], what: str, timeout: float = 120.0) -> None:
    """Ask until it says yes; `timeout` in seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout:g} s: {what}"
        time.sleep(0.1)
