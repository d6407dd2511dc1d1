"""A partition at its limit: what its operator sees of it, and that it goes on by itself."""

from __future__ import annotations

from dataclasses import replace

import pytest

from daemon import config
from daemon.core.waiting import WaitReason
from daemon.runtime import input_monitor
from tests.embedded_log.client import RECORDS_MAX
from tests.unit.log_world import LogWorld, now_ms


async def test_a_paused_partition_shows_itself_and_what_piles_up_and_goes_on_when_there_is_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(input_monitor, "INTERVAL", 0.02)
    async with LogWorld() as world:
        world.settings = replace(
            world.settings,
            window=config.WindowSettings(batches_max=1),
            batch=config.BatchSettings(linger=0.02, items_max=1),
            backlog=config.BacklogSettings(courses_max=3),
            retry=config.RetrySettings(backoff_min=0.01, backoff_max=0.05),
        )
        world.api.simulator.set_outage(now_ms(), 3600, "error")
        await world.start()

        world.publish(0, "abcd")
        await world.until(lambda: world.metrics.snapshot().paused == 1, "the pause")
        world.publish(0, "efghi")
        await world.until(lambda: world.metrics.snapshot().lag[0].records == 5, "the lag")
        assert world.metrics.snapshot().waiting[WaitReason.WINDOW].changes == 3
        assert world.results() == []

        world.api.simulator.set_outage(now_ms(), 0, "error")
        await world.until(lambda: len(world.results()) == 9, "the results")
        await world.until(lambda: world.metrics.snapshot().paused == 0, "the end of the pause")
        await world.until(lambda: world.metrics.snapshot().lag[0].records == 0, "the end of the lag")


async def test_what_was_read_and_not_yet_admitted_counts_against_the_backlog() -> None:
    """A long topic, and nothing full that would end the linger early: all of it was read meanwhile."""
    courses_max, published = 300, 6000
    async with LogWorld() as world:
        world.settings = replace(
            world.settings,
            window=config.WindowSettings(batches_max=1),
            batch=config.BatchSettings(linger=3600.0, items_max=1000),
            backlog=config.BacklogSettings(courses_max=courses_max),
        )
        world.publish(0, [f"course-{number}" for number in range(published)])
        await world.start()

        def paused_or_read() -> bool:
            now = world.metrics.snapshot()
            return now.paused == 1 or (0 in now.lag and now.lag[0].records == 0)

        await world.until(paused_or_read, "the pause")
        read = published - (world.metrics.snapshot().lag[0].records or 0)
        assert courses_max <= read <= courses_max + 2 * RECORDS_MAX
        assert world.metrics.snapshot().paused == 1
        assert not world.api.posted
