"""One history: parameters from a seed, a phase of faults, a phase of healing, a judgement."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from typing import Any

import msgspec

from daemon import config
from daemon.config import Settings, Topics
from daemon.log.port import Message
from daemon.sandbox.simulator.faults import NONE, FaultPlan
from daemon.sandbox.simulator.state import Simulator
from tests.sim import faults
from tests.sim.faulty import FaultyCluster, LogFaults
from tests.sim.judge import judge_history, unfinished
from tests.sim.network import Network, NetworkFaults
from tests.sim.outcome import Outcome
from tests.sim.world import Replica, World

TOPICS = Topics("changes", "journal", "results", "dead-letters")
CALM_MAX = 240.0
"""Virtual seconds within which everything must have converged once nothing fails any more."""


@dataclass(frozen=True)
class Parameters:
    partitions: int
    replicas: int
    integrations: int
    courses: int
    changes: int
    duration: float
    """Virtual seconds of the phase of faults."""
    settings: Settings
    log_faults: LogFaults
    network_faults: NetworkFaults
    plan: FaultPlan
    strikes: faults.Strikes
    api_offset_ms: int


def draw(rng: random.Random) -> Parameters:
    """Small on purpose, so that changes collide."""
    wild = rng.random()
    plan = faults.draw_plan(rng, wild)
    network_faults = faults.draw_network(rng, wild)
    if not plan.idempotency.return_finished:
        # A repeated request whose task is finished would run again after newer changes: that equal
        # bytes run once, as long as a request may be on its way, is the API's promise (contract 4).
        network_faults.request_twice = 0.0
    return Parameters(
        partitions=rng.randint(1, 3),
        replicas=rng.choice((1, 2, 2, 3)),
        integrations=rng.randint(1, 3),
        courses=rng.randint(1, 4),
        changes=rng.randint(8, 50),
        duration=rng.uniform(8.0, 25.0),
        settings=draw_settings(rng),
        log_faults=faults.draw_log(rng, wild),
        network_faults=network_faults,
        plan=plan,
        strikes=faults.draw_strikes(rng, wild),
        api_offset_ms=rng.choice((0, 0, -30_000, 45_000)),
    )


def draw_settings(rng: random.Random) -> Settings:
    linger = rng.choice((0.0, 0.1, 0.5))
    return Settings(
        kafka=config.Kafka(session_timeout=6.0),
        topics=config.Topics(TOPICS.changes, TOPICS.journal, TOPICS.results, TOPICS.dead_letters),
        batch=config.Batch(linger=linger, items_max=rng.choice((1, 2, 5, 100))),
        window=config.Window(batches_max=rng.choice((1, 2, 8))),
        http=config.Http(in_flight_max=rng.choice((2, 8, 64)), deadline=2.0),
        fence=config.Fence(lease=2.0),
        poll=config.Poll(first_after=0.3, factor=1.6, interval_max=2.0),
        task=config.Task(timeout=10.0, watch_after_timeout=6.0),
        retry=config.Retry(backoff_min=0.1, backoff_max=1.0, attempts_max=rng.choice((2, 5))),
        park=config.Park(probe_min=0.5, probe_max=2.0),
        drain=config.Drain(timeout=2.0),
    )


def run(seed: int) -> Outcome:
    rng = random.Random(seed)
    parameters = draw(rng)
    world = build(rng, parameters)
    happened: Counter[str] = Counter()
    changes = publish_all(world, parameters)
    faults.unleash(world, parameters.strikes, parameters.duration, happened)
    for replica in world.replicas:
        world.after(rng.uniform(0, 1.0), lambda replica=replica: world.start(replica))
    world.run(parameters.duration)
    heal(world, parameters)
    world.run(world.time + CALM_MAX, lambda: not unfinished(world, changes()))
    return judge_history(seed, world, changes(), happened)


def build(rng: random.Random, parameters: Parameters) -> World:
    world = World(
        rng=random.Random(rng.random()),
        settings=parameters.settings,
        topics=TOPICS,
        session_timeout=parameters.settings.kafka.session_timeout,
    )
    world.cluster = FaultyCluster(
        world.wall_ms, parameters.log_faults, random.Random(rng.random()), world.after
    )
    for topic in (TOPICS.changes, TOPICS.journal):
        world.cluster.create_topic(topic, parameters.partitions)
    for topic in (TOPICS.results, TOPICS.dead_letters):
        world.cluster.create_topic(topic, 1)

    def api_now() -> int:
        return world.wall_ms() + parameters.api_offset_ms

    simulator = Simulator(
        rng=random.Random(rng.random()),
        now=api_now(),
        api_key="key-0",
        plan=parameters.plan,
        task_seconds=rng.choice((0.0, 0.5, 1.5)),
    )
    world.api_now = api_now
    world.network = Network(
        simulator,
        parameters.network_faults,
        random.Random(rng.random()),
        api_now,
        world.after,
        lambda body: None if is_durable(world, body) else world.posted.append(body),
    )
    if rng.random() < 0.3:
        world.network.refused_content = b'"duration":7'
    world.replicas = [Replica(f"replica-{n}") for n in range(parameters.replicas)]
    return world


def is_durable(world: World, body: bytes) -> bool:
    """R3: whether a committed journal record holds this body at this moment."""
    if body in world.cluster.durable_bodies:
        return True
    cluster, topic = world.cluster, TOPICS.journal
    found = any(
        body in (record.value or b"")
        for partition in range(cluster.partition_count(topic))
        for record in cluster.read_committed(topic, partition, 0, 1_000_000)[0]
    )
    if found:
        world.cluster.durable_bodies.add(body)
    return found


def publish_all(world: World, parameters: Parameters) -> Any:
    """Schedule the changes; returns a function that counts those which readers see so far."""
    rng = random.Random(world.rng.random())
    for number in range(parameters.changes):
        at = rng.uniform(0, parameters.duration * 0.9)
        integration = f"tool:{rng.randrange(parameters.integrations)}"
        value = change(rng, number, integration, f"course-{rng.randrange(parameters.courses)}")
        aborted = rng.random() < 0.05
        partition = rng.randrange(parameters.partitions) if value is None else None
        key = None if value is None else integration.encode()
        message = Message(key, value)
        world.after(at, lambda m=message, p=partition, a=aborted: append(world, m, p, a))

    def visible() -> int:
        cluster = world.cluster
        return sum(
            len(cluster.read_committed(TOPICS.changes, p, 0, 10_000)[0])
            for p in range(cluster.partition_count(TOPICS.changes))
        )

    return visible


def append(world: World, message: Message, partition: int | None, aborted: bool) -> None:
    if not aborted:
        world.cluster.append(TOPICS.changes, message, partition)
        return
    producer = world.cluster.producer("publisher")
    producer.append(TOPICS.changes, message, partition)
    producer.end_transaction(commit=False)


def change(rng: random.Random, number: int, integration: str, course: str) -> bytes | None:
    dice = rng.random()
    if dice < 0.02:
        return None
    if dice < 0.04:
        return b"{broken"
    body: dict[str, Any] = {
        "type": "EXTERNAL",
        "title": f"Title {rng.randrange(3)}",  # few, so that a course comes back to what it was
        "course_url": "https://example.com/c",
    }
    if rng.random() < 0.3:
        body["languages"] = ["en", "de"]
    if dice < 0.06:
        body["duration"] = -1
    elif dice < 0.16:
        body["duration"] = 7  # what the API may refuse for its content
    return msgspec.json.encode(
        {
            "id": f"chg-{number}",
            "type": "course.upserted",
            "integration_id": integration,
            "origin_id": course,
            "course": body,
        }
    )


def heal(world: World, parameters: Parameters) -> None:
    """From here on nothing fails, and whoever is down comes back."""
    world.note("--- healing ---")
    world.after_step = None
    parameters.log_faults.heal()
    parameters.network_faults.heal()
    simulator = world.network.simulator
    simulator.set_plan(world.api_now(), replace_plan(parameters.plan))
    simulator.set_outage(world.api_now(), 0.0, "error")
    simulator.api_key = world.key_file
    for replica in world.replicas:
        replica.paused = False
        if not replica.alive:
            world.start(replica)


def replace_plan(plan: FaultPlan) -> FaultPlan:
    """No more faults; what the API is like stays."""
    return msgspec.structs.replace(NONE, idempotency=plan.idempotency)
