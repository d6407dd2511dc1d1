"""What a simulation relies on in the embedded log, beyond the contract that all logs share."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest
import structlog
from structlog.testing import capture_logs

from daemon.log.errors import FencedError, HeldBackError, LogError
from daemon.log.port import (
    Assigned,
    Event,
    Message,
    PositionLost,
    Record,
    Records,
    Revoked,
    Topics,
    Transaction,
)
from tests.embedded_log import EmbeddedCluster, EmbeddedLog, Notice, Session

PARTITIONS = 4
ALL = frozenset(range(PARTITIONS))
TOPICS = Topics()
T = TypeVar("T")


def new_cluster(kind: type[EmbeddedCluster] = EmbeddedCluster) -> EmbeddedCluster:
    cluster = kind(itertools.count(1_700_000_000_000).__next__)
    cluster.create_topic(TOPICS.changes, PARTITIONS)
    cluster.create_topic(TOPICS.journal, PARTITIONS)
    cluster.create_topic(TOPICS.results, 3)
    cluster.create_topic(TOPICS.dead_letters, 1)
    cluster.create_topic(TOPICS.courses, PARTITIONS)
    cluster.create_topic(TOPICS.control, 1)
    return cluster


@pytest.fixture
def cluster() -> EmbeddedCluster:
    return new_cluster()


async def joined(cluster: EmbeddedCluster, member_id: str) -> EmbeddedLog:
    log = EmbeddedLog(cluster, TOPICS, member_id)
    await log.start()
    return log


async def now(awaitable: Awaitable[T]) -> T:
    """It must be there without any other event: nothing in this log takes time."""
    async with asyncio.timeout(60):
        return await awaitable


async def all_events(log: EmbeddedLog) -> list[Event]:
    """What can be read until the log has nothing more to tell."""
    events: list[Event] = []
    while True:
        waiting = asyncio.ensure_future(log.next_event())
        for _ in range(5):  # turns of the loop; an event that is there needs two
            await asyncio.sleep(0)
        if not waiting.done():
            waiting.cancel()
            return events
        events.append(waiting.result())


async def restored(log: EmbeddedLog, partition: int) -> list[Record]:
    shard = await log.open_shard(partition)
    return [record async for batch in shard.restore() for record in batch]


# --- members that die, pause and hear late ------------------------------------------------------------


async def test_a_member_that_was_only_paused_loses_everything_and_joins_again(
    cluster: EmbeddedCluster,
) -> None:
    paused, other = await joined(cluster, "a"), await joined(cluster, "b")
    assert [await now(paused.next_event()) for _ in range(3)] == [
        Assigned(ALL),
        Revoked(ALL),
        Assigned(frozenset({0, 1})),
    ]
    assert await now(other.next_event()) == Assigned(frozenset({2, 3}))

    cluster.expire("a")
    assert [await now(other.next_event()) for _ in range(2)] == [Revoked(frozenset({2, 3})), Assigned(ALL)]
    assert not await paused.confirm_assignment(0, timeout=1)

    assert [await now(paused.next_event()) for _ in range(2)] == [
        Revoked(frozenset({0, 1})),
        Assigned(frozenset({0, 1})),
    ]
    assert await paused.confirm_assignment(0, timeout=1)


async def test_no_record_flows_between_a_revocation_and_the_next_begin(cluster: EmbeddedCluster) -> None:
    log = await joined(cluster, "a")
    assert await now(log.next_event()) == Assigned(ALL)
    log.begin(0, 0, token=1)
    cluster.append(TOPICS.changes, Message(None, b"for the next owner"), 0)

    cluster.rebalance(TOPICS.changes)
    log.begin(0, 0, token=1)

    assert [await now(log.next_event()) for _ in range(2)] == [Revoked(ALL), Assigned(ALL)]
    waiting = asyncio.ensure_future(log.next_event())
    cluster.append(TOPICS.changes, Message(None, b"elsewhere"), 1)
    log.begin(1, 0, token=2)
    event = await now(waiting)
    assert isinstance(event, Records)
    assert (event.partition, event.token) == (1, 2)


async def test_an_assignment_is_not_confirmed_while_a_rebalance_is_unread(cluster: EmbeddedCluster) -> None:
    log = await joined(cluster, "a")
    assert await now(log.next_event()) == Assigned(ALL)
    assert await log.confirm_assignment(0, timeout=1)

    cluster.rebalance(TOPICS.changes)
    assert not await log.confirm_assignment(0, timeout=1)

    for _ in range(2):
        await now(log.next_event())
    assert await log.confirm_assignment(0, timeout=1)


async def test_a_begin_that_comes_after_the_revocation_does_nothing(cluster: EmbeddedCluster) -> None:
    cluster.append(TOPICS.changes, Message(None, b"for the next owner"), 0)
    log = await joined(cluster, "a")
    assert await now(log.next_event()) == Assigned(ALL)
    cluster.rebalance(TOPICS.changes)
    assert await now(log.next_event()) == Revoked(ALL)

    log.begin(0, 0, token=1)

    assert await all_events(log) == [Assigned(ALL)]


async def test_partitions_are_read_in_turn(cluster: EmbeddedCluster) -> None:
    for number in range(1200):
        for partition in (0, 1):
            cluster.append(TOPICS.changes, Message(None, b"%d" % number), partition)
    log = await joined(cluster, "a")
    assert await now(log.next_event()) == Assigned(ALL)
    for partition in (0, 1):
        log.begin(partition, 0, token=partition)

    events = await all_events(log)

    assert [event.partition for event in events if isinstance(event, Records)] == [0, 1] * 3


class LateCluster(EmbeddedCluster):
    """Notices wait until they are let through."""

    def __init__(self, clock: Callable[[], int]) -> None:
        super().__init__(clock)
        self.held_back: list[tuple[Session, Notice]] = []
        self.late = False

    def deliver(self, session: Session, notice: Notice) -> None:
        if self.late:
            self.held_back.append((session, notice))
        else:
            session.deliver(notice)


async def test_a_member_that_hears_late_goes_on_reading_but_is_not_confirmed_and_is_fenced() -> None:
    cluster = new_cluster(LateCluster)
    assert isinstance(cluster, LateCluster)
    zombie = await joined(cluster, "a")
    assert await now(zombie.next_event()) == Assigned(ALL)
    shard = await zombie.open_shard(0)
    zombie.begin(0, 0, token=1)

    cluster.late = True
    cluster.expire("a")
    cluster.late = False
    heir = await joined(cluster, "b")
    assert await now(heir.next_event()) == Assigned(ALL)
    await heir.open_shard(0)

    cluster.append(TOPICS.changes, Message(None, b"read by a zombie"), 0)
    assert isinstance(await now(zombie.next_event()), Records)
    assert not await zombie.confirm_assignment(0, timeout=1)
    await (await zombie.open_shard(1)).commit(Transaction([(b"position", b"1")], position=1))
    with pytest.raises(FencedError):
        await shard.commit(Transaction([(b"position", b"1")], position=1))
    assert [(await heir.input_facts(partition)).group_offset for partition in (0, 1)] == [None, None]

    for session, notice in cluster.held_back:
        session.deliver(notice)
    assert await now(zombie.next_event()) == Revoked(ALL)


async def test_more_partitions_are_shared_out_at_once(cluster: EmbeddedCluster) -> None:
    logs = [await joined(cluster, member_id) for member_id in ("c", "a", "b")]
    cluster.add_partitions(TOPICS.changes, 7)

    last = [(await all_events(log))[-1] for log in logs]
    held = [event.partitions for event in last if isinstance(event, Assigned)]
    assert frozenset().union(*held) == frozenset(range(7))
    assert sorted(map(len, held)) == [2, 2, 3]


# --- event loops that one thread steps by hand --------------------------------------------------------


def step(loop: asyncio.AbstractEventLoop, turns: int = 20) -> None:
    for _ in range(turns):
        loop.call_soon(loop.stop)
        loop.run_forever()


def test_members_in_different_loops_wake_each_other_only_through_their_own_loop(
    cluster: EmbeddedCluster,
) -> None:
    loops = [asyncio.new_event_loop() for _ in range(2)]
    try:
        reader = loops[0].run_until_complete(joined(cluster, "a"))
        assert loops[0].run_until_complete(reader.next_event()) == Assigned(ALL)
        waiting = loops[0].create_task(reader.next_event())
        step(loops[0])

        loops[1].run_until_complete(joined(cluster, "b"))
        step(loops[1])
        assert not waiting.done(), "another loop ran this member's code"

        step(loops[0])
        assert waiting.result() == Revoked(ALL)
    finally:
        for loop in loops:
            loop.close()


def test_a_waiting_member_is_woken_by_whatever_it_waits_for(cluster: EmbeddedCluster) -> None:
    loop = asyncio.new_event_loop()
    try:
        log = loop.run_until_complete(joined(cluster, "a"))
        assert loop.run_until_complete(log.next_event()) == Assigned(ALL)
        log.begin(0, 0, token=1)
        producer = cluster.producer("publisher")
        producer.append(TOPICS.changes, Message(None, b"2"), 0)

        def append() -> None:
            cluster.append(TOPICS.changes, Message(None, b"1"), 1)

        def resume() -> None:
            log.pause(0)
            cluster.append(TOPICS.changes, Message(None, b"3"), 0)
            step(loop)
            log.resume(0)

        def append_and_begin() -> None:
            append()
            log.begin(1, 0, token=2)

        causes: list[tuple[Callable[[], None], int]] = [
            (append_and_begin, 1),
            (append, 1),
            (lambda: producer.end_transaction(commit=True), 0),
            (resume, 0),
        ]
        for cause, partition in causes:
            waiting = loop.create_task(log.next_event())
            step(loop)
            assert not waiting.done()
            cause()
            step(loop)
            event = waiting.result()
            assert isinstance(event, Records)
            assert event.partition == partition
    finally:
        loop.close()


def test_a_member_whose_loop_is_gone_does_not_disturb_the_others(cluster: EmbeddedCluster) -> None:
    dead, alive = asyncio.new_event_loop(), asyncio.new_event_loop()
    try:
        killed = dead.run_until_complete(joined(cluster, "a"))
        assert dead.run_until_complete(killed.next_event()) == Assigned(ALL)
        waiting = dead.create_task(killed.next_event())
        step(dead)
        waiting.cancel()
        dead.close()

        survivor = alive.run_until_complete(joined(cluster, "b"))
        cluster.expire("a")
        events = [alive.run_until_complete(survivor.next_event()) for _ in range(3)]
        assert events[-1] == Assigned(ALL)
    finally:
        dead.close()
        alive.close()


# --- writers that stop in the middle ------------------------------------------------------------------


async def test_a_transaction_left_open_is_aborted_by_the_next_owner(cluster: EmbeddedCluster) -> None:
    log = await joined(cluster, "a")
    killed = cluster.producer(f"{TOPICS.journal}-0")
    killed.append(TOPICS.journal, Message(b"position", b"9"), 0)
    killed.append(TOPICS.results, Message(b"course", b"half a commit"))
    cluster.append(TOPICS.results, Message(b"course", b"of somebody else"))
    course_partition, _ = cluster.append(TOPICS.results, Message(b"course", b"another one"))
    assert cluster.read_committed(TOPICS.results, course_partition, 0)[0] == [], "held back by the open one"

    assert await restored(log, 0) == []

    results, _ = cluster.read_committed(TOPICS.results, course_partition, 0)
    assert [record.value for record in results] == [b"of somebody else", b"another one"]
    with pytest.raises(FencedError):
        killed.end_transaction(commit=True)


async def test_a_successor_that_opens_while_a_commit_is_on_its_way_wins(cluster: EmbeddedCluster) -> None:
    log = await joined(cluster, "a")
    first = await log.open_shard(0)

    commit = first.commit(Transaction([(b"position", b"late")]))
    commit.send(None)  # it is on its way and has not been written
    second = await log.open_shard(0)
    with pytest.raises(FencedError):
        commit.send(None)

    assert [record async for batch in second.restore() for record in batch] == []


async def test_restoring_ends_where_the_journal_ended_at_the_fence(cluster: EmbeddedCluster) -> None:
    log = await joined(cluster, "a")
    await (await log.open_shard(0)).commit(Transaction([(b"position", b"1")]))
    successor = await log.open_shard(0)
    await successor.commit(Transaction([(b"position", b"2")]))

    assert [record.value async for batch in successor.restore() for record in batch] == [b"1"]


async def test_a_restore_that_can_not_be_whole_says_so(cluster: EmbeddedCluster) -> None:
    log = await joined(cluster, "a")
    shard = await log.open_shard(0)
    await shard.commit(Transaction([(b"%d" % number, b"") for number in range(600)]))
    restore = (await log.open_shard(0)).restore()
    assert len(await anext(restore)) == 500
    cluster.delete_before(TOPICS.journal, 0, 550)
    with pytest.raises(LogError, match="deleted"):
        await anext(restore)

    cluster.producer("foreign").append(TOPICS.journal, Message(b"key", b""), 0)
    with pytest.raises(HeldBackError, match="cannot be read past offset 601"):
        await restored(log, 0)


async def test_what_a_cancelled_commit_has_done_is_unknown_and_its_shard_of_no_more_use(
    cluster: EmbeddedCluster,
) -> None:
    log = await joined(cluster, "a")
    shard = await log.open_shard(0)
    commit = shard.commit(Transaction([(b"position", b"1")]))
    commit.send(None)
    commit.send(None)  # written; the answer is on its way
    with pytest.raises(asyncio.CancelledError):
        commit.throw(asyncio.CancelledError())

    with pytest.raises(LogError, match="earlier commit"):
        await shard.commit(Transaction([(b"position", b"2")]))
    assert [record.value for record in await restored(log, 0)] == [b"1"]


# --- topics -------------------------------------------------------------------------------------------


async def test_a_position_of_a_deleted_topic_is_lost_in_its_successor(cluster: EmbeddedCluster) -> None:
    log = await joined(cluster, "a")
    assert await now(log.next_event()) == Assigned(ALL)
    for number in range(3):
        cluster.append(TOPICS.changes, Message(None, b"%d" % number), 0)
    log.begin(0, 0, token=1)
    assert isinstance(await now(log.next_event()), Records)
    await (await log.open_shard(0)).commit(Transaction([(b"position", b"3")], position=3))
    assert (await log.input_facts(0)).group_offset == 3

    cluster.recreate_topic(TOPICS.changes)

    lost = await now(log.next_event())
    assert isinstance(lost, PositionLost)
    assert (lost.partition, lost.token, lost.offset) == (0, 1, 3)
    assert (await log.input_facts(0)).group_offset is None


async def test_a_missing_topic_is_named_at_the_start(cluster: EmbeddedCluster) -> None:
    cluster.delete_topic(TOPICS.dead_letters)
    with pytest.raises(LogError, match=TOPICS.dead_letters):
        await joined(cluster, "a")


async def test_a_cleaner_may_drop_tombstones_and_leave_the_newest_records(cluster: EmbeddedCluster) -> None:
    log = await joined(cluster, "a")
    shard = await log.open_shard(0)
    for value in (b"1", b"2", None, b"3", b"4"):
        [offset], _ = await shard.commit(Transaction([(b"key", value)]))
    await shard.commit(Transaction([(b"gone", b"1"), (b"gone", None)]))

    cluster.compact(TOPICS.journal, 0, before=offset - 1)
    assert [r.value for r in await restored(log, 0)] == [b"3", b"4", b"1", None]
    cluster.compact(TOPICS.journal, 0, drop_tombstones=True)
    assert [r.value for r in await restored(log, 0)] == [b"4"]


# --- the same history twice ---------------------------------------------------------------------------


def history() -> tuple[list[object], list[Record]]:
    """What two members are told and what they write, with a rebalance and a death in between."""
    told: list[object] = []
    cluster = new_cluster()

    async def member(member_id: str) -> None:
        log = await joined(cluster, member_id)
        shards = {}
        while True:
            event = await log.next_event()
            told.append((member_id, event))
            if isinstance(event, Assigned):
                for partition in sorted(event.partitions):
                    shards[partition] = await log.open_shard(partition)
                    log.begin(partition, 0, token=len(told))
            elif isinstance(event, Records):
                results = [Message(record.value, b"done") for record in event.records]
                await shards[event.partition].commit(Transaction([(b"position", b"")], results))

    async def run() -> None:
        members = [asyncio.create_task(member(member_id)) for member_id in "ab"]
        for number in range(40):
            cluster.append(TOPICS.changes, Message(b"%d" % (number % 7), b"%d" % number))
            await asyncio.sleep(0)
            if number == 20:
                members[1].cancel()
                cluster.expire("b")
        for task in members[:1]:
            task.cancel()
        await asyncio.gather(*members, return_exceptions=True)

    asyncio.run(run())
    results = [cluster.read_committed(TOPICS.results, partition, 0)[0] for partition in range(3)]
    return told, list(itertools.chain.from_iterable(results))


def test_a_history_repeats_exactly() -> None:
    first, second = history(), history()

    assert first == second
    told, results = first
    assert len(results) > 10
    assert len(told) > 10


async def test_it_says_once_that_it_is_not_for_production(cluster: EmbeddedCluster) -> None:
    structlog.reset_defaults()
    with capture_logs() as lines:
        for member_id in "ab":
            await joined(cluster, member_id)

    [line] = lines
    assert line["log_level"] == "warning"
    assert "never use it in production" in line["note"]
