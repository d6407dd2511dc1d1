"""What only Kafka can show: fencing across processes, compaction, groups, heartbeats, broken clients."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, TypeVar

import pytest
from kafka import KafkaProducer, TopicPartition

from daemon.log.errors import (
    CommitFailedError,
    CorruptJournalError,
    FatalLogError,
    FencedError,
    LogError,
    TransientRefusalError,
)
from daemon.log.kafka import KafkaConnection, KafkaLog
from daemon.log.kafka.admin import Admin, NewTopic, create_topics, describe_topics
from daemon.log.kafka.assigned_partitions import BYTES_WAITING_MAX, RECORDS_WAITING_MAX
from daemon.log.kafka.clients import _EVERY_CLIENT, Clients
from daemon.log.kafka.consumer import InputConsumer
from daemon.log.kafka.cures.sending import encode_all, send_all
from daemon.log.kafka.sizes import RECORD_BYTES_MAX
from daemon.log.port import (
    Assigned,
    Event,
    EventLog,
    Message,
    PositionLost,
    Record,
    Records,
    Revoked,
    ShardLog,
    Topics,
    Transaction,
)

from .harness import PARTITIONS
from .kafka_harness import KafkaHarness, eventually

pytestmark = pytest.mark.kafka

ALL = frozenset(range(PARTITIONS))
E = TypeVar("E", bound=Event)


@pytest.fixture
async def kafka(kafka_bootstrap: str) -> AsyncIterator[KafkaHarness]:
    harness = await KafkaHarness.create(kafka_bootstrap)
    try:
        yield harness
    finally:
        await harness.close()


async def joined(log: KafkaLog, kafka: KafkaHarness) -> frozenset[int]:
    await log.start()
    return (await next_of(Assigned, log, kafka)).partitions


async def next_of(kind: type[E], log: EventLog, kafka: KafkaHarness) -> E:
    async with asyncio.timeout(kafka.patience):
        while not isinstance(event := await log.next_event(), kind):
            pass
        return event


async def restored(shard: ShardLog) -> list[Record]:
    return [record async for batch in shard.restore() for record in batch]


def values(records: list[Record]) -> list[bytes | None]:
    return [record.value for record in records]


# --- fencing and transactions ---------------------------------------------------------------------------


async def test_a_renamed_consumer_group_still_fences_the_old_owner_of_a_journal(kafka: KafkaHarness) -> None:
    old = kafka.member("old")
    await joined(old, kafka)
    zombie = await old.open_shard(0)
    await zombie.commit(Transaction([(b"k", b"old")]))

    kafka.group_id += "-renamed"
    new = kafka.member("new")
    await joined(new, kafka)
    owner = await new.open_shard(0)

    with pytest.raises(FencedError):
        await zombie.commit(Transaction([(b"k", b"zombie")], [Message(b"k", b"zombie")]))
    await owner.commit(Transaction([(b"k", b"new")]))
    assert values(await restored(owner)) == [b"old", b"new"]
    assert await kafka.read_committed(kafka.topics.results) == []
    await zombie.close()
    await owner.close()


async def test_a_commit_that_fails_half_way_leaves_nothing_behind(kafka: KafkaHarness) -> None:
    log = kafka.member("m")
    await joined(log, kafka)
    shard = await log.open_shard(1)
    await shard.commit(Transaction([(b"k", b"good")]))
    oversized = Message(b"r", b"x" * RECORD_BYTES_MAX)

    with pytest.raises(CommitFailedError, match="MessageSizeTooLarge"):
        await shard.commit(Transaction([(b"k", b"bad")], [Message(b"r", b"bad"), oversized]))
    with pytest.raises(CommitFailedError):
        await shard.commit(Transaction([(b"k", b"after")]))
    await shard.close()

    again = await log.open_shard(1)
    assert values(await restored(again)) == [b"good"]
    await again.commit(Transaction([(b"k", b"next")], [Message(b"r", b"next")]))
    assert values(await kafka.read_committed(kafka.topics.journal)) == [b"good", b"next"]
    assert values(await kafka.read_committed(kafka.topics.results)) == [b"next"]
    await again.close()


@pytest.mark.parametrize(
    ("configs", "refused", "why"),
    [
        ({"max.message.bytes": "1000"}, Message(b"the-one", os.urandom(3000)), "MessageSizeTooLargeError"),
        ({"cleanup.policy": "compact"}, Message(None, b"the-one"), "without key"),
    ],
)
async def test_a_record_that_the_broker_refuses_is_named_and_not_those_that_fell_with_it(
    kafka: KafkaHarness, topic_names: Topics, configs: dict[str, str], refused: Message, why: str
) -> None:
    strict = topic_names.dead_letters
    await asyncio.to_thread(create_topics, kafka.admin, [NewTopic(strict, 1, configs=configs)])
    log = kafka.member("m", dataclasses.replace(kafka.topics, dead_letters=strict))
    shard = await log.open_shard(0)
    good = [Message(b"k", b"good")] * 20

    with pytest.raises(TransientRefusalError) as refusal:
        await shard.commit(Transaction([(b"large", os.urandom(300_000))] * 2, good, [*good, refused, *good]))
    assert why in str(refusal.value)
    size = len(refused.value or b"")
    assert f"the record with key {refused.key!r} for {strict}, {size:,} bytes" in str(refusal.value)
    await shard.close()
    assert await kafka.read_committed(kafka.topics.results) == []


async def test_what_is_only_together_too_large_for_the_topic_is_written(
    kafka: KafkaHarness, topic_names: Topics
) -> None:
    strict = topic_names.journal
    new = NewTopic(strict, PARTITIONS, configs={"max.message.bytes": "1000"})
    await asyncio.to_thread(create_topics, kafka.admin, [new])
    log = kafka.member("m", dataclasses.replace(kafka.topics, journal=strict))
    shard = await log.open_shard(0)
    entries = [(b"%d" % number, os.urandom(400)) for number in range(20)]
    offsets, appended_at = await shard.commit(Transaction(entries))
    assert appended_at is None, "this topic has the times of its writers, not the broker's (R6)"
    read = [await shard.read_back(offset) for offset in offsets]
    assert [(record.key, record.value) for record in read] == entries
    await shard.close()


async def test_the_largest_record_passes(kafka: KafkaHarness) -> None:
    log = kafka.member("m")
    await joined(log, kafka)
    shard = await log.open_shard(0)
    body = bytes(range(256)) * (7 * 1024)  # 1.75 MiB, more than the client's default allows
    (offset,), _ = await shard.commit(Transaction([(b"k", body)]))
    assert (await shard.read_back(offset)).value == body
    await shard.close()


async def test_a_dead_letter_without_key_and_value_can_be_written(kafka: KafkaHarness) -> None:
    log = kafka.member("m")
    await joined(log, kafka)
    shard = await log.open_shard(0)
    headers = (("reason", b"tombstone"), ("null", None), ("empty", b""))
    await shard.commit(Transaction([(b"k", b"v")], dead_letters=[Message(None, None, headers)]))
    (letter,) = await kafka.read_committed(kafka.topics.dead_letters)
    assert (letter.key, letter.value, letter.headers) == (None, None, headers)
    await shard.close()


async def test_restore_of_a_compacted_journal_brings_the_last_of_every_key(kafka: KafkaHarness) -> None:
    log = kafka.member("m")
    await joined(log, kafka)
    shard = await log.open_shard(2)
    last: dict[bytes, int] = {}
    for version in range(30):
        keys = [b"a", b"b", b"version-%d" % version]
        offsets, _ = await shard.commit(Transaction([(key, b"%d" % version) for key in keys]))
        last.update(zip(keys, offsets, strict=True))
    first_offset = 0

    await kafka.compact_journal(2)
    records = await restored(shard)

    assert {record.key: record.offset for record in records} == last
    assert [record.offset for record in records] == sorted(last.values())
    with pytest.raises(CorruptJournalError):
        await shard.read_back(first_offset)
    assert (await shard.read_back(last[b"version-7"])).value == b"7"
    await shard.close()


# --- the group --------------------------------------------------------------------------------------------


async def test_a_static_member_that_restarts_has_its_partitions_back_and_nobody_notices(
    kafka: KafkaHarness,
) -> None:
    first, other = kafka.member("first"), kafka.member("other")
    assert await joined(first, kafka) == ALL
    mine_other = await joined(other, kafka)
    mine = (await next_of(Assigned, first, kafka)).partitions
    assert mine | mine_other == ALL
    assert not mine & mine_other

    await first.stop()
    again = kafka.member("first")
    assert await joined(again, kafka) == mine

    # Had there been a rebalance, the other would have lost its partitions before it got them back.
    assert await other.confirm_assignment(min(mine_other), kafka.patience)
    assert other._loop_queue is not None
    assert not other._loop_queue._events


async def test_a_static_member_whose_name_is_taken_ends(kafka: KafkaHarness) -> None:
    first = kafka.member("same")
    await joined(first, kafka)
    await joined(kafka.member("same"), kafka)

    with pytest.raises(FatalLogError, match="FENCED_INSTANCE_ID"):
        await next_of(Records, first, kafka)
    with pytest.raises(FatalLogError):
        await first.next_event()


async def test_a_member_that_was_evicted_hears_of_it_and_joins_again(kafka: KafkaHarness) -> None:
    log = kafka.member("m")
    await joined(log, kafka)
    await kafka.expire("m")
    assert (await next_of(Revoked, log, kafka)).partitions == ALL
    assert (await next_of(Assigned, log, kafka)).partitions == ALL


async def test_an_assignment_is_confirmed_by_a_heartbeat_that_was_sent_for_it(kafka: KafkaHarness) -> None:
    log = kafka.member("m")
    await joined(log, kafka)
    heartbeat = _client_of(log)._coordinator.heartbeat
    before = max(heartbeat.last_send, heartbeat.last_receive)
    assert await log.confirm_assignment(0, kafka.patience)
    assert heartbeat.last_send > before
    assert heartbeat.last_receive > before
    assert not await log.confirm_assignment(PARTITIONS, kafka.patience)


async def test_an_assignment_that_ends_meanwhile_is_not_confirmed(kafka: KafkaHarness) -> None:
    log = kafka.member("m")
    await joined(log, kafka)
    consumer, loop = log._consumer, asyncio.get_running_loop()
    assert consumer is not None
    while True:
        generation = consumer._generation
        await kafka.expire("m")
        asking = asyncio.create_task(log.confirm_assignment(0, kafka.patience))
        await asyncio.sleep(0)  # it is asked now
        when_asked: asyncio.Future[int] = loop.create_future()
        consumer._commands.put(partial(_tell_generation, loop, when_asked, consumer))
        confirmed = await asking
        if await when_asked == generation:
            break
        await next_of(Assigned, log, kafka)  # it had heard before: it was asked about the next assignment
    assert not confirmed
    await next_of(Assigned, log, kafka)
    assert await log.confirm_assignment(0, kafka.patience)


async def test_an_assignment_is_not_confirmed_after_leaving_and_nobody_waits_for_that(
    kafka: KafkaHarness,
) -> None:
    log = kafka.member("m")
    await joined(log, kafka)
    await log.stop()
    async with asyncio.timeout(kafka.patience):
        assert not await log.confirm_assignment(0, timeout=10 * kafka.patience)


async def test_the_group_offset_follows_the_committed_position(kafka: KafkaHarness) -> None:
    log = kafka.member("m")
    await joined(log, kafka)
    await kafka.publish(3, [b"x"] * 10)
    shard = await log.open_shard(3)
    assert (await log.input_facts(3)).group_offset is None
    await shard.commit(Transaction([(b"position", b"7")], position=7))

    async def followed() -> bool:
        return (await log.input_facts(3)).group_offset == 7

    await eventually(followed, kafka.patience)
    await shard.close()


async def test_the_last_position_is_committed_for_the_group_when_leaving(kafka: KafkaHarness) -> None:
    log = kafka.member("m")
    await joined(log, kafka)
    shard = await log.open_shard(0)
    await shard.commit(Transaction([(b"position", b"5")], position=5))
    await shard.close()
    await log.stop()
    other = kafka.member("m")
    await joined(other, kafka)
    assert (await other.input_facts(0)).group_offset == 5


# --- the flow of records ------------------------------------------------------------------------------------


async def test_what_is_not_taken_stops_the_reading_and_not_the_heartbeats(kafka: KafkaHarness) -> None:
    log = kafka.member("m")
    await joined(log, kafka)
    count = 4 * RECORDS_WAITING_MAX
    await kafka.publish(0, [b"%d" % number for number in range(count)])
    log.begin(0, 0, token=1)

    loop_queue = log._loop_queue
    assert loop_queue is not None
    await kafka.until(lambda: loop_queue.records_waiting > RECORDS_WAITING_MAX)
    for _ in range(3):  # a heartbeat each: the client is alive, and reads no further
        assert await log.confirm_assignment(0, kafka.patience)
    poll_size = 500
    assert loop_queue.records_waiting <= RECORDS_WAITING_MAX + poll_size

    taken: list[Record] = []
    while len(taken) < count:
        taken += (await next_of(Records, log, kafka)).records
    assert values(taken) == [b"%d" % number for number in range(count)]


async def test_few_large_records_stop_the_reading_too(kafka: KafkaHarness) -> None:
    log = kafka.member("m")
    await joined(log, kafka)
    large = b"x" * 500_000
    count = 2 * BYTES_WAITING_MAX // len(large)
    await kafka.publish(0, [large] * count)
    log.begin(0, 0, token=1)

    loop_queue = log._loop_queue
    assert loop_queue is not None
    await kafka.until(lambda: loop_queue.bytes_waiting > BYTES_WAITING_MAX)
    for _ in range(3):  # a heartbeat each: the client is alive, and reads no further
        assert await log.confirm_assignment(0, kafka.patience)
    assert loop_queue.records_waiting < count

    taken = 0
    while taken < count:
        taken += len((await next_of(Records, log, kafka)).records)
    assert loop_queue.bytes_waiting == 0


async def test_a_topic_that_was_created_again_is_not_read_on_though_it_reaches_to_our_offset(
    kafka: KafkaHarness,
) -> None:
    log = kafka.member("m")
    await joined(log, kafka)
    await kafka.publish(0, [b"old"] * 3)
    log.begin(0, 0, token=1)
    assert len((await next_of(Records, log, kafka)).records) == 3
    log.pause(0)  # no fetch fails meanwhile, so the group is not told to look at its topics
    assert await log.confirm_assignment(0, kafka.patience)

    cluster = _client_of(log)._client.cluster
    before = cluster.topic_id(kafka.topics.changes)
    await kafka.recreate_input()
    await kafka.publish(0, [b"new"] * 5)
    cluster.request_update()
    await kafka.until(lambda: cluster.topic_id(kafka.topics.changes) not in (None, before))
    log.resume(0)
    async with asyncio.timeout(kafka.patience):
        while not isinstance(event := await log.next_event(), PositionLost):
            assert not isinstance(event, Records), event
    assert (event.partition, event.token) == (0, 1)
    assert "created again" in event.message


async def test_an_input_that_retention_has_cut_is_a_lost_position(kafka: KafkaHarness) -> None:
    log = kafka.member("m")
    await joined(log, kafka)
    await kafka.publish(0, [b"%d" % number for number in range(10)])
    await kafka.publish(1, [b"other"])
    await kafka.delete_input_before(0, 6)

    log.begin(0, 2, token=1)
    lost = await next_of(PositionLost, log, kafka)
    assert (lost.partition, lost.token, lost.offset) == (0, 1, 2)
    assert kafka.topics.changes in lost.message

    facts = await log.input_facts(0)
    assert (facts.earliest, facts.latest) == (6, 10)
    log.begin(0, facts.earliest, token=2)
    log.begin(1, 0, token=3)
    seen: list[Record] = []
    while len(seen) < 5:
        event = await next_of(Records, log, kafka)
        assert event.token == {0: 2, 1: 3}[event.partition]
        seen += event.records
    assert sorted(record.offset for record in seen) == [0, 6, 7, 8, 9]


class _InAnyBytes(str):
    """A header's name as a publisher in C may send it."""

    __slots__ = ()

    def encode(self, *_: str) -> bytes:
        return b"na\xffme"


