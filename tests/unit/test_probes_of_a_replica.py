"""The probes, the lifecycle and the figures of a restore, as a replica brings them about by what it does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from daemon import config
from daemon.core.waiting import WaitReason, Waits
from daemon.log.port import Record
from daemon.runtime import liveness
from daemon.runtime.clock import SystemClock
from daemon.runtime.liveness import LOOPS, report_liveness
from daemon.runtime.watchdog import Watchdog
from daemon.telemetry.health import KAFKA_SILENCE_MAX_S, Health, PartitionStatus
from daemon.telemetry.labels import Lifecycle
from tests.embedded_log import EmbeddedLog
from tests.embedded_log import client as embedded
from tests.embedded_log.client import EmbeddedShardLog
from tests.sandbox.simulator.faults import NONE, FaultPlan, SubmitRefused
from tests.unit.log_world import LogWorld, now_ms, read

RECORDS_MAX = 5
"""In one piece of a restore."""


@pytest.fixture
def go_on(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Until it is set, a restore stands still after its first records."""
    event = asyncio.Event()
    restore = EmbeddedShardLog.restore

    async def slowly(self: EmbeddedShardLog) -> AsyncIterator[Sequence[Record]]:
        async for records in restore(self):
            yield records
            await event.wait()
        await event.wait()  # there may be none

    monkeypatch.setattr(EmbeddedShardLog, "restore", slowly)
    monkeypatch.setattr(embedded, "RECORDS_MAX", RECORDS_MAX)
    return event


async def test_a_long_restore_keeps_it_from_being_ready_and_from_nothing_else(go_on: asyncio.Event) -> None:
    go_on.set()
    async with LogWorld() as world:
        await world.start()
        for course in "abcdef":
            await read(world, 0, course)
        await world.stop()

        go_on.clear()
        await world.start()
        pulsing = asyncio.create_task(report_liveness(world.health, world.repair_log, Watchdog(60.0)))
        try:
            journal = world.cluster.partition(world.topics.journal, 0)
            await world.until(
                lambda: 0 < world.metrics.snapshot().restore_remaining < journal.end, "a restore under way"
            )
            await world.until(lambda: world.health.startup().passed, "the loops")
            assert world.health.live().passed
            assert "partition 0 is restoring" in world.health.ready().reasons
            states = [world.health.lifecycle]

            go_on.set()
            await world.until(lambda: world.health.ready().passed, "ready")
            assert world.metrics.snapshot().restore_remaining == 0
            states.append(world.health.lifecycle)
            assert states == [Lifecycle.RESTORING, Lifecycle.RUNNING]
        finally:
            pulsing.cancel()


async def test_an_idle_member_is_ready_and_stays_so_when_it_takes_over(go_on: asyncio.Event) -> None:
    """Its partitions come later: readiness was about those that it was given first, and they were none."""
    async with LogWorld() as world:
        others = [EmbeddedLog(world.cluster, world.topics, name) for name in ("second", "third")]
        for other in others:
            await (
                other.start()
            )  # two partitions: none is left for a third one that comes first in the alphabet
        world.member = "first"
        await world.start()
        assert not world.health.ready().passed, "before it has joined"
        await world.until(lambda: world.health.ready().passed, "ready")
        assert dict(world.health.partitions) == {}
        assert world.health.lifecycle is Lifecycle.RUNNING

        world.publish(0, "a")
        for name in ("second", "third"):
            world.cluster.expire(name)
        await world.until(lambda: world.state(0) is PartitionStatus.RESTORING, "the partitions")
        assert world.health.ready().passed
        go_on.set()
        await world.running(0)
        assert world.health.ready().passed
        await world.until(lambda: len(world.results()) == 1, "the result")


async def test_what_is_taken_away_in_the_middle_of_its_restore_is_not_to_be_read_here(
    go_on: asyncio.Event,
) -> None:
    go_on.set()
    async with LogWorld() as world:
        world.member = "first"
        await world.start()
        for course in "abcdef":
            await read(world, 0, course)
        await world.stop()

        go_on.clear()
        await world.start()
        await world.until(lambda: world.metrics.snapshot().restore_remaining, "a restore under way")
        for name in ("second", "third"):
            await EmbeddedLog(world.cluster, world.topics, name).start()
        await world.until(lambda: not world.health.partitions, "no partitions")
        assert world.metrics.snapshot().restore_remaining == 0
        assert "partition=" not in world.scrape()


