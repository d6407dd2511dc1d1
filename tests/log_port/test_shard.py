"""One partition's journal: commits, fencing, restoring, reading back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from daemon.log.errors import CommitFailedError, CorruptJournalError, FencedError, RecordRefusedError
from daemon.log.port import Message, ShardLog, Transaction

from .harness import PARTITIONS, Harness
from .world import World, fold, is_increasing, restored


def record(key: bytes, value: bytes | None) -> Transaction:
    """A transaction that writes one journal record."""
    return Transaction(journal=[(key, value)])


async def written(harness: Harness) -> dict[str, list[bytes | None]]:
    """The values that others can see of everything a shard writes."""
    topics = harness.topics
    return {
        topic: [record.value for record in await harness.read_committed(topic)]
        for topic in (topics.journal, topics.results, topics.dead_letters)
    }


async def test_everything_of_a_commit_is_visible_when_it_returns(world: World, harness: Harness) -> None:
    member = await world.join_alone()
    shard = await world.open_shard(member, 2)
    topics = harness.topics
    nothing: list[bytes | None] = []
    assert await written(harness) == {
        topics.journal: nothing,
        topics.results: nothing,
        topics.dead_letters: nothing,
    }

    await shard.commit(
        Transaction(
            journal=[(b"batch", b"frozen"), (b"position", b"7")],
            results=[Message(b"course", b"result", (("content-type", b"application/json"),))],
            dead_letters=[
                Message(None, b"garbage", (("reason", b"malformed"), ("reason", b"again"), ("null", None)))
            ],
            position=7,
        )
    )

    assert [(r.key, r.value) for r in await harness.read_committed(topics.journal)] == [
        (b"batch", b"frozen"),
        (b"position", b"7"),
    ]
    [result] = await harness.read_committed(topics.results)
    assert (result.key, result.value) == (b"course", b"result")
    assert result.headers == (("content-type", b"application/json"),)
    [dead_letter] = await harness.read_committed(topics.dead_letters)
    assert (dead_letter.key, dead_letter.value) == (None, b"garbage")
    assert dead_letter.headers == (("reason", b"malformed"), ("reason", b"again"), ("null", None))


async def test_a_commit_tells_where_and_when_each_journal_record_was_written(world: World) -> None:
    member = await world.join_alone()
    shard = await world.open_shard(member, 0)
    entries: list[list[tuple[bytes, bytes | None]]] = [
        [(b"a", b"1"), (b"b", b"2")],
        [(b"a", None)],
        [(b"c", b"3"), (b"a", b"4"), (b"d", b"")],
    ]

    commits = [await shard.commit(Transaction(journal=journal)) for journal in entries]

    for journal, committed in zip(entries, commits, strict=True):
        for (key, value), offset in zip(journal, committed.offsets, strict=True):
            found = await shard.read_back(offset)
            assert (found.offset, found.key, found.value) == (offset, key, value)
        assert found.timestamp == committed.appended_at, "the last of them has the broker's own time (R6)"


async def test_there_is_nothing_to_read_back_where_nothing_was_written(world: World) -> None:
    member = await world.join_alone()
    shard = await world.open_shard(member, 0)
    [first], _ = await shard.commit(record(b"a", b"1"))
    [second], _ = await shard.commit(record(b"b", b"2"))
    assert second > first + 1, "the end of a transaction takes an offset"

    for missing in (first + 1, second + 1000):
        with pytest.raises(CorruptJournalError):
            await shard.read_back(missing)


async def courses(shard: ShardLog, end: int) -> list[tuple[bytes | None, bytes | None]]:
    return [(each.key, each.value) async for records in shard.courses(end) for each in records]


async def test_courses_are_written_with_the_journal_and_read_back_up_to_an_end(
    world: World, harness: Harness
) -> None:
    member = await world.join_alone()
    shard = await world.open_shard(member, 1)
    assert await courses(shard, await shard.courses_end()) == []
    await shard.commit(Transaction([(b"position", b"1")], courses=[(b"a", b"1"), (b"b", b"1")]))
    end = await shard.courses_end()
    await shard.commit(Transaction([(b"position", b"2")], courses=[(b"c", b"2"), (b"c", None)]))
    assert await courses(shard, end) == [(b"a", b"1"), (b"b", b"1")], "nothing after the end"
    found = await harness.read_committed(harness.topics.courses)
    assert [(each.key, each.value) for each in found][:3] == [(b"a", b"1"), (b"b", b"1"), (b"c", b"2")]
    other = await world.open_shard(member, 2)
    assert await courses(other, await other.courses_end()) == [], "each shard has a partition of its own"


async def test_courses_of_many_reads_are_complete_and_in_order(world: World) -> None:
    member = await world.join_alone()
    shard = await world.open_shard(member, 1)
    entries: list[tuple[bytes, bytes]] = [(b"%d" % number, b"1") for number in range(1200)]
    await shard.commit(Transaction([(b"position", b"1")], courses=entries))
    assert await courses(shard, await shard.courses_end()) == entries


async def test_reading_courses_can_end_early(world: World) -> None:
    member = await world.join_alone()
    shard = await world.open_shard(member, 1)
    entries: list[tuple[bytes, bytes]] = [(b"%d" % number, b"1") for number in range(1200)]
    await shard.commit(Transaction([(b"position", b"1")], courses=entries))
    others = asyncio.all_tasks()
    reading = shard.courses(await shard.courses_end())
    assert isinstance(reading, AsyncGenerator)
    assert await anext(reading)
    await reading.aclose()
    assert asyncio.all_tasks() <= others, "no read goes on"
    assert await courses(shard, await shard.courses_end()) == entries


async def test_courses_of_a_fenced_owner_are_not_written(world: World, harness: Harness) -> None:
    member = await world.join_alone()
    zombie = await world.open_shard(member, 1)
    owner = await world.open_shard(member, 1)
    end = await owner.courses_end()
    with pytest.raises(CommitFailedError):
        await zombie.commit(Transaction([(b"position", b"1")], courses=[(b"a", b"of the zombie")]))
    await owner.commit(Transaction([(b"position", b"2")], courses=[(b"a", b"of the owner")]))
    assert await courses(owner, end) == []
    assert [each.value for each in await harness.read_committed(harness.topics.courses)] == [b"of the owner"]


async def test_a_new_journal_restores_to_nothing(world: World) -> None:
    member = await world.join_alone()

    assert await restored(await world.open_shard(member, 3)) == []


async def test_restoring_gives_everything_up_to_the_last_commit_tombstones_included(world: World) -> None:
    member = await world.join_alone()
    shard = await world.open_shard(member, 1)
    await shard.commit(Transaction(journal=[(b"a", b"1"), (b"b", b"1")]))
    await shard.commit(Transaction(journal=[(b"a", b"2"), (b"c", b"1")]))
    await shard.commit(Transaction(journal=[(b"b", None)]))
    await shard.close()

    records = await restored(await world.open_shard(member, 1))

    assert fold(records) == {b"a": b"2", b"b": None, b"c": b"1"}
    assert is_increasing(records)


async def test_a_long_journal_is_restored_in_several_batches(world: World) -> None:
    member = await world.join_alone()
    shard = await world.open_shard(member, 1)
    for hundred in range(0, 2100, 300):
        await shard.commit(
            Transaction(journal=[(b"%d" % n, b"v%d" % n) for n in range(hundred, hundred + 300)])
        )

    successor = await world.open_shard(member, 1)
    assert successor.restore_remaining == 0
    batches, remaining = [], []
    async for batch in successor.restore():
        batches.append(batch)
        remaining.append(successor.restore_remaining)

    assert [r.value for batch in batches for r in batch] == [b"v%d" % n for n in range(2100)]
    assert len(batches) > 1
    assert remaining == sorted(remaining, reverse=True)
    assert remaining[0] >= 2100 - len(batches[0]), (
        "what is still to be read; beside records there are markers"
    )
    assert remaining[-1] <= len(batches), "no more than markers"
    assert successor.restore_remaining == 0


async def test_a_compacted_journal_restores_to_the_last_value_of_each_key(
    world: World, harness: Harness
) -> None:
    member = await world.join_alone()
    shard = await world.open_shard(member, 0)
    [overwritten], _ = await shard.commit(record(b"a", b"old"))
    [kept], _ = await shard.commit(record(b"b", b"only"))
    await shard.commit(Transaction(journal=[(b"a", b"new"), (b"c", b"1")]))
    await shard.commit(record(b"c", None))
    await shard.commit(record(b"end", b"1"))

    await harness.compact_journal(0)

    with pytest.raises(CorruptJournalError):
        await shard.read_back(overwritten)
    assert (await shard.read_back(kept)).value == b"only"
    records = await restored(await world.open_shard(member, 0))
    live = {key: value for key, value in fold(records).items() if value is not None}
    assert {key: live.get(key) for key in (b"a", b"b", b"c", b"end")} == {
        b"a": b"new",
        b"b": b"only",
        b"c": None,
        b"end": b"1",
    }
    assert is_increasing(records)
    assert b"old" not in [r.value for r in records]


async def test_a_successor_fences_its_predecessor(world: World, harness: Harness) -> None:
    member = await world.join_alone()
    first = await world.open_shard(member, 0)
    await first.commit(record(b"position", b"1"))

    second = await world.open_shard(member, 0)
    with pytest.raises(FencedError):
        await first.commit(
            Transaction(
                journal=[(b"position", b"of the first")],
                results=[Message(b"course", b"of the first")],
                dead_letters=[Message(b"key", b"of the first")],
            )
        )
    await second.commit(Transaction(journal=[(b"position", b"2")], results=[Message(b"course", b"2")]))

    assert fold(await restored(await world.open_shard(member, 0))) == {b"position": b"2"}
    topics = harness.topics
    assert await written(harness) == {
        topics.journal: [b"1", b"2"],
        topics.results: [b"2"],
        topics.dead_letters: [],
    }


async def test_a_predecessor_that_lost_its_partition_is_fenced_by_the_new_holder(
    world: World, harness: Harness
) -> None:
    first = await world.join_alone("a")
    shards = {partition: await world.open_shard(first, partition) for partition in range(PARTITIONS)}
    for partition, shard in shards.items():
        await shard.commit(record(b"position", b"%d of the first" % partition))

    second = await world.join("b")
    await world.until(lambda: bool(second.held), "partitions of the second member")
    assert second.held is not None
    moved = min(second.held)
    successor = await world.open_shard(second, moved)

    assert fold(await restored(successor)) == {b"position": b"%d of the first" % moved}
    with pytest.raises(FencedError):
        await shards[moved].commit(record(b"position", b"too late"))
    await successor.commit(record(b"position", b"of the second"))
    assert b"too late" not in [r.value for r in await harness.read_committed(harness.topics.journal)]


async def test_partitions_have_journals_and_fences_of_their_own(world: World) -> None:
    member = await world.join_alone()
    one = await world.open_shard(member, 0)
    other = await world.open_shard(member, 1)
    await one.commit(record(b"position", b"one"))

    successor = await world.open_shard(member, 0)
    await other.commit(record(b"position", b"other"))

    assert fold(await restored(successor)) == {b"position": b"one"}
    assert fold(await restored(await world.open_shard(member, 1))) == {b"position": b"other"}


async def test_a_commit_with_one_record_too_large_writes_nothing(world: World, harness: Harness) -> None:
    member = await world.join_alone()
    shard = await world.open_shard(member, 0)

    with pytest.raises(CommitFailedError):
        await shard.commit(
            Transaction(journal=[(b"position", b"1")], results=[Message(b"course", bytes(3 * 1024 * 1024))])
        )
    with pytest.raises(CommitFailedError):
        await shard.commit(record(b"position", b"2"))
    await shard.close()

    successor = await world.open_shard(member, 0)
    assert await restored(successor) == []
    await successor.commit(record(b"position", b"3"))
    topics = harness.topics
    assert await written(harness) == {topics.journal: [b"3"], topics.results: [], topics.dead_letters: []}


async def test_closing_twice_is_the_same_as_once_and_ends_its_use(world: World, harness: Harness) -> None:
    member = await world.join_alone()
    shard = await world.open_shard(member, 0)

    async with asyncio.timeout(harness.patience):
        await shard.close()
        await shard.close()

    with pytest.raises(CommitFailedError):
        await shard.commit(record(b"position", b"1"))


async def test_a_record_that_can_never_be_written_is_named(world: World, harness: Harness) -> None:
    member = await world.join_alone()
    shard = await world.open_shard(member, 2)

    with pytest.raises(RecordRefusedError, match=r"huge|large"):
        await shard.commit(
            Transaction(
                journal=[(b"position", b"7")],
                dead_letters=[Message(b"huge", b"x" * 3 * 1024 * 1024)],
            )
        )

    await shard.close()
    assert all(not values for values in (await written(harness)).values())
