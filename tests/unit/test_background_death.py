"""A background task that dies, or just ends, takes the engine with it: a half-dead daemon that reports health is
the worst of all."""

from __future__ import annotations

import asyncio

import pytest

from daemon.runtime.engine import Engine
from daemon.runtime.halt import Halt
from daemon.runtime.input_monitor import InputMonitor
from daemon.runtime.partition import Partition
from daemon.runtime.poller import Poller
from daemon.runtime.submitter import Submitter
from tests.unit.log_world import PATIENCE, LogWorld

TASKS = [
    (Engine, "_follow_log"),
    (Halt, "run"),
    (InputMonitor, "run"),
    (Partition, "run"),
    (Poller, "run"),
    (Submitter, "run"),
]


class BrokenError(Exception):
    pass


@pytest.mark.parametrize(("owner", "method"), TASKS)
@pytest.mark.parametrize("dies", [True, False])
async def test_the_engine_ends_with_the_first_task_that_does(
    owner: type, method: str, *, dies: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = asyncio.Event()

    async def broken(_self: object) -> None:
        await release.wait()
        if dies:
            raise BrokenError

    monkeypatch.setattr(owner, method, broken)
    async with LogWorld() as world:
        await world.start()
        assert world._running is not None
        _, running = world._running
        if owner is Partition:
            await world.until(lambda: world.health.partitions, "an assignment")
        assert not running.done()

        release.set()
        with pytest.raises(
            BrokenError if dies else RuntimeError, match=None if dies else "ended unexpectedly"
        ):
            await asyncio.wait_for(running, PATIENCE)
