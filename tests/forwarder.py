"""A TCP forwarder: the one address that stays the same while what is behind it moves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Forwarder:
    """Clients that arrive while there is no target are turned away."""

    def __init__(self, target: str) -> None:
        self.target: str | None = target
        """``host:port``; for connections made from now on."""
        self.arrivals = 0
        self._server: asyncio.Server | None = None
        self._at_work: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        """``host:port`` for clients."""
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()
        return f"{host}:{port}"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._at_work:
            task.cancel()
        await asyncio.gather(*self._at_work, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.arrivals += 1
        task = asyncio.current_task()
        assert task is not None
        self._at_work.add(task)
        task.add_done_callback(self._at_work.discard)
        with contextlib.closing(writer), contextlib.suppress(OSError, asyncio.CancelledError):
            if self.target is None:
                return
            host, _, port = self.target.rpartition(":")
            their_reader, their_writer = await asyncio.open_connection(host, int(port))
            with contextlib.closing(their_writer):
                ways = [
                    asyncio.ensure_future(_copy(reader, their_writer)),
                    asyncio.ensure_future(_copy(their_reader, writer)),
                ]
                try:
                    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for way in ways:
                        way.cancel()
                    await asyncio.gather(*ways, return_exceptions=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()


@contextlib.asynccontextmanager
async def forwarding(target: str) -> AsyncIterator[Forwarder]:
    forwarder = Forwarder(target)
    await forwarder.start()
    try:
        yield forwarder
    finally:
        await forwarder.stop()
