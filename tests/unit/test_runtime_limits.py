"""What must not gather in the runtime, and what ends it."""

from __future__ import annotations

import random
from typing import Any

import pytest

from daemon.config import Policies
from daemon.core.flow import Flow
from daemon.log.errors import FatalLogError
from daemon.runtime.halt import Halt
from daemon.runtime.poll_entries import Pending
from daemon.runtime.poller import Poller
from daemon.runtime.ports import Ports
from daemon.runtime.waker import Waker
from daemon.telemetry.health import Health
from daemon.telemetry.metrics import Metrics
from daemon.telemetry.subscribers import subscribed
from tests.embedded_log import EmbeddedLog
from tests.sandbox.simulator.faults import FaultPlan, SubmitRefused
from tests.unit.core_bench import Bench, refused
from tests.unit.log_world import LogWorld, now_ms, read


class OnePartition:
    """As much of a partition as a poll asks for."""

    number = 3
    active = True

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.answer: Any = None

    @property
    def shard(self) -> Any:
        return self.bench.shard

    def wake(self) -> None:
        """It is not asleep."""

    async def poll(self, _integration_id: str, _task_id: str, _items: int) -> Any:
        return self.answer

    def now(self) -> Any:
        return self.bench.now


async def test_a_watch_that_ends_with_a_task_that_is_not_found_leaves_no_blind_task() -> None:
    """It would count as blind forever, and keep the shard's whole memory."""
    bench = Bench()
    partition: Any = OnePartition(bench)
    health = Health((), partition.now)
    metrics = Metrics(health, version="0", input_topic="t", task_timeout_s=1.0)
    settings, no_part = bench.settings, None
    ports = Ports(
        settings,
        Policies(settings),
        no_part,  # type: ignore[arg-type]
        partition,
        partition,
        random.Random(1),
        subscribed(health, metrics),
    )
    flow: Flow[Any] = Flow(settings, Policies(settings), random.Random(1))
    halt = Halt(ports, flow, bench.judge, lambda: False, lambda: None, lambda: None)
    poller = Poller(ports, flow, bench.judge, halt, Waker(), Waker())

    batch = bench.accepted("a")
    bench.poll_answer(batch, bench.pending(age=90_000))
    (late,) = bench.shard._memory.late.values()
    pending = Pending(partition, bench.shard, late.batch_id, late=True)
    poller.late(partition, bench.shard, late.batch_id)
    for age_s, blind in ((100_000, 1), (400_000, 0)):
        bench.pass_time(age_s)
        partition.answer = refused(404, api_time=bench.created_at + age_s * 1000)
        await poller._ask(pending, 0.0)
        assert len(poller.blind) == blind
    assert bench.shard._memory.late == {}


async def test_the_places_of_all_partitions_that_run_are_told() -> None:
    async with LogWorld(partitions=2) as world:
        await world.start()
        await world.running(0)
        await world.running(1)
        assert b"\ncoursesync_pending_tasks_max 20000.0\n" in world.metrics.exposition()


async def test_in_which_state_integrations_are_is_told() -> None:
    def says(state: str, count: int) -> bool:
        return f'\ncoursesync_integrations_by_state{{state="{state}"}} {count}.0\n' in world.scrape()

    async with LogWorld(partitions=1) as world:
        await world.start()
        await read(world, 0, "a")
        assert says("healthy", 1)
        denied = SubmitRefused(statuses=(403,), code="INTEGRATION.AUTHENTICATION_INVALID")
        world.api.simulator.set_plan(now_ms(), FaultPlan(rules=(denied,)))
        world.publish(0, "b")
        await world.until(lambda: says("parked", 1), "the integration to be parked")
        assert says("healthy", 0)


async def test_a_log_that_can_not_go_on_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A partition that opened again and again would hide that only a new process helps."""

    async def hang(_log: EmbeddedLog, _partition: int) -> Any:
        raise FatalLogError("threads hang")

    monkeypatch.setattr(EmbeddedLog, "open_shard", hang)
    async with LogWorld() as world:
        await world.start()
        with pytest.raises(FatalLogError, match="threads hang"):
            await world.until(lambda: False, "the end")
