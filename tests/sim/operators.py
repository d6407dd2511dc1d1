"""Operators who pause integrations, resume them and give changes up (R19)."""

from __future__ import annotations

import random
from datetime import datetime
from functools import partial
from typing import Any

import msgspec

from daemon.log.port import Message
from tests.sim.obedience import Known
from tests.sim.parameters import TOPICS, Parameters
from tests.sim.world import World


def give_orders(world: World, parameters: Parameters) -> None:
    """Schedule the decisions of this history."""
    rng = random.Random(f"{parameters.duration} {parameters.strikes} {parameters.settings} {parameters.plan}")
    for _ in range(parameters.decisions):
        at = rng.uniform(0.0, parameters.duration)
        world.after(at, partial(_decide, world, parameters, random.Random(rng.random())))


def _decide(world: World, parameters: Parameters, rng: random.Random) -> None:
    integrations = parameters.names.integrations[: parameters.integrations]
    one = rng.choice(integrations)
    dice = rng.random()
    if dice < 0.7:
        name = rng.choice((one, one, one, one[:-1] + "*", "*"))
        until = world.wall_ms() + rng.randrange(500, 9000) if dice < 0.4 and rng.random() < 0.4 else None
        pause(world, name, paused=dice < 0.4, until=until)
        return
    course = rng.choice(parameters.names.courses[: parameters.courses]) if rng.random() < 0.4 else None
    cluster = world.cluster
    value = {
        "kind": "give-up",
        "integration_id": one,
        "origin_id": course,
        "open_tasks": rng.random() < 0.4,
        "topic_id": cluster.topic_id(TOPICS.changes),
        "before": [cluster.partition(TOPICS.changes, p).end for p in range(parameters.partitions)],
        "by": "operator@host",
        "reason": None,
        "decided_at": "2026-01-01T00:00:00Z",
    }
    key = ["give-up", one] if course is None else ["give-up", one, course]
    _write(world, key, value)


def pause(world: World, name: str, *, paused: bool, until: int | None = None) -> None:
    """Write the decision. `until` is wall clock, ms."""
    value = {
        "kind": "pause",
        "integration": name,
        "paused": paused,
        "until": None if until is None else datetime.fromtimestamp(until / 1000).astimezone().isoformat(),
        "by": "operator@host",
        "reason": "a test",
        "decided_at": "2026-01-01T00:00:00Z",
    }
    _write(world, ["pause", name], value)


def _write(world: World, key: list[str], value: dict[str, Any]) -> None:
    _, offset = world.cluster.append(
        TOPICS.control, Message(msgspec.json.encode(key), msgspec.json.encode(value)), 0
    )
    world.orders.append(Known(offset, value["kind"], value))
    world.note(f"an operator decides: {value}")
