"""Batches on a real broker that decompress to hundreds of MiB, or are damaged: one partition's trouble, and named."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest
from kafka import TopicPartition

from daemon.log.errors import CorruptJournalError, UnreadableError
from daemon.log.kafka import KafkaConnection, KafkaLog, assigned_partitions
from daemon.log.kafka.clients import Clients
from daemon.log.kafka.cures.fetching import POLL_BYTES_MAX, UnreadableBatchError
from daemon.log.kafka.partition_reader import PartitionReader
from daemon.log.port import Transaction
from daemon.log.topic_access import read_topic
from tests import record_batch as wire
from tests.sandbox.broker import Broker

from .harness import PARTITIONS
from .kafka_harness import KafkaHarness
from .world import Member, World

pytestmark = pytest.mark.kafka

MIB = 1024 * 1024
CODECS = {"gzip": wire.GZIP, "snappy": wire.SNAPPY, "lz4": wire.LZ4, "zstd": wire.ZSTD}


@pytest.fixture
async def kafka(kafka_bootstrap: str) -> AsyncIterator[KafkaHarness]:
    harness = await KafkaHarness.create(kafka_bootstrap)
    try:
        yield harness
    finally:
        await harness.close()


@pytest.fixture
async def own_kafka(own_broker: Broker) -> AsyncIterator[KafkaHarness]:
    harness = await KafkaHarness.create(own_broker.bootstrap)
    try:
        yield harness
    finally:
        await harness.close()


async def reading(kafka: KafkaHarness, world: World) -> Member:
    """A member that reads all partitions from the beginning; partition and token are the same."""
    member = await world.join_alone()
    for partition in range(PARTITIONS):
        member.log.begin(partition, 0, token=partition)
    return member


async def goes_on(kafka: KafkaHarness, world: World, member: Member, partition: int) -> None:
    """The client is alive, sends heartbeats, and reads what is published now."""
    for number in range(3):
        value = b"afterwards %d" % number
        await kafka.publish(partition, [value])
        await world.until(lambda: member.values(partition)[-1:] == [value], "a record just published")  # noqa: B023
    assert await member.log.confirm_assignment(partition, kafka.patience)
    assert member.log.silence() < kafka.patience


async def test_bombs_end_the_flow_of_their_partitions_and_the_others_go_on(kafka: KafkaHarness) -> None:
    bombs = {0: (wire.GZIP, 300), 1: (wire.LZ4, 200), 2: (wire.ZSTD, 700)}
    for partition, (codec, size) in bombs.items():
        await kafka.publish(partition, [b"before"])
        bomb = await asyncio.to_thread(wire.bomb, codec, size * MIB)
        await asyncio.to_thread(wire.produce, kafka.bootstrap, kafka.topics.changes, partition, bomb)
        await kafka.publish(partition, [b"after"])
    world = World(kafka)
    try:
        member = await reading(kafka, world)
        await world.until(
            lambda: len(member.unreadable()) == len(bombs), "three partitions that cannot be read"
        )
        for found in member.unreadable():
            assert (found.offset, found.next_offset, found.token) == (1, 2, found.partition)
            assert "decompresses to more than 33,554,432 bytes (kafka.record_batch_bytes_max)" in found.reason
            assert member.values(found.partition) == [b"before"]
        await goes_on(kafka, world, member, 3)
        for partition in bombs:
            member.log.begin(partition, 2, token=10)
            await world.until(lambda: member.values(partition, token=10) == [b"after"], "what is behind it")  # noqa: B023
    finally:
        await world.close()


async def test_many_batches_that_fit_come_in_polls_of_bounded_size(kafka: KafkaHarness) -> None:
    """One fetch of 1 MiB holds more than a hundred of them: as one poll they would be two GiB."""
    size, count = 20 * MIB, 8
    batch = await asyncio.to_thread(wire.bomb, wire.ZSTD, size)
    for _ in range(count):
        await asyncio.to_thread(wire.produce, kafka.bootstrap, kafka.topics.changes, 0, batch)
    consumer = Clients(KafkaConnection((kafka.bootstrap,))).reader()
    try:
        consumer.assign([TopicPartition(kafka.topics.changes, 0)])
        consumer.seek_to_beginning()
        sizes: list[int] = []
        while len(sizes) < count:
            polled = await asyncio.to_thread(consumer.poll, 1000)
            for records in polled.values():
                assert len(records) == 1, f"more than {POLL_BYTES_MAX} bytes and one record"
                sizes.append(len(records[0].value))
        assert sizes == [size] * count
    finally:
        consumer.close()


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
async def test_a_reader_of_one_partition_names_the_batch_and_reads_on_behind_it(
    kafka: KafkaHarness, codec: int
) -> None:
    await kafka.publish(0, [b"before"])
    bomb = await asyncio.to_thread(wire.bomb, codec, 20 * MIB)
    await asyncio.to_thread(wire.produce, kafka.bootstrap, kafka.topics.changes, 0, bomb)
    await kafka.publish(0, [b"after"])
    small = KafkaConnection((kafka.bootstrap,), record_batch_bytes_max=4 * MIB)
    reader = PartitionReader(Clients(small), kafka.topics.changes, 0)

    def read(offset: int) -> list[bytes | None]:
        return [record.value for record in reader.read(offset, 500, kafka.patience).records]

    try:
        assert await asyncio.to_thread(read, 0) == [b"before"]
        for _ in range(2):
            with pytest.raises(UnreadableError, match="decompresses to more than 4,194,304 bytes") as caught:
                await asyncio.to_thread(read, 1)
        assert await asyncio.to_thread(read, caught.value.next_offset) == [b"after"]
        assert await asyncio.to_thread(read, 0) == [b"before"]
    finally:
        reader.close()
    with pytest.raises(UnreadableError, match="partition 0 cannot be read at the offsets 1 to 1"):
        await asyncio.to_thread(lambda: list(read_topic(small, kafka.topics.changes)))


async def test_a_journal_that_somebody_has_put_a_bomb_into_is_corrupt_and_kills_nobody(
    kafka: KafkaHarness,
) -> None:
    log = kafka.member("m")
    shard = await log.open_shard(0)
    try:
        (good,), _ = await shard.commit(Transaction([(b"k", b"good")]))
        records = wire.compressed(wire.ZSTD, [wire.record(bytes(64 * MIB), key=b"k")])
        bomb = wire.batch(records, codec=wire.ZSTD)
        bad = await asyncio.to_thread(wire.produce, kafka.bootstrap, kafka.topics.journal, 0, bomb)
        named = f"{kafka.topics.journal} partition 0 cannot be read at the offsets {bad} to {bad}: "
        with pytest.raises(CorruptJournalError, match=named):
            async for _ in shard.restore():
                pass
        with pytest.raises(CorruptJournalError, match=named):
            await shard.read_back(bad)
        assert (await shard.read_back(good)).value == b"good"
        with pytest.raises(CorruptJournalError, match=named):
            async for _ in log.read_journal(0):
                pass
    finally:
        await shard.close()


# --- damage on the broker's disk ------------------------------------------------------------------


def overwrite(
    broker: Broker, topic: str, partition: int, offset: int, change: Callable[[bytes], bytes]
) -> None:
    """Change the batch that begins at this offset, where the broker reads it from."""
    (segment,) = (broker.directory / "data" / f"{topic}-{partition}").glob("*.log")
    data, at = segment.read_bytes(), 0
    while struct.unpack_from(">q", data, at)[0] != offset:
        at += 12 + struct.unpack_from(">i", data, at + 8)[0]
    end = at + 12 + struct.unpack_from(">i", data, at + 8)[0]
    changed = change(data[at:end])
    assert len(changed) == end - at
    _write(segment, at, changed)


def _write(segment: Path, at: int, data: bytes) -> None:
    with segment.open("r+b") as file:
        file.seek(at)
        file.write(data)


def flipped(batch: bytes) -> bytes:
    return batch[:-5] + bytes([batch[-5] ^ 0x40]) + batch[-4:]


def of_an_unknown_codec(batch: bytes) -> bytes:
    return wire.sealed(batch[:22] + b"\x07" + batch[23:])


def half_of_it(batch: bytes) -> bytes:
    keep = len(batch) - (len(batch) - 61) // 2
    return wire.sealed(batch[:keep] + bytes(len(batch) - keep))


async def publish_and_damage(
    broker: Broker, kafka: KafkaHarness, damages: Sequence[Callable[[bytes], bytes]]
) -> None:
    content = wire.compressed(wire.ZSTD, [b"".join(wire.record(b"%d" % n * 99, n) for n in range(9))])
    for partition, damage in enumerate(damages):
        await kafka.publish(partition, [b"before"])
        bad = wire.batch(content, codec=wire.ZSTD, count=9)
        await asyncio.to_thread(wire.produce, kafka.bootstrap, kafka.topics.changes, partition, bad)
        await kafka.publish(partition, [b"after"])
        overwrite(broker, kafka.topics.changes, partition, 1, damage)


async def test_damaged_batches_end_the_flow_of_their_partitions_alone(
    own_broker: Broker, own_kafka: KafkaHarness
) -> None:
    kafka = own_kafka
    await publish_and_damage(own_broker, kafka, (flipped, of_an_unknown_codec, half_of_it))
    named = ("failed crc check", "compression codec 7 is unknown", "(zstd) is damaged")
    world = World(kafka)
    try:
        member = await reading(kafka, world)
        await world.until(lambda: len(member.unreadable()) == 3, "three partitions that cannot be read")
        await goes_on(kafka, world, member, 3)
        for found in member.unreadable():
            assert (found.offset, found.next_offset) == (1, 10)
            assert named[found.partition] in found.reason
            member.log.begin(found.partition, found.next_offset, token=10)
        for partition in range(3):
            await world.until(lambda: member.values(partition, 10) == [b"after"], "what is behind it")  # noqa: B023
    finally:
        await world.close()


async def test_a_batch_that_is_good_at_the_second_fetch_was_damaged_on_its_way(
    own_broker: Broker, own_kafka: KafkaHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka = own_kafka
    await publish_and_damage(own_broker, kafka, (flipped,))
    seen: list[int] = []

    def repair(self: assigned_partitions.AssignedPartitions, error: UnreadableBatchError) -> None:
        seen.append(error.offset)
        if len(seen) == 1:
            overwrite(own_broker, kafka.topics.changes, 0, 1, flipped)
        unreadable(self, error)

    unreadable = assigned_partitions.AssignedPartitions.unreadable
    monkeypatch.setattr(assigned_partitions.AssignedPartitions, "unreadable", repair)
    world = World(kafka)
    try:
        member = await reading(kafka, world)
        await world.until(lambda: b"after" in member.values(0), "everything")
        assert len(member.values(0)) == 11
        assert (seen, member.unreadable()) == ([1], [])
    finally:
        await world.close()


async def test_a_partition_that_the_broker_cannot_read_itself_stops_nobody_else(
    own_broker: Broker, own_kafka: KafkaHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assigned_partitions, "UNEXPLAINED_MAX", 1.0)
    kafka = own_kafka

    def without_length(batch: bytes) -> bytes:
        return batch[:8] + struct.pack(">i", 1) + batch[12:]

    await publish_and_damage(own_broker, kafka, (without_length,))
    world = World(kafka)
    try:
        member = await world.join_alone()
        member.log.begin(0, 1, token=0)
        member.log.begin(3, 0, token=3)
        await goes_on(kafka, world, member, 3)
        await world.until(lambda: bool(member.unreadable()), "a partition that cannot be read")
        (found,) = member.unreadable()
        assert (found.partition, found.offset, found.next_offset) == (0, 1, 2)
        assert "the broker answered" in found.reason
        await goes_on(kafka, world, member, 3)
    finally:
        await world.close()


async def test_the_log_is_used_as_the_daemon_makes_it(kafka: KafkaHarness) -> None:
    """The limit of the settings reaches every consumer."""
    connection = KafkaConnection((kafka.bootstrap,), record_batch_bytes_max=5 * MIB)
    log = KafkaLog(connection, kafka.topics, kafka.group_id, None, 60.0)
    await kafka.publish(0, [b"0"])
    bomb = await asyncio.to_thread(wire.bomb, wire.ZSTD, 6 * MIB)
    await asyncio.to_thread(wire.produce, kafka.bootstrap, kafka.topics.changes, 0, bomb)
    with pytest.raises(UnreadableError, match="more than 5,242,880 bytes"):
        await log.next_record(0, 1)
    await log.stop()
