"""HTTP to child processes on 127.0.0.1. It ignores any proxy in the environment."""

from __future__ import annotations

import urllib.request

_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def get(url: str, timeout: float = 60.0) -> bytes:
    """The body of a 200 answer.

    Raises:
        OSError: no answer within `timeout` seconds, or another status (urllib's HTTPError is an OSError).
    """
    with _direct.open(url, timeout=timeout) as answer:
        return bytes(answer.read())


def post(url: str, body: bytes, timeout: float = 60.0) -> bytes:
    """POST this body. Otherwise as `get`."""
    with _direct.open(url, data=body, timeout=timeout) as answer:
        return bytes(answer.read())
