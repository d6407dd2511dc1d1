"""The watchdog over the threads of the log, on a real broker: it fires when the client hangs, and not because the
broker is away."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from daemon.log.errors import CommitFailedError, LogError
from daemon.log.kafka import KafkaLog, clients, partition_reader, producer, shard
from daemon.log.kafka import log as kafka_log
from daemon.log.port import Assigned, Transaction
from daemon.runtime.watchdog import Watchdog
from tests.sandbox.broker import Broker

from .kafka_harness import KafkaHarness, eventually

pytestmark = [pytest.mark.endurance, pytest.mark.kafka]

FOR_EVER_MS = 3_600_000
SILENCE_MAX = 10.0
"""Seconds; the client's time-outs are a tenth of what they are, so that a step takes 3 at most: the rest is for a machine
that is slow. (The watchdog allows for one that stands still.)"""


@pytest.fixture
async def kafka(own_broker: Broker) -> AsyncIterator[KafkaHarness]:
    harness = await KafkaHarness.create(own_broker.bootstrap)
    try:
        yield harness
    finally:
        own_broker.thaw()
        await harness.close()


def watching(log: KafkaLog, silence_max: float) -> tuple[Watchdog, list[str]]:
    """As the daemon does it, but the end is only noted."""
    deaths: list[str] = []
    watchdog = Watchdog(silence_max, die=deaths.append)
    watchdog.watch("consumer of Kafka", log.silence)
    watchdog.watch("commit, restore or request to Kafka", log.longest_call)
    watchdog.start()
    return watchdog, deaths


async def test_a_commit_that_hangs_in_the_client_ends_the_process_though_its_caller_has_given_it_up(
    kafka: KafkaHarness, own_broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    for bound in ("request_timeout_ms", "delivery_timeout_ms", "max_block_ms"):
        monkeypatch.setitem(clients._PRODUCER, bound, FOR_EVER_MS)
    monkeypatch.setattr(producer, "ACKNOWLEDGED_WITHIN", FOR_EVER_MS / 1000)
    log = kafka.member("m")
    await log.start()
    assert isinstance(await log.next_event(), Assigned)
    opened = await log.open_shard(0)
    await opened.commit(Transaction([(b"k", b"first")]))
    monkeypatch.setattr(shard, "COMMIT_TIMEOUT", 0.5)
    watchdog, deaths = watching(log, 3.0)
    beating = asyncio.create_task(beat(watchdog))

    own_broker.freeze()
    with pytest.raises(CommitFailedError, match="did not return"):
        await opened.commit(Transaction([(b"k", b"hangs")]))
    # To close the producer would cure this hang, as a rule; the watchdog is there for the others.

    async def fired() -> bool:
        # On a machine that is busy others may be silent as well.
        return any("commit, restore or request to Kafka has been silent" in death for death in deaths)

    await eventually(fired, kafka.patience)
    watchdog.stop()
    beating.cancel()
    await opened.close()


async def test_a_broker_that_is_away_for_long_does_not_end_the_process(
    kafka: KafkaHarness, own_broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time in a tenth: more than two minutes of standing still and half a minute of not being there, while the partition is
    opened, restored and committed to, and the cluster is asked, again and again."""
    a_tenth(monkeypatch)
    log = kafka.member("m")
    await eventually(lambda: starts(log), kafka.patience)
    assert isinstance(await log.next_event(), Assigned)
    watchdog, deaths = watching(log, SILENCE_MAX)
    work = [asyncio.create_task(job) for job in (beat(watchdog), commit(log), restore(log), ask(log))]

    own_broker.freeze()
    await asyncio.sleep(1.5 * SILENCE_MAX)  # the time of a broker's absence is the subject
    own_broker.thaw()
    await asyncio.sleep(1.0)
    await asyncio.to_thread(own_broker.kill)
    await asyncio.sleep(3.0)
    await asyncio.to_thread(own_broker.start)

    await eventually(lambda: log.confirm_assignment(0, 1.0), kafka.patience)
    assert all(not task.done() for task in work)
    for task in work:
        task.cancel()
    await asyncio.gather(*work, return_exceptions=True)
    watchdog.stop()
    assert deaths == [], deaths


def a_tenth(monkeypatch: pytest.MonkeyPatch) -> None:
    for settings in (clients._EVERY_CLIENT, clients._EVERY_CONSUMER, clients._PRODUCER, clients._ADMIN):
        for name, value in settings.items():
            if name.endswith("timeout_ms") or name == "max_block_ms":
                monkeypatch.setitem(settings, name, value // 10)
    bounds = {
        partition_reader: ["PATIENCE"],
        kafka_log: ["ASK_TIMEOUT"],
        producer: ["ACKNOWLEDGED_WITHIN", "CLOSE_TIMEOUT"],
        shard: ["CLOSE_TIMEOUT", "COMMIT_TIMEOUT", "OPEN_TIMEOUT", "READ_TIMEOUT"],
    }
    for module, names in bounds.items():
        for name in names:
            monkeypatch.setattr(module, name, getattr(module, name) / 10)


async def starts(log: KafkaLog) -> bool:
    """A tenth of the time is not always enough."""
    with contextlib.suppress(LogError):
        await log.start()
        return True
    return False


async def beat(watchdog: Watchdog) -> None:
    while True:
        watchdog.beat()
        await asyncio.sleep(0.1)


async def commit(log: KafkaLog) -> None:
    while True:
        try:
            opened = await log.open_shard(0)
        except LogError:
            continue
        try:
            while True:
                await opened.commit(Transaction([(b"k", b"v")]))
        except LogError:
            pass
        finally:
            await opened.close()


async def restore(log: KafkaLog) -> None:
    while True:
        try:
            async for _ in log.read_journal(0):
                pass
        except LogError:
            pass


async def ask(log: KafkaLog) -> None:
    while True:
        with contextlib.suppress(LogError):
            await log.input_facts(0)
