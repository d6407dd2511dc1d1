"""Free TCP ports on 127.0.0.1."""

from __future__ import annotations

import random
import socket
import sys

from tests.sandbox.process import SandboxError

_PORTS = range(20_000, 32_000)
"""Below the range of ports for outgoing connections (on Linux from 32768). A port in that range could be taken while its
server is down, even by a client that connects to itself."""

_TRIES = 200

_held: list[socket.socket] = []
"""Sockets bound to the ports that were given out, for the lifetime of this process. So no other process that searches for
ports gets one whose server is not running at the moment. A bound socket that does not listen does not block a server that
sets SO_REUSEADDR, as all of them do; this holds only on Linux."""


def free_ports(count: int) -> list[int]:
    """`count` different ports that are not in use, and that stay available over restarts of a server.

    Raises:
        SandboxError: too few were found.
    """
    found: list[socket.socket] = []
    for port in random.sample(_PORTS, min(_TRIES, len(_PORTS))):
        holder = socket.socket()
        try:
            holder.bind(("127.0.0.1", port))
        except OSError:
            holder.close()
            continue
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.append(holder)
        if len(found) == count:
            break
    ports: list[int] = [holder.getsockname()[1] for holder in found]
    if sys.platform == "linux" and len(ports) == count:
        _held.extend(found)
    else:
        for holder in found:
            holder.close()
    if len(ports) < count:
        raise SandboxError(f"no {count} free ports on 127.0.0.1 between {_PORTS.start} and {_PORTS.stop}")
    return ports
