"""What the tests of the API's client share: calls, a key, a certificate, and a clock that a test moves on."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from daemon.core.answers import Accepted, TaskPending
from daemon.core.upsert import UPSERT
from daemon.kombo.api_key import ApiKeyFile
from daemon.kombo.client import KomboClient
from daemon.kombo.port import KomboApi
from tests.unit.misbehaving_server import answers

CANARY = "canary-2f7d1c9be0a84455"
INTEGRATION = "workday:HWUTwvyx2wLoSUHphiWVrp28"
TASK = "7FPJba3qRNBYaJgTvDKZi7mi"
BODY = b'{"items": [ ]}'  # spacing that a re-encoder would not keep
ITEMS = 100
ENDPOINTS = ["submit", "poll"]

TASK_ANSWER: dict[str, Any] = {
    "status": "success",
    "data": {
        "task_id": TASK,
        "status": "PENDING",
        "created_at": "2025-03-12T14:30:00.000Z",
        "completed_at": None,
    },
}
"""Understood as the answer to both calls."""
GOOD = answers(200, TASK_ANSWER)

PATIENT = 60.0
"""The deadline of all calls. None comes to it by itself: what would take forever is helped by `Clock`."""


@pytest.fixture
def key(tmp_path: Path) -> ApiKeyFile:
    path = tmp_path / "key"
    path.write_text(CANARY + "\n")
    return ApiKeyFile(path)


class Clock:
    """That of the event loop, which a test can move on: deadlines pass when it says so, however slow the machine."""

    def __init__(self) -> None:
        loop: Any = asyncio.get_running_loop()
        self._time, self._ahead = loop.time, 0.0
        loop.time = lambda: self._time() + self._ahead

    async def run_on(self, *calls: asyncio.Task[Any]) -> None:
        """Until the deadlines of these calls have passed, in steps between which something may come."""
        for _ in range(1000):
            if all(task.done() for task in calls):
                return
            self._ahead += PATIENT / 10
            await asyncio.sleep(0.01)
        pytest.fail("a call has no deadline")


@contextlib.asynccontextmanager
async def client(address: str, key: ApiKeyFile, **more: Any) -> AsyncIterator[KomboClient]:
    """With a single connection, so that a leaked one is noticed by the next call."""
    api = KomboClient(f"{address}/v1", key, PATIENT, **{"in_flight_max": 1} | more)
    try:
        yield api
    finally:
        await api.close()


async def call(api: KomboApi, endpoint: str) -> Any:
    return await (
        api.submit(UPSERT, INTEGRATION, BODY) if endpoint == "submit" else api.poll(INTEGRATION, TASK, ITEMS)
    )


def is_good(endpoint: str, said: object) -> bool:
    return isinstance(said, Accepted if endpoint == "submit" else TaskPending)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-keyout", folder / "key.pem", "-out", folder / "cert.pem", "-days", "2", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    return folder / "cert.pem", folder / "key.pem"
