"""An HTTP server on a real socket that does exactly what a test tells it, the wrong things included."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import NamedTuple


class Request(NamedTuple):
    method: str
    target: str
    headers: dict[str, str]
    body: bytes


Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""Gets the connection once a request was read from it. Returning leaves the connection open."""


@dataclass
class Server:
    behave: list[Behaviour]
    """One for each request, in order; the last one serves all that follow."""
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    """Of all connections, in order."""
    address: str = ""
    seen: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        try:
            while (request := await read_request(reader)) is not None:
                self.requests.append(request)
                behaviour = self.behave[min(len(self.requests), len(self.behave)) - 1]
                async with self.seen:
                    self.seen.notify_all()
                await behaviour(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has gone, as it should from most of these
        finally:
            writer.close()

    async def until_requests(self, count: int) -> None:
        async with asyncio.timeout(60), self.seen:
            await self.seen.wait_for(lambda: len(self.requests) >= count)

    def count(self, method: str) -> int:
        return sum(request.method == method for request in self.requests)


@contextlib.asynccontextmanager
async def serving(*behave: Behaviour, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    server = Server(list(behave))
    tasks: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(server.handle(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    listener = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    port = listener.sockets[0].getsockname()[1]
    server.address = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    try:
        yield server
    finally:
        listener.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("utf-8").split("\r\n")
    except asyncio.IncompleteReadError:
        return None
    method, target, _ = head[0].split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])}
    return Request(method, target, headers, await reader.readexactly(int(headers.get("content-length", 0))))


# --- behaviours -----------------------------------------------------------------------------------


def sends(data: bytes, *, then: str = "stay") -> Behaviour:
    """These bytes; then `stay`, `close` (FIN) or `reset` (RST)."""

    async def behaviour(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        if then == "reset":
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if then != "stay":
            writer.close()

    return behaviour


def answers(status: int, body: object, **headers: str) -> Behaviour:
    """A whole answer; the connection stays open."""
    return sends(answer(status, body, **headers))


def answer(status: int, body: object, **headers: str) -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = {"Content-Length": str(len(content)), **headers}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} Status\r\n{lines}\r\n".encode() + content


def repeats(head: bytes, piece: bytes, pause: float = 0.0) -> Behaviour:
    """A head and then the piece forever, until the client has had enough."""

    async def behaviour(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while True:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)

    return behaviour


async def is_silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await writer.wait_closed()
