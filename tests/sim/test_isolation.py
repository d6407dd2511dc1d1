"""C5, measured: in virtual time it can be exact to the moment."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial

import msgspec
import pytest

from daemon import config
from daemon.config import Settings
from daemon.log.port import Message
from tests.sandbox.simulator.faults import NONE, AnswerLost, AnyRule, FaultPlan, LimitLow, SubmitRefused
from tests.sim import faults, history
from tests.sim.faulty import LogFaults
from tests.sim.network import NetworkFaults
from tests.sim.parameters import TOPICS, Bounds, Kind, Names, Parameters
from tests.sim.world import World

LIMITED, SILENT = "tool:limited", "tool:silent"
OTHERS = tuple(f"tool:{number}" for number in range(4))
SECONDS = 20
COURSES = 5
"""That each integration publishes every second: as many submissions, so that there is more to send than one at a
time."""


class Steady(random.Random):
    """No chance: every duration is the same."""

    def __init__(self, seconds: float) -> None:
        super().__init__(1)
        self._seconds = seconds

    def uniform(self, a: float, b: float) -> float:
        return self._seconds


def world_with(plan: FaultPlan) -> World:
    settings = Settings(
        kafka=config.KafkaSettings(session_timeout=6.0),
        topics=TOPICS,
        batch=config.BatchSettings(linger=0.1, items_max=1),
        http=config.HttpSettings(deadline=2.0),
        fence=config.FenceSettings(lease=2.0),
        poll=config.PollSettings(first_after=0.3, interval_max=2.0),
    )
    world = history.build(
        random.Random(1),
        Parameters(
            kind=Kind.ISOLATION,
            partitions=2,
            replicas=1,
            names=Names((), ()),
            integrations=0,
            courses=0,
            changes=0,
            deactivated=0.0,
            contents=1,
            duration=0.0,
            settings=settings,
            log_faults=LogFaults(),
            network_faults=NetworkFaults(),
            plan=plan,
            strikes=faults.NO_STRIKES,
            api_offset_ms=0,
            resend=0.0,
            bulk=0.0,
            huge=0.0,
            long=0.0,
            bounds=Bounds(),
        ),
    )
    world.cluster.rng, world.network.rng = Steady(0.0), Steady(0.05)
    world.network.simulator._task_seconds = 0.0
    world.network.simulator.set_plan(world.api_now(), plan)
    world.network.refused_content = None
    return world


def publish(world: World, integrations: Sequence[str]) -> None:
    """All of them share the two partitions."""
    for second in range(SECONDS):
        for place, integration_id in enumerate(integrations):
            for course in range(COURSES):
                value = msgspec.json.encode(
                    {
                        "id": f"{second}-{course}",
                        "type": "course.upserted",
                        "integration_id": integration_id,
                        "origin_id": f"course-{second}-{course}",
                        "course": {"type": "EXTERNAL", "title": "T", "course_url": "https://example.com/c"},
                    }
                )
                message = Message(integration_id.encode(), value)
                world.after(1 + second, partial(append, world, message, place % 2))


def append(world: World, message: Message, partition: int) -> None:
    world.cluster.append(TOPICS.changes, message, partition)


def results(*rules: AnyRule) -> dict[str, list[float]]:
    """When the changes of each integration had their results, in virtual seconds."""
    world = world_with(msgspec.structs.replace(NONE, rules=rules, concurrency_limit=30))
    publish(world, (LIMITED, SILENT, *OTHERS))
    world.start(world.replicas[0])
    world.run(SECONDS + 30.0)
    assert world.witness.violations == []
    assert world.deaths == []
    found: dict[str, list[float]] = {name: [] for name in (LIMITED, SILENT, *OTHERS)}
    for told in world.witness.told:
        assert told.batch_id is not None
        found[world.witness.batches[told.batch_id].record.integration_id].append(told.at)
    return found


@pytest.mark.parametrize(
    "trouble",
    [
        (LimitLow(limit=1, integrations=(LIMITED,)), AnswerLost(how="hang", integrations=(SILENT,))),
        (LimitLow(limit=1, others=1, integrations=(LIMITED,)), SubmitRefused(integrations=(SILENT,))),
    ],
    ids=["one at a time, and no answer", "always one too many, and broken"],
)
def test_the_others_have_each_result_at_the_very_moment_at_which_they_would_have_it(
    trouble: Sequence[AnyRule],
) -> None:
    well, beside_trouble = results(), results(*trouble)
    for integration_id in OTHERS:
        assert len(well[integration_id]) == SECONDS * COURSES
        assert beside_trouble[integration_id] == well[integration_id]
    assert beside_trouble[LIMITED] != well[LIMITED]
    assert beside_trouble[SILENT] == []
