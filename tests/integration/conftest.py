"""What several tests on a real broker start with."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from daemon.log.port import Topics
from daemon.runtime import input_monitor
from tests.integration.trouble_world import KEY, Site
from tests.sandbox.simulator.faults import NONE
from tests.sandbox.simulator.server import listening
from tests.sandbox.simulator.state import Simulator


@pytest.fixture
async def site(
    kafka_bootstrap: str, topic_names: Topics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Site]:
    monkeypatch.setattr(input_monitor, "INTERVAL", 0.5)
    key_file = tmp_path / "key"
    key_file.write_text(KEY)
    simulator = Simulator(
        rng=random.Random(1), now=time.time_ns() // 1_000_000, api_key=KEY, plan=NONE, task_seconds=0.0
    )
    async with listening(simulator, "127.0.0.1", 0) as url:
        site = Site(kafka_bootstrap, topic_names, f"{url}/v1", key_file)
        try:
            made = await site.run("topics", "create", "--partitions", "2")
            assert made.exit_code == 0, made.output
            yield site
        finally:
            await asyncio.to_thread(site.admin.close)
