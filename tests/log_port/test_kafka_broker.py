"""A broker that dies, comes back, or hangs, under a shard that goes on by the rule: close, confirm, fence, restore."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from kafka import KafkaProducer

from daemon.log.errors import CommitFailedError, LogError
from daemon.log.kafka import KafkaConnection, KafkaLog, shard
from daemon.log.kafka import producer as producers
from daemon.log.kafka.admin import NewTopic, create_topics
from daemon.log.kafka.clients import _PRODUCER, Clients
from daemon.log.kafka.cures.sending import Encoded, Sent, send_all
from daemon.log.kafka.producer import ShardProducer
from daemon.log.port import Assigned, Message, Records, ShardLog, Topics, Transaction
from tests.sandbox.broker import Broker

from .kafka_harness import KafkaHarness, eventually

pytestmark = [pytest.mark.endurance, pytest.mark.kafka]

FOR_EVER_MS = 3_600_000
TROUBLES = 3
COMMITS_BETWEEN = 15
"""At least that many, before the broker is in trouble and after it has come back."""


@pytest.fixture
async def kafka(own_broker: Broker) -> AsyncIterator[KafkaHarness]:
    harness = await KafkaHarness.create(own_broker.bootstrap)
    try:
        yield harness
    finally:
        await harness.close()


class Counter:
    """Commits 0, 1, 2, … each as a journal record and a result, and goes on from what the journal says
    after any error: a shard in small."""

    def __init__(self, log: KafkaLog, patience: float) -> None:
        self._log = log
        self._patience = patience
        self.next = 0
        self.errors: list[LogError] = []

    async def run(self) -> None:
        while True:
            try:
                opened = await self._open()
            except LogError:
                continue
            try:
                await self._count(opened)
            except CommitFailedError as error:
                self.errors.append(error)
            except LogError:
                pass  # of the restore
            finally:
                await opened.close()

    async def _open(self) -> ShardLog:
        while not await self._log.confirm_assignment(0, self._patience):
            pass
        return await self._log.open_shard(0)

    async def _count(self, opened: ShardLog) -> None:
        last = -1
        async for batch in opened.restore():
            last = int(batch[-1].value or b"")
        assert last >= self.next - 1, "a commit that had returned was lost"
        self.next = last + 1
        while True:
            number = b"%d" % self.next
            await opened.commit(Transaction([(b"count", number)], [Message(number, number)]))
            self.next += 1


async def test_kills_of_the_broker_lose_nothing_and_double_nothing(
    kafka: KafkaHarness, own_broker: Broker
) -> None:
    async def kill(_: Counter) -> None:
        await asyncio.to_thread(own_broker.kill)
        await asyncio.to_thread(own_broker.start)

    await _counts_through(kill, kafka)


async def test_a_broker_that_stands_still_loses_nothing_and_doubles_nothing(
    kafka: KafkaHarness, own_broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    _expire_soon(monkeypatch)

    async def freeze(counter: Counter) -> None:
        failed = len(counter.errors)
        await asyncio.to_thread(own_broker.freeze)
        try:
            await eventually(lambda: asyncio.to_thread(lambda: len(counter.errors) > failed), kafka.patience)
        finally:
            own_broker.thaw()

    await _counts_through(freeze, kafka)


async def _counts_through(trouble: Callable[[Counter], Awaitable[None]], kafka: KafkaHarness) -> None:
    log = kafka.member("m")
    await log.start()
    assert isinstance(await log.next_event(), Assigned)
    counter = Counter(log, kafka.patience)
    counting = asyncio.create_task(counter.run())
    try:
        for _ in range(TROUBLES):
            await _reaches(counter, counting, counter.next + COMMITS_BETWEEN)
            await trouble(counter)
        await _reaches(counter, counting, counter.next + COMMITS_BETWEEN)
    finally:
        counting.cancel()
        await asyncio.gather(counting, return_exceptions=True)

    results = sorted(int(record.value or b"") for record in await kafka.read_committed(kafka.topics.results))
    assert results == list(range(len(results)))
    assert len(results) in (counter.next, counter.next + 1)  # the last was cut short by the cancellation
    journal = await kafka.read_committed(kafka.topics.journal)
    assert int(journal[-1].value or b"") == results[-1]


async def _reaches(counter: Counter, counting: asyncio.Task[None], count: int) -> None:
    async with asyncio.timeout(60):
        while counter.next < count:
            if counting.done():
                counting.result()
            await asyncio.sleep(0.05)


async def test_records_go_on_after_a_kill_of_the_broker(kafka: KafkaHarness, own_broker: Broker) -> None:
    log = kafka.member("m")
    await log.start()
    assert isinstance(await log.next_event(), Assigned)
    await kafka.publish(0, [b"before"])
    log.begin(0, 0, token=1)
    assert (await _value(log, kafka)) == b"before"

    await asyncio.to_thread(own_broker.kill)
    killed_at = time.monotonic()
    assert not await log.confirm_assignment(0, 0.5)
    await kafka.until(lambda: time.monotonic() - log.silence() > killed_at + 1.0)  # it goes on looking
    await asyncio.to_thread(own_broker.start)

    await kafka.publish(0, [b"after"])
    assert (await _value(log, kafka)) == b"after"
    assert await log.confirm_assignment(0, kafka.patience)


async def _value(log: KafkaLog, kafka: KafkaHarness) -> bytes | None:
    async with asyncio.timeout(kafka.patience):
        # Records without any report a new position only.
        while not (isinstance(event := await log.next_event(), Records) and event.records):
            if isinstance(event, Assigned):  # the broker may have forgotten the group's state
                log.begin(0, 1, token=2)
        (record,) = event.records
        return record.value


async def test_a_commit_that_hangs_is_given_up_and_the_shard_can_be_opened_again(
    kafka: KafkaHarness, own_broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    for bound in ("request_timeout_ms", "delivery_timeout_ms", "max_block_ms"):
        monkeypatch.setitem(_PRODUCER, bound, FOR_EVER_MS)
    log = kafka.member("m")
    await log.start()
    assert isinstance(await log.next_event(), Assigned)
    opened = await log.open_shard(0)
    await opened.commit(Transaction([(b"1", b"first")]))
    monkeypatch.setattr(shard, "COMMIT_TIMEOUT", 1.0)

    with _thawed_at_the_end(own_broker):
        await asyncio.to_thread(own_broker.freeze)
        with pytest.raises(CommitFailedError, match="did not return"):
            await opened.commit(Transaction([(b"2", b"unknown fate")]))
        async with asyncio.timeout(kafka.patience):
            await opened.close()

    monkeypatch.undo()
    assert await log.confirm_assignment(0, kafka.patience)
    again = await log.open_shard(0)
    restored = [record.value async for batch in again.restore() for record in batch]
    assert restored in ([b"first"], [b"first", b"unknown fate"])
    await again.commit(Transaction([(b"3", b"next")]))
    assert [r.value for r in await kafka.read_committed(kafka.topics.journal)] == [*restored, b"next"]
    await again.close()


async def test_a_shard_that_is_taken_away_in_the_middle_of_a_call_leaves_nothing_behind(
    kafka: KafkaHarness, own_broker: Broker
) -> None:
    """The call goes on for longer than anybody waits for its end; then its client has to be closed too."""
    log = kafka.member("m")
    await log.start()
    assert isinstance(await log.next_event(), Assigned)
    await log.input_facts(0)
    opened = await log.open_shard(1)
    await opened.close()
    own = set(threading.enumerate())
    opened = await log.open_shard(0)
    await opened.commit(Transaction([(b"k", b"v")]))

    with _thawed_at_the_end(own_broker):
        await asyncio.to_thread(own_broker.freeze)
        commit = asyncio.create_task(opened.commit(Transaction([(b"k", b"cut short")])))
        opening = asyncio.create_task(log.open_shard(1))
        await kafka.until(lambda: len(log._progress._progressed_at) == 2)  # both have begun, and can not end
        for task in (commit, opening):
            task.cancel()
        await asyncio.wait([commit, opening])
        await opened.close()

    def left_behind() -> list[str]:
        others = set(threading.enumerate()) - own
        return [thread.name for thread in others if not thread.name.startswith("asyncio_")]

    try:
        await kafka.until(lambda: not left_behind())
    except TimeoutError:
        pytest.fail(f"still there: {left_behind()}")


async def test_records_that_expire_in_the_client_fail_their_commit(
    kafka: KafkaHarness, own_broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client's own commit would go through after that, and the records would be lost (defect 3)."""
    one = f"{kafka.topics.changes}-one-partition"
    await asyncio.to_thread(create_topics, kafka.admin, [NewTopic(one, 1)])
    journal = Topics(changes=one, journal=one, results=one, dead_letters=one, courses=one)
    shard_producer = ShardProducer(Clients(KafkaConnection((kafka.bootstrap,))), journal, 0)
    await asyncio.to_thread(shard_producer.open)
    # Only what is not acknowledged is to fail after two seconds, and not the opening.
    client: Any = shard_producer._producer
    client._accumulator.config["delivery_timeout_ms"] = 2000

    def send_one_and_freeze(producer: KafkaProducer, batches: Sequence[Encoded]) -> list[Sent]:
        """Freezes the broker once it has begun the transaction, so that nothing but the other records is refused."""
        first, *others = batches
        sent = send_all(producer, [first])
        while not client._transaction_manager.is_partition_added(first.partition):
            time.sleep(0.001)
        own_broker.freeze()
        return sent + send_all(producer, others)

    step = Transaction([(b"k", b"v")], dead_letters=[Message(b"k", b"expired")])
    with _thawed_at_the_end(own_broker), monkeypatch.context() as patched:
        patched.setattr(producers, "send_all", send_one_and_freeze)
        with pytest.raises(CommitFailedError, match=r"Expiring \d record"):
            await asyncio.to_thread(shard_producer.commit, shard_producer.prepare(step))
    await asyncio.to_thread(shard_producer.close)
    await asyncio.to_thread(
        own_broker.await_answer
    )  # its session with the controller may have ended meanwhile
    await asyncio.to_thread(shard_producer.open)
    prepared = shard_producer.prepare(Transaction([(b"k", b"next")]))
    await asyncio.to_thread(shard_producer.commit, prepared)
    await asyncio.to_thread(shard_producer.close)
    assert [record.value for record in await kafka.read_committed(one)] == [b"next"]


def _expire_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records that the broker does not acknowledge fail after two seconds instead of ten."""
    monkeypatch.setitem(_PRODUCER, "request_timeout_ms", 1500)  # still enough for a busy machine's broker
    monkeypatch.setitem(_PRODUCER, "delivery_timeout_ms", 2000)


@contextmanager
def _thawed_at_the_end(broker: Broker) -> Iterator[None]:
    try:
        yield
    finally:
        broker.thaw()
