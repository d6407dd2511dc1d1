"""A cluster that moves: every broker comes back at another address, and only the bootstrap server leads to it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from daemon.log.errors import LogError
from daemon.log.kafka import KafkaLog
from daemon.log.port import Assigned, Records, Transaction
from tests.forwarder import Forwarder, forwarding
from tests.sandbox.broker import Broker

from .kafka_harness import KafkaHarness, eventually

pytestmark = [pytest.mark.endurance, pytest.mark.kafka]


@pytest.fixture
async def entrance(own_broker: Broker) -> AsyncIterator[Forwarder]:
    """The bootstrap server."""
    async with forwarding(own_broker.bootstrap) as forwarder:
        yield forwarder


@pytest.fixture
async def kafka(entrance: Forwarder) -> AsyncIterator[KafkaHarness]:
    harness = await KafkaHarness.create(entrance.address)
    try:
        yield harness
    finally:
        await harness.close()


class Reader:
    """One member that reads partition 0."""

    def __init__(self, log: KafkaLog) -> None:
        self.log = log
        self.values: list[bytes | None] = []
        self.tokens = 0

    async def run(self) -> None:
        while True:
            match await self.log.next_event():
                case Assigned():
                    self.tokens += 1
                    self.log.begin(0, len(self.values), token=self.tokens)
                case Records(partition=0, token=self.tokens, records=records):
                    self.values += [record.value for record in records]


@contextlib.asynccontextmanager
async def reading(log: KafkaLog) -> AsyncIterator[Reader]:
    await log.start()
    reader = Reader(log)
    task = asyncio.create_task(reader.run())
    try:
        yield reader
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def move(broker: Broker, entrance: Forwarder, kafka: KafkaHarness) -> None:
    entrance.target = None
    await asyncio.to_thread(broker.stop)
    broker.move()
    await asyncio.to_thread(broker.start)
    entrance.target = broker.bootstrap
    await kafka.reconnect()


async def test_an_idle_member_follows_the_cluster_and_is_known_to_have_had_no_answer_meanwhile(
    kafka: KafkaHarness, own_broker: Broker, entrance: Forwarder
) -> None:
    async with reading(kafka.member("m")) as reader:
        await kafka.publish(0, [b"before"])
        await kafka.until(lambda: reader.values == [b"before"])
        unanswered = reader.log.unanswered()
        assert unanswered is not None

        entrance.target = None
        await asyncio.to_thread(own_broker.stop)
        await kafka.until(lambda: (reader.log.unanswered() or 0.0) > unanswered + 5.0)
        own_broker.move()
        await asyncio.to_thread(own_broker.start)
        entrance.target = own_broker.bootstrap
        await kafka.reconnect()

        await kafka.publish(0, [b"after"])
        await kafka.until(lambda: reader.values == [b"before", b"after"])
        assert (reader.log.unanswered() or 0.0) < 5.0
        assert await reader.log.confirm_assignment(0, kafka.patience)


async def test_a_cluster_that_moves_again_and_again_is_followed_each_time(
    kafka: KafkaHarness, own_broker: Broker, entrance: Forwarder
) -> None:
    """With what the process keeps between its calls: the admin client, an open shard and its journal reader."""
    async with reading(kafka.member("m")) as reader:
        await kafka.until(lambda: reader.tokens > 0)
        for count in range(1, 4):
            before = await reader.log.input_facts(0)
            assert before.latest == count - 1
            await move(own_broker, entrance, kafka)
            await kafka.publish(0, [b"%d" % count])
            await kafka.until(lambda: len(reader.values) == count)  # noqa: B023  # it is waited for here
            assert await reader.log.confirm_assignment(0, kafka.patience)
            await eventually(lambda: _commits(reader.log, 0), kafka.patience)


async def test_a_shard_that_is_being_restored_when_the_cluster_moves_is_restored_from_there(
    kafka: KafkaHarness, own_broker: Broker, entrance: Forwarder
) -> None:
    written = {b"%d" % number: b"value" for number in range(1_200)}  # more than two pieces of a restore
    async with reading(kafka.member("m")) as reader:
        await kafka.until(lambda: reader.tokens > 0)
        opened = await reader.log.open_shard(0)
        await opened.commit(Transaction(list(written.items())))
        await opened.close()

        opened = await reader.log.open_shard(0)
        pieces = opened.restore()
        found = {record.key: record.value for record in await anext(pieces)}
        assert 0 < len(found) < len(written)
        await move(own_broker, entrance, kafka)
        try:
            async for piece in pieces:
                found |= {record.key: record.value for record in piece}
        except LogError:
            found = {}
        await opened.close()
        if found != written:  # the rule: confirm, fence, restore
            assert await reader.log.confirm_assignment(0, kafka.patience)
            again = await reader.log.open_shard(0)
            found = {record.key: record.value async for piece in again.restore() for record in piece}
            await again.close()
        assert found == written


async def _commits(log: KafkaLog, partition: int) -> bool:
    try:
        opened = await log.open_shard(partition)
    except LogError:
        return False
    try:
        await opened.commit(Transaction([(b"k", b"v")]))
    except LogError:
        return False
    finally:
        await opened.close()
    return True
