"""What only the replicas know: who holds a partition, and why it is delayed or blocked there. From the page `/state` of their admin
ports, if `--replicas` names them.

A URL may name many replicas: each address of its host is asked, so the name of a headless Service is enough. An answer that is not
one of a replica is left out, and so is a replica that does not answer.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import NamedTuple

import aiohttp
import msgspec
import structlog
from yarl import URL

from daemon.console.model import Held, Model

log = structlog.get_logger()

INTERVAL = 5.0
"""Seconds between two rounds."""
TIMEOUT = aiohttp.ClientTimeout(total=4.0)
BYTES_MAX = 8 * 1024 * 1024
"""Of a page."""
REPLICAS_MAX = 200
"""Addresses of one URL that are asked."""


class _Partition(msgspec.Struct):
    state: str
    reason: str | None = None
    warning: str | None = None


class _State(msgspec.Struct):
    """What is looked at of the page `/state`."""

    lifecycle: str
    partitions: dict[str, _Partition]
    halted_reason: str | None = None


_decode = msgspec.json.Decoder(_State).decode


class Answer(NamedTuple):
    replica: str
    """Its address."""
    state: _State


class Replicas:
    def __init__(self, urls: Sequence[str], model: Model) -> None:
        self._urls = [URL(url) for url in urls]
        self._model = model
        self._is_silent = False

    async def follow(self) -> None:
        """Ask them again and again, until cancelled."""
        async with aiohttp.ClientSession(timeout=TIMEOUT, cookie_jar=aiohttp.DummyCookieJar()) as http:
            while True:
                found = await asyncio.gather(*(self._ask_all(http, url) for url in self._urls))
                self._take([answer for answers in found for answer in answers])
                await asyncio.sleep(INTERVAL)

    def _take(self, answers: list[Answer]) -> None:
        held: dict[int, Held] = {}
        halted = None
        for replica, state in answers:
            halted = halted or state.halted_reason
            for number, each in state.partitions.items():
                if number.isascii() and number.isdigit():
                    held[int(number)] = Held(replica, each.state, each.reason, each.warning)
        self._model.held, self._model.halted_reason, self._model.replicas = held, halted, len(answers)
        if self._is_silent != (not answers):
            self._is_silent = not answers
            if self._is_silent:
                log.warning("console.no_replica", error="no replica answers at --replicas")

    async def _ask_all(self, http: aiohttp.ClientSession, url: URL) -> list[Answer]:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(url.host or "", url.port, type=socket.SOCK_STREAM)
        except OSError:
            return []
        addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))[:REPLICAS_MAX]
        answers = await asyncio.gather(
            *(self._ask(http, url.with_host(each) / "state") for each in addresses)
        )
        return [answer for answer in answers if answer is not None]

    async def _ask(self, http: aiohttp.ClientSession, url: URL) -> Answer | None:
        try:
            async with http.get(url, allow_redirects=False) as response:
                content = await response.content.read(BYTES_MAX)
                while len(content) < BYTES_MAX and (more := await response.content.read(BYTES_MAX)):
                    content += more
            return Answer(url.host or "", _decode(content)) if response.status == 200 else None
        except (aiohttp.ClientError, TimeoutError, ValueError, RecursionError):
            return None


def replicas_mistake(url: str) -> str | None:
    """Why this cannot be the URL of replicas."""
    try:
        parsed = URL(url)
        port = parsed.port
    except ValueError:
        parsed, port = URL(), None
    if (
        parsed.scheme != "http"
        or not parsed.host
        or port is None
        or parsed.path not in ("", "/")
        or parsed.query
    ):
        return f"{url!r} is not the address of admin ports, such as http://course-sync:8080"
    return None
