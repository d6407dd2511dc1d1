"""The contract of the log port, tested on every implementation of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from .harness import Harness
from .world import World

OpenHarness = Callable[[], Awaitable[Harness]]


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def open_harness(request: pytest.FixtureRequest) -> OpenHarness:
    # The modules are imported here, so that the one log can be tested where the other's client is broken.
    if request.param == "embedded":
        from .embedded_harness import EmbeddedHarness  # noqa: PLC0415

        return EmbeddedHarness.create
    from .kafka_harness import KafkaHarness  # noqa: PLC0415

    bootstrap: str = request.getfixturevalue("kafka_bootstrap")
    return lambda: KafkaHarness.create(bootstrap)


@pytest.fixture
async def harness(open_harness: OpenHarness) -> AsyncIterator[Harness]:
    harness = await open_harness()
    try:
        yield harness
    finally:
        await harness.close()


@pytest.fixture
async def world(harness: Harness) -> AsyncIterator[World]:
    world = World(harness)
    try:
        yield world
    finally:
        await world.close()
