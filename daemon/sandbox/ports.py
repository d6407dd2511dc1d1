"""Free TCP ports on 127.0.0.1."""

from __future__ import annotations

import contextlib
import random
import socket

from daemon.sandbox.process import SandboxError

_PORTS = range(20_000, 32_000)
"""Below the range that systems take ports of outgoing connections from (Linux: from 32768). A port
in that range could be taken while its server is down, even by a client that reconnects to itself."""

_TRIES = 200


def free_ports(count: int) -> list[int]:
    """So many different ports that nobody listens on now, and that stay good over a server's restarts.

    Raises:
        SandboxError: too few were found.
    """
    with contextlib.ExitStack() as held:
        ports: list[int] = []
        for port in random.sample(_PORTS, _TRIES):
            listener = held.enter_context(socket.socket())
            # As servers do: a connection that lingers from before does not count.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                listener.bind(("127.0.0.1", port))
                ports.append(port)
            if len(ports) == count:
                return ports
    raise SandboxError(f"no {count} free ports on 127.0.0.1 between {_PORTS.start} and {_PORTS.stop}")