async def test_the_series_of_a_partition_end_when_it_goes_and_the_others_stay() -> None:
    lag = 'coursesync_kafka_consumer_lag_records{{partition="{}",topic="course-changes"}}'
    async with LogWorld() as world:
        world.member = "first"
        await world.start()
        await read(world, 0, "a")
        await read(world, 1, "b")
        assert lag.format(0) in world.scrape()
        assert lag.format(1) in world.scrape()

        await EmbeddedLog(world.cluster, world.topics, "second").start()  # takes the latter half
        await world.until(lambda: list(world.health.partitions) == [0], "the other half")

        assert lag.format(0) in world.scrape()
        assert 'partition="1"' not in world.scrape()
        assert 'coursesync_kafka_assigned_partitions{topic="course-changes"} 1.0' in world.scrape()
        assert world.health.ready().passed


@pytest.mark.parametrize("unanswered", [KAFKA_SILENCE_MAX_S, 3600.0, None])
async def test_a_lag_is_not_shown_as_nothing_while_kafka_does_not_answer(
    unanswered: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    lag = 'coursesync_kafka_consumer_lag_records{partition="0",topic="course-changes"} 0.0'
    async with LogWorld() as world:
        await world.start()
        await read(world, 0, "a")
        assert lag in world.scrape()
        with monkeypatch.context() as silent:
            silent.setattr(EmbeddedLog, "unanswered", lambda _: unanswered)
            assert "consumer_lag_records{" not in world.scrape()
            assert "kafka_last_record_timestamp_seconds{" in world.scrape()
        assert lag in world.scrape()


async def test_a_silence_of_kafka_is_told_once_and_so_is_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "INTERVAL", 0.001)
    unanswered: list[float | None] = [None, 0.1, 59.0, 60.0, 61.0, 500.0, 0.5, 1.0, 70.0, None, 0.0]
    answers = iter(unanswered)
    done = asyncio.Event()

    def next_answer(_: EmbeddedLog) -> float | None:
        answer = next(answers, unanswered[-1])
        if answer == unanswered[-1]:
            done.set()
        return answer

    monkeypatch.setattr(EmbeddedLog, "unanswered", next_answer)
    async with LogWorld() as world:
        health = Health(LOOPS, SystemClock().now)
        with capture_logs() as lines:
            ticking = asyncio.create_task(report_liveness(health, world.repair_log, Watchdog(60.0)))
            await done.wait()
            ticking.cancel()
    told = [line["event"] for line in lines if line["event"].startswith("kafka.")]
    assert told == ["kafka.silent", "kafka.answers_again", "kafka.silent", "kafka.answers_again"]


async def test_a_customer_who_has_to_act_is_seen_and_how_long_already() -> None:
    """All changes of the integration, whatever else would hold them; until the API takes one."""
    async with LogWorld() as world:
        pending = SubmitRefused(statuses=(409,), code="INTEGRATION.SETUP_SYNC_PENDING")
        world.api.simulator.set_plan(now_ms(), FaultPlan(rules=(pending,)))
        world.settings = replace(
            world.settings,
            batch=config.BatchSettings(linger=0.02, items_max=2),
            window=config.WindowSettings(batches_max=1),
            park=config.ParkSettings(probe_min=0.05, probe_max=0.1),
        )
        await world.start()
        before = now_ms()
        world.publish(0, "abcde")

        def parked() -> Waits:
            return world.metrics.snapshot().waiting[WaitReason.PARKED]

        await world.until(lambda: parked().changes == 5, "all of them")
        oldest = parked().oldest
        assert oldest is not None
        assert before - 1000 < oldest <= now_ms()
        assert 'coursesync_changes_waiting{reason="parked"} 5.0' in world.scrape()
        assert world.results() == []

        world.api.simulator.set_plan(now_ms(), NONE)
        await world.until(lambda: len(world.results()) == 5, "the results")
        await world.until(lambda: parked() == (0, None), "the end of it")
        await world.until(lambda: "coursesync_contract_imbalance 0.0" in world.scrape(), "the balance")
