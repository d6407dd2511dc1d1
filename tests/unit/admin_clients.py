"""Clients of the admin port that do what no good client does, on plain sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from daemon.admin import AdminServer
from daemon.core.model import Now
from daemon.telemetry.health import Health
from daemon.telemetry.metrics import Metrics

PATIENCE = 30.0
"""Seconds. Only a failure waits so long."""
LIVEZ = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
METRICS = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"


@dataclass
class Port:
    """A served admin port, and sockets that are connected to it."""

    server: AdminServer
    sockets: list[socket.socket] = field(default_factory=list)

    @property
    def open_connections(self) -> int:
        """As the server counts them."""
        assert self.server._running is not None
        return len(self.server._running[1]._since)

    def new_socket(self) -> socket.socket:
        """Not connected yet; closed at the end of the test."""
        made = socket.socket()
        made.setblocking(False)
        self.sockets.append(made)
        return made

    async def connect(self, *, send: bytes = b"", by: socket.socket | None = None) -> socket.socket:
        by = by or self.new_socket()
        loop = asyncio.get_running_loop()
        await loop.sock_connect(by, ("127.0.0.1", self.server.port))
        await loop.sock_sendall(by, send)
        return by

    async def ask(self, request: bytes, by: socket.socket | None = None) -> bytes:
        """Everything that is answered until the server closes the connection."""
        return await read_all(await self.connect(send=request, by=by))

    async def is_live(self, by: socket.socket | None = None) -> bool:
        return (await self.ask(LIVEZ, by)).startswith(b"HTTP/1.1 200 ")


@contextlib.asynccontextmanager
async def serving(render: Callable[[], bytes] | None = None, **bounds: Any) -> AsyncIterator[Port]:
    """`render` stands for the metrics; `bounds` are the server's."""
    health = Health((), lambda: Now(0, 0.0))
    metrics = Metrics(health, version="1", input_topic="t", task_timeout_s=60.0)
    if render is not None:
        metrics.exposition = render  # type: ignore[method-assign]
    server = AdminServer("127.0.0.1", 0, metrics=metrics, health=health, **bounds)
    await server.start()
    port = Port(server)
    try:
        yield port
    finally:
        for made in port.sockets:
            made.close()
        await server.stop()


async def read_all(connection: socket.socket) -> bytes:
    """Until the other side has closed it, in order or not."""
    loop, received = asyncio.get_running_loop(), b""
    async with asyncio.timeout(PATIENCE):
        with contextlib.suppress(ConnectionError):
            while some := await loop.sock_recv(connection, 65536):
                received += some
    return received


async def send_until_refused(connection: socket.socket, piece: bytes, *, every: float) -> None:
    """Seconds between two pieces."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(PATIENCE):
        with contextlib.suppress(ConnectionError):
            while True:
                await loop.sock_sendall(connection, piece)
                await asyncio.sleep(every)


async def until(holds: Callable[[], Any], what: str) -> None:
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while not holds():
        assert asyncio.get_running_loop().time() < deadline, f"not within {PATIENCE:g} s: {what}"
        await asyncio.sleep(0.01)


def answers(received: bytes) -> Iterator[bytes]:
    """The status lines."""
    return (line for line in received.split(b"\r\n") if line.startswith(b"HTTP/"))
