"""R6 in the runtime: what a replica says in its last record when it ends, is interrupted, or loses a partition for a moment."""

from __future__ import annotations

import asyncio
import dataclasses

import msgspec
from msgspec import UNSET

from daemon import config
from daemon.commands.repair.journal_repair import inspect_partition, renew
from daemon.core.answers import NoAnswer, NoAnswerReason, SubmitAnswer
from daemon.core.journal import Position
from daemon.core.operation import Operation
from daemon.core.takeover import Released
from daemon.runtime.posts import Posts
from tests.unit.log_world import Api, LogWorld

SOON = 0.05


class SilentApi(Api):
    """Accepts nothing: a POST hangs, or breaks off at once."""

    hangs = True

    async def submit(self, operation: Operation, integration_id: str, body: bytes) -> SubmitAnswer:
        self.posted.append(body)
        if self.hangs:
            await asyncio.Event().wait()
        return NoAnswer(NoAnswerReason.CONNECT_ERROR, "cut")


def silent_world(*, hangs: bool) -> LogWorld:
    world = LogWorld(1)
    world.api = SilentApi(world.api.simulator)
    world.api.hangs = hangs
    world.settings = dataclasses.replace(
        world.settings,
        drain=config.DrainSettings(timeout=SOON),
        http=config.HttpSettings(deadline=300.0),
    )
    return world


async def posted(world: LogWorld) -> None:
    """One batch is sealed and POSTed."""
    world.publish(0, "a")
    await world.until(lambda: world.api.posted, "a POST")


def position(world: LogWorld) -> Position:
    found = world.fold(0).position
    assert found is not None
    return found


def batch(world: LogWorld) -> str:
    (batch_id,) = world.fold(0).batches
    return batch_id


async def test_a_drain_that_interrupts_a_call_names_its_batch() -> None:
    async with silent_world(hangs=True) as world:
        await world.start()
        await posted(world)
        await world.stop()
        assert position(world).released == Released((batch(world),))


async def test_a_call_that_broke_off_may_reach_the_api_until_its_deadline() -> None:
    async with silent_world(hangs=False) as world:
        await world.start()
        await posted(world)
        await world.stop()
        assert position(world).released == Released((batch(world),))


async def test_a_partition_that_is_revoked_for_a_moment_says_so_and_takes_it_back() -> None:
    async with silent_world(hangs=True) as world:
        await world.start()
        await posted(world)
        before = len(world.journal(0))
        world.cluster.rebalance(world.topics.changes)
        await world.until(lambda: len(world.journal(0)) > before, "a commit that proves the ownership")
        await world.running(0)
        await world.until(lambda: position(world).released is UNSET, "a position without it")


async def test_a_repair_repeats_what_the_last_owner_said_not_the_one_at_the_inspection() -> None:
    async with silent_world(hangs=True) as world:
        await world.start()
        await posted(world)
        await world.stop()
        found = await inspect_partition(world.repair_log, 0, world.topics)
        assert found.position is not None
        assert found.position.released is not UNSET
        before = len(world.journal(0))
        await world.start()
        await world.until(lambda: position(world).released is UNSET, "the first record of the next owner")
        assert len(world.journal(0)) > before
        await renew(
            world.repair_log, found, msgspec.structs.replace(found.position, partitions=1), world.topics
        )
        values = [value for key, value in world.journal(0) if key == b'["position"]' and value]
        assert b"released" not in values[-1]


def test_posts() -> None:
    posts = Posts()
    posts.started("a")
    posts.started("b")
    posts.started("c")
    posts.answered("a")
    posts.unanswered("b", until=10.0)
    assert posts.in_flight(9.0) == ["b", "c"]
    assert posts.in_flight(10.0) == ["c"]
    posts.started("b")
    assert set(posts.in_flight(11.0)) == {"b", "c"}
