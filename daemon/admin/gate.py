"""Accepts the connections of the admin port, and bounds their number, duration and rate.

How it works. A connection carries one request. It is closed after the answer, and at the latest after
`CONNECTION_SECONDS_MAX`. This deadline covers a client that sends nothing, one that sends a byte per second and one that
never reads its answer. If there are more than `CONNECTIONS_MAX` connections, the oldest one is closed; the newest one is not
refused. A probe is answered within milliseconds, so the oldest connection is not a probe.

asyncio's own accept loop is not used. When the process has no file descriptors left, that loop (CPython 3.11) logs one
traceback for each connection that its backlog can hold and schedules as many retries, each of which does the same: 800,000
tracebacks in three minutes were measured. Here, a failed accept is followed by a pause. One descriptor is reserved, so that
a probe is answered even if the rest of the process has used all others.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Callable
from typing import Any

import structlog

log = structlog.get_logger()

CONNECTIONS_MAX = 128
"""Far more than probes, scrapes and operators need at the same time, and an eighth of the usual 1,024 descriptors."""
CONNECTION_SECONDS_MAX = 10.0
"""Time from accepting a connection to the last byte of its answer. It equals the default scrape timeout of Prometheus, and
is twice the timeout of the chart's probes."""
SERVED_PER_ROUND = 16
ACCEPTS_PER_ROUND = 256
"""Includes connections whose client has already closed them: they cost a thirtieth of one that is served."""
ROUND_PAUSE = 0.02
"""Seconds between two rounds of accepting. With `SERVED_PER_ROUND`, at most 800 connections per second are served, in about
a quarter of the event loop's time. Further connections wait in the kernel's queue."""
LISTEN_BACKLOG = 1024
"""Connections that can wait in that queue, where they use no descriptor of this process. A full queue drops the handshake of
a probe. A queue of this length is emptied within two seconds."""
OUT_OF_FILES_PAUSE = 0.1
"""Seconds until the next attempt to accept when there is no descriptor left. At that point, connections that have been open
for longer than this are closed."""
DESCRIPTORS_MAX = CONNECTIONS_MAX + 2 * SERVED_PER_ROUND
"""Maximum number of descriptors of the admin port, including connections that are being set up or closed."""
_LOOK_EVERY = 1.0
"""Seconds between two checks for connections that are too old."""
_LOG_INTERVAL = 60.0
"""Seconds within which each of the two log lines is written at most once."""
_NO_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Gate:
    """Accepts connections. All methods are called in the event loop.

    The protocol that `make_protocol` returns must call `opened` and `closed`.
    """

    def __init__(
        self,
        make_protocol: Callable[[], asyncio.BaseProtocol],
        *,
        connections_max: int = CONNECTIONS_MAX,
        seconds_max: float = CONNECTION_SECONDS_MAX,
    ) -> None:
        self._make_protocol = make_protocol
        self._connections_max = connections_max
        self._seconds_max = seconds_max
        self._loop = asyncio.get_running_loop()
        self._listening: list[socket.socket] = []
        self._setting_up: set[asyncio.Task[Any]] = set()
        self._since: dict[asyncio.Transport, float] = {}
        """When each connection was opened, the oldest first."""
        self._reserve: int | None = None
        self._evicted = 0
        self._logged_at: dict[str, float] = {}

    # --- life -------------------------------------------------------------------------------------

    async def listen(self, host: str, port: int) -> None:
        """Listen on every address of `host`.

        Raises:
            OSError: an address cannot be used (in use, not an address of this machine, not permitted).
        """
        found = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        try:
            for family, address in dict.fromkeys((entry[0], entry[4]) for entry in found):
                self._listening += _listen(family, address)
            if not self._listening:
                raise OSError(errno.EAFNOSUPPORT, f"this machine supports no address of {host}")
        except OSError:
            self.stop_listening()
            raise
        self._hold_reserve()
        for listening in self._listening:
            self._loop.add_reader(listening, self._accept, listening)
        self._loop.call_later(_LOOK_EVERY, self._look)

    @property
    def port(self) -> int:
        """The port on which the gate listens."""
        port: int = self._listening[0].getsockname()[1]
        return port

    def stop_listening(self) -> None:
        """Stop accepting connections. Open ones stay open. Idempotent."""
        for task in self._setting_up:
            task.cancel()
        for listening in self._listening:
            self._loop.remove_reader(listening)
            listening.close()
        self._listening.clear()
        self._release_reserve()

    def abort(self) -> None:
        """Close all open connections."""
        for transport in self._since:
            transport.abort()

    # --- connections ------------------------------------------------------------------------------

    def opened(self, transport: asyncio.Transport) -> None:
        self._since[transport] = self._loop.time()
        if len(self._since) > self._connections_max:
            self._evict()

    def closed(self, transport: asyncio.Transport) -> None:
        """Called by the protocol immediately before asyncio closes the socket."""
        self._since.pop(transport, None)
        self._loop.call_soon(self._hold_reserve)

    def _evict(self) -> None:
        """Close the oldest connection."""
        transport = next(iter(self._since))
        del self._since[transport]  # at once, so that the next eviction in this round finds another one
        transport.abort()
        self._evicted += 1

    def _look(self) -> None:
        if not self._listening:
            return
        self._close_older_than(self._seconds_max)
        if self._evicted and self._may_log("admin.crowded"):
            log.warning("admin.crowded", connections_max=self._connections_max, closed=self._evicted)
            self._evicted = 0
        self._loop.call_later(_LOOK_EVERY, self._look)

    def _close_older_than(self, seconds: float) -> None:
        last = self._loop.time() - seconds
        for transport, since in self._since.items():
            if since > last:
                break
            transport.abort()

    # --- accepting --------------------------------------------------------------------------------

    def _accept(self, listening: socket.socket) -> None:
        """One round of accepting."""
        served = 0
        for _ in range(ACCEPTS_PER_ROUND):
            try:
                connection, _address = listening.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _NO_RESOURCES:
                    self._out_of_files(listening, error)
                    return
                continue  # an error of this one connection, which is gone
            connection.setblocking(False)
            if _is_gone(connection):
                connection.close()
                continue
            task = self._loop.create_task(self._set_up(connection))
            self._setting_up.add(task)
            task.add_done_callback(self._setting_up.discard)
            served += 1
            if served == SERVED_PER_ROUND:
                break
        self._pause(listening, ROUND_PAUSE)

    async def _set_up(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._make_protocol, connection)
        except BaseException as error:
            connection.close()
            if not isinstance(error, OSError):
                raise

    def _out_of_files(self, listening: socket.socket, error: OSError) -> None:
        """An immediate retry would fail again, so pause. The connection stays in the kernel's queue meanwhile."""
        if self._may_log("admin.accept_failed"):
            log.error("admin.accept_failed", error=str(error))
        if self._release_reserve():
            self._pause(listening, 0.0)
        else:
            self._close_older_than(OUT_OF_FILES_PAUSE)
            self._pause(listening, OUT_OF_FILES_PAUSE)

    def _pause(self, listening: socket.socket, seconds: float) -> None:
        def resume() -> None:
            if listening in self._listening:
                self._loop.add_reader(listening, self._accept, listening)

        self._loop.remove_reader(listening)
        self._loop.call_later(seconds, resume)

    # --- the reserved descriptor ------------------------------------------------------------------

    def _hold_reserve(self) -> None:
        if self._reserve is None and self._listening:
            with contextlib.suppress(OSError):
                self._reserve = os.open(os.devnull, os.O_RDONLY)

    def _release_reserve(self) -> bool:
        """Close the reserved descriptor. Returns whether there was one."""
        if self._reserve is None:
            return False
        os.close(self._reserve)
        self._reserve = None
        return True

    def _may_log(self, event: str) -> bool:
        now, last = self._loop.time(), self._logged_at.get(event)
        if last is not None and now - last < _LOG_INTERVAL:
            return False
        self._logged_at[event] = now
        return True


def _listen(family: int, address: Any) -> list[socket.socket]:
    """Listen on this address. Returns no socket for a family that this machine does not support, such as disabled IPv6."""
    try:
        listening = socket.create_server(address, family=family, backlog=LISTEN_BACKLOG)
    except OSError as error:
        if error.errno == errno.EAFNOSUPPORT:
            return []
        raise
    listening.setblocking(False)
    return [listening]


def _is_gone(connection: socket.socket) -> bool:
    """Whether the client has closed the connection without sending a request."""
    try:
        return not connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True
