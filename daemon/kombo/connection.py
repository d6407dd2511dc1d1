"""Connections that carry one answer for each request, and nothing else.

aiohttp takes whatever arrives on a connection as the answer to the request that is sent next. A proxy that sends an
answer twice, or too late, thus answers a request that the API never saw. It also believes an answer that began while
the request was still being written. So each connection has a gate in front of aiohttp's parser, with these states::

    NEW ──settled──→ IDLE ──send──→ SENDING ──written──→ SENT ──first byte──→ ANSWERING ──┐
     │                 ↑                                                                  │
     └─CONNECT─→ TUNNEL└────────────────── answer complete, no byte more ─────────────────┘

Bytes that arrive in any other state than SENT, ANSWERING and TUNNEL were not asked for. They reach no parser: the
connection is aborted, and a call that was using it gets `UnaskedBytesError`. An idle connection is looked at once
more before a request is written to it, since bytes may have reached the kernel and not yet the event loop.

Not detectable: unasked bytes that arrive after the request has been written and before its answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import ssl
import struct
from collections.abc import Iterator
from contextvars import ContextVar
from enum import Enum, auto
from functools import partial
from typing import Any, NamedTuple

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest
from aiohttp.connector import Connection
from aiohttp.streams import StreamReader

KEEP_ALIVE_SECONDS = 15.0
"""Shorter than the keep-alive of common servers, so that this client closes idle connections. A POST on a connection
that the server is closing at that moment has unknown fate.
"""
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class UnaskedBytesError(aiohttp.ClientError):
    """Bytes arrived that cannot be the answer to the request."""


class _State(Enum):
    NEW = auto()
    TUNNEL = auto()
    """A connection to a proxy that is asked to open a tunnel. The connection in the tunnel has a gate of its own."""
    IDLE = auto()
    SENDING = auto()
    SENT = auto()
    """aiohttp has written the request; its end may still be in a buffer of this process."""
    ANSWERING = auto()


class AnswerGate(ResponseHandler):
    """The protocol of one connection."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._state = _State.NEW
        self._answer: StreamReader | None = None
        """The body of the answer, once its head has arrived. Interim answers (1xx) have none."""
        self.served = False
        """Whether the connection has carried a request."""

    async def settled(self) -> bool:
        """Let the event loop read what has arrived. Returns whether the connection can carry a request."""
        while self.is_connected() and _readable(self.transport):  # noqa: ASYNC110 - the event loop reads meanwhile
            await asyncio.sleep(0)
        self._state = _State.IDLE
        return self.is_connected()

    def request_begins(self) -> None:
        self._state = _State.SENDING
        self._answer = None
        self.served = True

    def request_written(self) -> None:
        if self._state is _State.SENDING:
            self._state = _State.SENT

    # --- called by aiohttp ------------------------------------------------------------------------

    def set_response_params(self, **params: Any) -> None:
        if self._state is _State.NEW:  # for the answer to CONNECT; otherwise the connection is settled first
            self._state = _State.TUNNEL
        super().set_response_params(**params)

    def pause_reading(self) -> None:
        """The reader of a large answer is slower than the network. The parser then keeps bytes to itself, so it is
        not known whether they go beyond the answer: the connection is not used again.
        """
        self.force_close()
        super().pause_reading()

    def data_received(self, data: bytes) -> None:
        if not data or self._state is _State.TUNNEL:  # no data: the parser continues after a pause
            super().data_received(data)
            return
        if self._state is _State.SENT and _unwritten(self.transport) == 0:
            self._state = _State.ANSWERING
        if self._state is not _State.ANSWERING or self._is_complete():
            self._refuse()
            return
        # The parser does not say how much of the data belongs to the answer. If the answer is complete without the
        # last byte, that byte is surplus.
        if len(data) > 1:
            super().data_received(data[:-1])
        if self._is_complete():
            self._abort()
        elif self.exception() is None:
            super().data_received(data[-1:])

    def feed_data(self, data: Any, size: int = 0) -> None:
        """A head was parsed."""
        message, body = data
        if self._answer is not None:
            return  # a second answer, which came with the first one
        if message.code >= 200 or message.code == 101:
            self._answer = body
        super().feed_data(data, size)

    # ----------------------------------------------------------------------------------------------

    def _is_complete(self) -> bool:
        return self._answer is not None and self._answer.is_eof()

    def _refuse(self) -> None:
        if self._state in (_State.SENDING, _State.SENT):
            error = UnaskedBytesError("an answer began before the request was written completely")
        else:
            error = UnaskedBytesError("bytes arrived although no request was open")
        self.set_exception(error)
        self._abort()

    def _abort(self) -> None:
        self.force_close()
        if self.transport is not None:
            self.transport.abort()


