"""A refusal of our key by some integrations, and what a call that is made for none says to it: the real engine."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import msgspec
import pytest

from daemon import config
from daemon.core.answers import NoAnswer, NoAnswerReason, PollAnswer
from daemon.kombo.probe import INTEGRATION_ID
from daemon.log.port import Message
from daemon.telemetry.labels import Lifecycle
from tests.sandbox.simulator.faults import NONE, FaultPlan, SubmitRefused
from tests.unit.log_world import Api, LogWorld, change

KEY, ADDRESS = "PLATFORM.AUTHENTICATION_INVALID", "PLATFORM.IP_NOT_WHITELISTED"
WELL = "well:1"


class Watched(Api):
    """Counts what it is asked, by integration."""

    def __init__(self, api: Api) -> None:
        super().__init__(api.simulator)
        self.probes = 0
        self.is_deaf = False
        """A probe gets no answer."""

    async def poll(self, integration_id: str, task_id: str, items: int) -> PollAnswer:
        if integration_id == INTEGRATION_ID:
            self.probes += 1
            if self.is_deaf:
                return NoAnswer(NoAnswerReason.TIMEOUT, "deaf")
        return await super().poll(integration_id, task_id, items)


def world_with(*broken: str, code: str | None, statuses: tuple[int, ...]) -> tuple[LogWorld, Watched]:
    world = LogWorld()
    world.settings = replace(world.settings, park=config.ParkSettings(probe_min=0.1, probe_max=0.4))
    api = world.api = Watched(world.api)
    if broken:
        rule = SubmitRefused(statuses=statuses, code=code, integrations=broken)
        world.api.simulator.set_plan(0, FaultPlan(rules=(rule,)))
    return world, api


def publish(world: LogWorld, integration_id: str, courses: Iterable[str]) -> None:
    for course in courses:
        value = {**msgspec.json.decode(change(course)), "integration_id": integration_id}
        world.cluster.append(
            world.topics.changes, Message(integration_id.encode(), msgspec.json.encode(value)), 0
        )


def refusals(world: LogWorld) -> int:
    return sum(
        n for status, n in world.api.simulator.requests.items() if status in ("submit 401", "submit 403")
    )


@pytest.mark.parametrize(("code", "status"), [(KEY, 401), (ADDRESS, 403), (None, 401), (None, 403)])
@pytest.mark.parametrize("broken", [("a:1",), ("a:1", "b:1")])
async def test_a_key_that_works_for_others_is_never_halted_for_long_and_nobody_waits(
    code: str | None, status: int, broken: tuple[str, ...]
) -> None:
    """Readiness flapped, and the refused one was sent to without a pause."""
    world, api = world_with(*broken, code=code, statuses=(status,))
    async with world:
        await world.start()
        for name in broken:
            publish(world, name, "a")
        for number in range(4):
            publish(world, WELL, f"{number}")

            def has_ended(number: int = number) -> bool:
                return len(world.results()) > number

            await world.until(has_ended, "the one that is well")
        await world.until(lambda: refusals(world) >= 5 * len(broken), "probes of the refused ones")
        await world.until(lambda: world.health.lifecycle is Lifecycle.RUNNING, "running")
        assert world.health.ready().passed
        assert api.probes >= 1
        assert len(world.results()) == 4, "no change of the refused ones ends"
        world.api.simulator.set_plan(0, NONE)
        await world.until(lambda: len(world.results()) == 4 + len(broken), "all of them")
        assert {status for status, *_ in world.results()} == {"SUCCEEDED"}


@pytest.mark.parametrize(("code", "status"), [(KEY, 401), (ADDRESS, 403), (None, 401)])
async def test_a_second_integration_halts_if_the_probe_gets_no_answer(code: str | None, status: int) -> None:
    world, api = world_with("a:1", "b:1", code=code, statuses=(status,))
    api.is_deaf = True
    async with world:
        await world.start()
        publish(world, "a:1", "a")
        await world.until(lambda: api.probes > 1, "another probe after one without an answer")
        assert world.health.ready().passed
        publish(world, "b:1", "b")
        await world.until(lambda: not world.health.ready().passed, "the halt")
        assert world.health.lifecycle is Lifecycle.HALTED
        api.is_deaf = False
        await world.until(lambda: world.health.ready().passed, "the end of the halt: the key works")
        assert world.results() == []


async def test_the_only_integration_halts_when_the_probe_is_refused_too() -> None:
    world, api = world_with(code=None, statuses=(401,))
    world.api.simulator.api_key = "another"
    async with world:
        await world.start()
        publish(world, "a:1", "a")
        await world.until(lambda: world.health.lifecycle is Lifecycle.HALTED, "the halt")
        assert api.probes == 1
        world.api.simulator.api_key = "key"
        await world.until(lambda: len(world.results()) == 1, "the change, when a call is accepted again")
        assert world.health.ready().passed