@pytest.mark.parametrize("compression", [None, "lz4"])
async def test_a_header_name_that_is_not_utf8_does_not_stop_the_input(
    kafka: KafkaHarness, compression: str | None
) -> None:
    def publish() -> None:
        publisher = KafkaProducer(
            bootstrap_servers=kafka.bootstrap, compression_type=compression, linger_ms=100
        )
        for headers in ([("plain", b"1")], [(_InAnyBytes("name"), b"2\xff")], []):
            publisher.send(kafka.topics.changes, b"value \xff", b"key \xff", headers, partition=0)
        publisher.close()

    log = kafka.member("m")
    await joined(log, kafka)
    await asyncio.to_thread(publish)
    log.begin(0, 0, token=1)
    seen: list[Record] = []
    while len(seen) < 3:
        seen += (await next_of(Records, log, kafka)).records
    assert [record.headers for record in seen] == [
        (("plain", b"1"),),
        (("na\ufffdme", b"2\xff"),),
        (),
    ]
    assert {(record.key, record.value) for record in seen} == {(b"key \xff", b"value \xff")}


async def test_a_null_header_is_not_an_empty_one(kafka: KafkaHarness) -> None:
    """From the input to the dead letter."""
    headers = (("ce_id", None), ("empty", b""), ("ce_id", b"1"))

    def publish() -> None:
        producer = Clients(KafkaConnection((kafka.bootstrap,))).producer("publisher")
        producer.init_transactions()
        producer.begin_transaction()
        place = TopicPartition(kafka.topics.changes, 0)
        producer.partitions_for(place.topic)  # or the client does not learn where to send it
        (sent,) = send_all(producer, encode_all({place: [(b"key", None, headers)]}, producer.config))
        assert sent.errors(time.monotonic() + 30) == [None]
        producer.commit_transaction()
        producer.close()

    log = kafka.member("m")
    await joined(log, kafka)
    await asyncio.to_thread(publish)
    log.begin(0, 0, token=1)
    (record,) = (await next_of(Records, log, kafka)).records
    assert (record.key, record.value, record.headers) == (b"key", None, headers)
    shard = await log.open_shard(0)
    message = Message(record.key, record.value, record.headers)
    await shard.commit(Transaction([(b"k", b"v")], dead_letters=[message]))
    (letter,) = await kafka.read_committed(kafka.topics.dead_letters)
    assert (letter.key, letter.value, letter.headers) == (b"key", None, headers)
    await shard.close()


