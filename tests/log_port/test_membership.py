"""Who holds which partitions."""

from __future__ import annotations

import asyncio

import pytest

from daemon.log.port import Assigned, Records, Revoked

from .harness import PARTITIONS, Harness
from .world import Member, World

ALL = frozenset(range(PARTITIONS))


def shared(*members: Member) -> bool:
    """Each partition is held by one of the members, and each of them holds some."""
    held = [member.held or frozenset() for member in members]
    return all(held) and frozenset().union(*held) == ALL and sum(map(len, held)) == PARTITIONS


async def test_a_lone_member_first_hears_that_it_holds_every_partition(world: World) -> None:
    member = await world.join_alone()

    assert member.events[0] == Assigned(ALL)


async def test_two_members_share_the_partitions(world: World) -> None:
    first = await world.join_alone("a")
    second = await world.join("b")

    await world.until(lambda: shared(first, second), "two members that share the partitions")

    assert first.held is not None
    assert len(first.held) == PARTITIONS // 2


async def test_a_member_for_whom_nothing_is_left_hears_so(world: World) -> None:
    """It has joined, and is ready to take over: silence would mean that it has not."""
    members = [await world.join(name) for name in "abcde"[: PARTITIONS + 1]]

    def settled() -> bool:
        told = [member.events[-1] for member in members if member.events]
        shares = [len(event.partitions) for event in told if isinstance(event, Assigned)]
        return sorted(shares) == [0] + [1] * PARTITIONS

    await world.until(settled, "one partition each, and none for one of them")
    assert shared(*(member for member in members if member.held))


async def test_what_is_taken_away_is_revoked_before_the_next_assignment(world: World) -> None:
    first = await world.join_alone("a")
    second = await world.join("b")
    await world.until(lambda: shared(first, second), "two members that share the partitions")

    held: frozenset[int] = frozenset()
    for event in first.events:
        match event:
            case Assigned(partitions):
                assert held <= partitions, "an assignment took something away without a word"
                held = partitions
            case Revoked(partitions):
                assert partitions <= held, "what was never held was revoked"
                held -= partitions
    assert held == first.held


async def test_the_partitions_of_a_member_that_has_gone_move_to_the_others(
    world: World, harness: Harness
) -> None:
    first = await world.join_alone("a")
    second = await world.join("b")
    await world.until(lambda: shared(first, second), "two members that share the partitions")

    await second.stop()
    await harness.expire("b")

    await world.until(lambda: first.held == ALL, "the partitions of the member that has gone")


async def test_a_member_that_returns_has_its_partitions_again_and_the_other_notices_nothing(
    world: World, harness: Harness
) -> None:
    first = await world.join_alone("a")
    second = await world.join("b")
    await world.until(lambda: shared(first, second), "two members that share the partitions")
    before, heard = second.held, len(first.events)

    await second.stop()
    returned = await world.join("b")
    await world.until(lambda: returned.held is not None, "the partitions of the member that returned")

    assert returned.held == before
    assert first.held is not None
    untouched = min(first.held)
    [offset] = await harness.publish(untouched, [b"still mine"])
    first.log.begin(untouched, offset, token=1)
    await world.until(lambda: first.values(untouched) == [b"still mine"], "a record of the other member")
    assert [event for event in first.events[heard:] if not isinstance(event, Records)] == []


async def test_a_member_whose_identity_was_taken_over_can_not_go_on(world: World) -> None:
    first = await world.join_alone("a")
    second = await world.join("a")

    await world.until(lambda: second.held == ALL, "the partitions of the member that was replaced")
    await world.until(lambda: first.fatal is not None, "the end of the member that was replaced")


async def test_an_assignment_is_confirmed_to_its_holder_only(world: World, harness: Harness) -> None:
    first = await world.join_alone("a")
    assert await first.log.confirm_assignment(0, harness.patience)

    second = await world.join("b")
    await world.until(lambda: shared(first, second), "two members that share the partitions")

    assert first.held is not None
    assert second.held is not None
    for mine, other in ((first, second), (second, first)):
        assert mine.held is not None
        assert other.held is not None
        assert await mine.log.confirm_assignment(min(mine.held), harness.patience)
        assert not await mine.log.confirm_assignment(min(other.held), harness.patience)


async def test_a_member_that_has_stopped_is_not_confirmed(world: World) -> None:
    member = await world.join_alone()
    await member.stop()

    assert not await member.log.confirm_assignment(0, timeout=0.2)


@pytest.mark.parametrize("started", [True, False])
async def test_stopping_twice_is_the_same_as_once(harness: Harness, *, started: bool) -> None:
    log = harness.member("a")
    if started:
        await log.start()

    async with asyncio.timeout(harness.patience):
        await log.stop()
        await log.stop()
