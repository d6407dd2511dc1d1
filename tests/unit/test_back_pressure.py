"""A partition at its limit: what its operator sees of it, and that it goes on by itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
from log_world import LogWorld, now_ms

from daemon import config
from daemon.runtime import inspection


async def test_a_paused_partition_shows_itself_and_what_piles_up_and_goes_on_when_there_is_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inspection, "INTERVAL", 0.02)
    async with LogWorld() as world:
        world.settings = replace(
            world.settings,
            window=config.Window(batches_max=1),
            batch=config.Batch(linger=0.02, items_max=1),
            backlog=config.Backlog(courses_max=3),
            retry=config.Retry(backoff_min=0.01, backoff_max=0.05),
        )
        world.api.simulator.set_outage(now_ms(), 3600, "error")
        await world.start()

        world.publish(0, "abcd")
        await world.until(lambda: world.metrics.snapshot().paused == 1, "the pause")
        world.publish(0, "efghi")
        await world.until(lambda: world.metrics.snapshot().lag[0].records == 5, "the lag")
        assert sum(world.metrics.snapshot().waiting.values()) == 3
        assert world.results() == []

        world.api.simulator.set_outage(now_ms(), 0, "error")
        await world.until(lambda: len(world.results()) == 9, "the results")
        await world.until(lambda: world.metrics.snapshot().paused == 0, "the end of the pause")
        assert world.metrics.snapshot().lag[0].records == 0