# --- starting ---------------------------------------------------------------------------------------------------


async def test_starting_without_the_topics_says_what_makes_them(kafka: KafkaHarness) -> None:
    topics = Topics(kafka.topics.changes, "no-such-journal", kafka.topics.results, "no-such-dead-letters")
    with pytest.raises(LogError, match=r"no-such-journal, no-such-dead-letters.*coursesyncd topics create"):
        await kafka.member("m", topics).start()


async def test_starting_with_a_larger_journal_is_refused(kafka: KafkaHarness) -> None:
    """A smaller one blocks the partitions that have none, and no others."""
    smaller = kafka.topics.dead_letters
    topics = dataclasses.replace(kafka.topics, changes=smaller)
    with pytest.raises(LogError, match="the same number"):
        await kafka.member("m", topics).start()


async def test_starting_without_a_broker_is_an_error_that_may_be_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(_EVERY_CLIENT, "bootstrap_timeout_ms", 300)
    log = KafkaLog(KafkaConnection(("127.0.0.1:1",)), Topics(), "group", None, 10.0)
    for _ in range(2):
        with pytest.raises(LogError, match=r"127\.0\.0\.1:1\b.*refuse"):
            await log.start()
    await log.stop()
    await log.stop()


async def test_topics_are_described_as_they_were_made(kafka: KafkaHarness, topic_names: Topics) -> None:
    admin = Admin(Clients(KafkaConnection((kafka.bootstrap,))))
    wanted = NewTopic(topic_names.journal, 3, 1, {"cleanup.policy": "compact", "segment.bytes": "67108864"})
    await asyncio.to_thread(admin.ask, lambda client: create_topics(client, [wanted]))
    facts = await asyncio.to_thread(
        admin.ask, lambda client: describe_topics(client, [topic_names.journal, topic_names.changes])
    )
    assert facts[topic_names.changes] is None
    journal = facts[topic_names.journal]
    assert journal is not None
    assert (journal.name, journal.partitions, journal.replication_factor) == (topic_names.journal, 3, 1)
    assert journal.configs["cleanup.policy"] == "compact"
    assert journal.configs["segment.bytes"] == "67108864"
    assert "retention.ms" in journal.configs  # what is in force by default is there too
    await asyncio.to_thread(admin.ask, lambda client: client.delete_topics([topic_names.journal]))
    admin.close()


def _client_of(log: KafkaLog) -> Any:
    """The consumer of Kafka's client, which has no types."""
    assert log._consumer is not None
    return log._consumer._consumer


def _tell_generation(
    loop: asyncio.AbstractEventLoop, when_asked: asyncio.Future[int], consumer: InputConsumer
) -> None:
    loop.call_soon_threadsafe(when_asked.set_result, consumer._generation)
