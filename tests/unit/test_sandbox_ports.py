"""Ports that are given out are nobody else's, and good for a server at any time."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys

import pytest

from tests.sandbox import ports
from tests.sandbox.ports import free_ports
from tests.sandbox.process import SandboxError

ANOTHER_PROCESS = """
from tests.sandbox import ports
ports._PORTS = range({port}, {port} + 1)
print(ports.free_ports(1))
"""


def test_they_are_different() -> None:
    assert len(set(free_ports(20))) == 20


@pytest.mark.skipif(sys.platform != "linux", reason="a bound port is in the way of a server elsewhere")
def test_one_whose_server_is_not_up_is_given_to_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    (port,) = free_ports(1)
    command = [sys.executable, "-c", ANOTHER_PROCESS.format(port=port)]
    other = subprocess.run(command, capture_output=True, text=True, check=False)
    assert other.returncode != 0
    assert "no 1 free ports" in other.stderr

    monkeypatch.setattr(ports, "_PORTS", range(port, port + 1))
    with pytest.raises(SandboxError, match="no 1 free ports"):
        free_ports(1)


async def test_a_server_can_be_started_there_and_started_again() -> None:
    (port,) = free_ports(1)
    for _ in range(2):
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", port)
        with socket.create_connection(("127.0.0.1", port)):
            pass
        server.close()
        await server.wait_closed()