class GatedRequest(ClientRequest):
    """Tells the gate what is being written, and `reset_on_failure` to which connection."""

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        gate = conn.protocol
        assert isinstance(gate, AnswerGate)
        if isinstance(conn.transport, asyncio.Transport):
            sock = conn.transport.get_extra_info("socket")
            _used.get().append(_Used(conn, conn.transport, sock))
        gate.request_begins()
        response = await super().send(conn)
        if not self.body:
            gate.request_written()
        return response

    async def write_bytes(self, writer: Any, conn: Connection, content_length: int | None = None) -> None:
        gate = conn.protocol
        await super().write_bytes(writer, conn, content_length)
        if isinstance(gate, AnswerGate):
            gate.request_written()


class GatedConnector(aiohttp.TCPConnector):
    """A pool of connections with gates. `GatedRequest` has to be the session's class of requests.

    Args:
        limit: maximum number of connections.
        tls: for https.
    """

    def __init__(self, limit: int, tls: ssl.SSLContext) -> None:
        super().__init__(limit=limit, keepalive_timeout=KEEP_ALIVE_SECONDS, ssl=tls)
        self._factory = partial(AnswerGate, loop=self._loop)  # type: ignore[assignment]  # partial is invariant

    async def connect(self, req: ClientRequest, traces: Any, timeout: aiohttp.ClientTimeout) -> Connection:
        """A connection on which nothing has arrived since its last answer. Others are closed."""
        while True:
            connection = await super().connect(req, traces, timeout)
            gate = connection.protocol
            assert isinstance(gate, AnswerGate)
            try:
                if await gate.settled():
                    return connection
            except BaseException:
                connection.close()
                raise
            problem = gate.exception()
            connection.close()
            if not gate.served:
                raise problem or aiohttp.ServerDisconnectedError


def _readable(transport: asyncio.Transport | None) -> bool:
    """Whether the kernel has bytes, or the end of the stream, that the event loop has not read."""
    if transport is None:
        return False
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _unwritten(transport: asyncio.Transport | None) -> int:
    """Bytes that the kernel has not taken yet. A TLS transport does not count those of the TCP transport beneath it,
    and has no public way to that transport.
    """
    if transport is None:
        return 0
    beneath = getattr(getattr(transport, "_ssl_protocol", None), "_transport", None)
    return transport.get_write_buffer_size() + (beneath.get_write_buffer_size() if beneath else 0)


# --- connections of calls that fail ---------------------------------------------------------------


class _Used(NamedTuple):
    connection: Connection
    transport: asyncio.Transport
    sock: socket.socket
    """A TLS transport whose connection was lost does not return it any more."""


_used: ContextVar[list[_Used]] = ContextVar("used")
"""The connections that the current call was written to. aiohttp itself exposes them only after the answer."""


@contextlib.contextmanager
def reset_on_failure() -> Iterator[None]:
    """If the call ends early for any reason, drop its connection with everything buffered here and in the kernel."""
    used: list[_Used] = []
    token = _used.set(used)
    try:
        yield
    except BaseException:
        for connection, transport, sock in used:
            back_in_pool = connection.closed and not transport.is_closing()
            if not back_in_pool:
                with contextlib.suppress(OSError):  # closed already
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                transport.abort()
        raise
    finally:
        _used.reset(token)
