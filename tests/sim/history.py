"""One history: parameters from a seed, a phase of faults, a phase of healing, a judgement."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from functools import partial
from typing import Any, NamedTuple
from unittest.mock import patch

import msgspec

from daemon.core import learned_polls, repeats, step
from daemon.kombo import times
from daemon.log.errors import LogError
from daemon.log.port import Message
from daemon.runtime import intake
from tests.sandbox.simulator.state import Simulator
from tests.sim import faults, operators, reducing, sending_again
from tests.sim.drawing import draw
from tests.sim.faulty import FaultyCluster
from tests.sim.judge import calls_in_flight, conclude, judge_alone, judge_history, judge_isolation, unfinished
from tests.sim.network import Network
from tests.sim.outcome import Outcome
from tests.sim.parameters import TOPICS, Bounds, Kind, Parameters, healed
from tests.sim.rejections import Consent, allow, interrupt, judge_rejections
from tests.sim.replaced import judge_replaced
from tests.sim.traces import headers_of
from tests.sim.witness import Witness
from tests.sim.world import Replica, World

CALM_MAX = 240.0
"""Virtual seconds within which everything must have converged once nothing fails any more."""
OPERATOR_INTERVAL = 5.0
"""Virtual seconds between two looks of an operator."""
HUGE = b"x" * 3_000_000
"""A record that is larger than any of ours may be."""
OTHER_FORMAT = b'{"schema":2,"courses":[]}'
"""What a faulty version of the publisher writes."""
FULL = {
    "description": "d",
    "thumbnail_url": "https://example.com/c.png",
    "duration": 5,
    "languages": ["en"],
}
"""A course with these differs as JSON by the case of its host names only (R14)."""
WITHOUT_HOSTS = {"thumbnail_url": "https://192.0.2.1/c.png", "course_url": "https://192.0.2.1/c"}
"""A full course with these does not differ as JSON at all."""
LONG = "It is a long course. " * 60


def run(
    seed: int,
    kind: Kind | None = None,
    without: reducing.Without = reducing.NOTHING,
    telling: Callable[[World], None] | None = None,
) -> Outcome:
    """The history of this seed. `kind`: whatever the seed says of it; `without`: with less in it (see
    `reducing`); `telling`: is given the world before it begins, to be able to tell what happens in it.
    """
    rng = random.Random(seed)
    parameters = reducing.reduce(draw(rng, kind), without)
    world = build(rng, parameters)
    if telling is not None:
        telling(world)
    with bounded(parameters.bounds):
        return _play(world, rng, Outcome(seed, parameters.kind), parameters)


@contextmanager
def bounded(bounds: Bounds) -> Iterator[None]:
    """Constants of the daemon, as small as this history wants them."""
    with (
        patch.object(intake, "INTAKE_RECORDS_MAX", bounds.intake_records),
        patch.object(intake, "INTAKE_BYTES_MAX", bounds.intake_bytes),
        patch.object(step, "STEP_BYTES_MAX", bounds.step_bytes),
        patch.object(times, "AHEAD_MAX_MS", bounds.ahead_ms),
        patch.object(repeats, "REACH", bounds.reach),
        patch.object(learned_polls, "TASKS_MIN", bounds.tasks_learned),
        patch.object(learned_polls, "SAVED_PER_TASK", bounds.polls_saved),
    ):
        yield


def _play(world: World, rng: random.Random, outcome: Outcome, parameters: Parameters) -> Outcome:
    changes = publish_all(world, parameters)
    consents: list[Consent] = []

    def operate() -> None:
        """An operator looks now and again."""
        consents.extend(allow(world))
        world.after(OPERATOR_INTERVAL, operate)

    if (deploy := parameters.deploy) is not None:
        if rng.random() < 0.5:
            world.after(rng.uniform(0, parameters.duration), operate)
        for _ in range(deploy.interruptions):
            partition = rng.randrange(parameters.partitions)
            world.after(rng.uniform(deploy.start, deploy.end), partial(interrupt, world, partition))
    operators.give_orders(world, parameters)
    sending_again.plan_repetitions(world, parameters)
    faults.unleash(world, parameters.strikes, parameters.duration, outcome.faults)
    world.tables = parameters.policies.tables
    if parameters.policies.changed is not None:
        world.after(parameters.policies.at, partial(world.change_tables, parameters.policies.changed))
    for replica in world.replicas:
        world.after(rng.uniform(0, 1.0), partial(world.start, replica))
    world.run(parameters.duration)
    if parameters.upheaval is not None:
        outcome.changes = changes()
        judge_replaced(world, parameters.upheaval, outcome)
        return outcome
    heal(world, parameters)
    operate()
    world.run(world.time + CALM_MAX, lambda: not unfinished(world, changes()) and not calls_in_flight(world))
    outcome.changes = changes()
    judge_history(world, outcome)
    judge_rejections(world, consents, outcome)
    if parameters.broken is not None:
        judge_isolation(world, outcome, parameters.broken)
    if parameters.alone:
        judge_alone(world, outcome)
    conclude(world, outcome)
    return outcome


def build(rng: random.Random, parameters: Parameters) -> World:
    world = World(
        rng=random.Random(rng.random()),
        settings=parameters.settings,
        topics=TOPICS,
        session_timeout=parameters.settings.kafka.session_timeout,
    )
    world.cluster = cluster = FaultyCluster(
        world.broker_ms, parameters.log_faults, random.Random(rng.random()), world.after
    )
    cluster.is_paused = world.is_paused
    for topic in (TOPICS.changes, TOPICS.journal, TOPICS.courses):
        cluster.create_topic(topic, parameters.partitions)
    for topic in (TOPICS.results, TOPICS.dead_letters, TOPICS.control):
        cluster.create_topic(topic, 1)

    def api_now() -> int:
        return world.wall_ms() + parameters.api_offset_ms

    simulator = Simulator(
        rng=random.Random(rng.random()),
        now=api_now(),
        api_key="key-0",
        plan=parameters.plan,
        task_seconds=rng.choice((0.0, 0.5, 1.5)),
    )

    def inputs(partition: int, first: int, end: int) -> list[int]:
        records, _ = cluster.read_committed(TOPICS.changes, partition, first, 1_000_000)
        return [record.offset for record in records if record.offset < end]

    def value_of(partition: int, offset: int) -> bytes | None:
        try:
            records, _ = cluster.read_committed(TOPICS.changes, partition, offset, 1)
        except LogError:
            return None  # the topic was replaced
        return records[0].value if records and records[0].offset == offset else None

    def headers_of(partition: int, offset: int) -> tuple[tuple[str, bytes | None], ...]:
        records, _ = cluster.read_committed(TOPICS.changes, partition, offset, 1)
        return records[0].headers

    world.api_now = api_now
    world.witness = cluster.witness = Witness(
        parameters.settings, lambda: world.time, api_now, simulator, inputs, value_of, headers_of
    )
    world.witness.repeats.reach = parameters.bounds.reach
    if not parameters.strikes.clock_jumps:
        world.witness.obedience.wall_of = lambda _name: world.wall_ms()
    world.witness.is_prompt = parameters.kind is Kind.POLICIES
    world.witness.poll_times.saved_per_task = parameters.bounds.polls_saved
    world.witness.poll_times.is_prompt = parameters.kind is Kind.POLLED
    world.witness.known.clocks_are_set = bool(parameters.strikes.clock_jumps)
    strikes, takeovers = parameters.strikes, world.witness.takeovers
    takeovers.broker_ms = None if strikes.broker_jumps else world.broker_ms
    calm_clocks = not (strikes.clock_jumps or strikes.broker_jumps)
    world.witness.urgency.judges_sending = parameters.kind is Kind.LOADED
    takeovers.is_prompt = parameters.kind is Kind.RESTARTS and calm_clocks
    world.network = Network(
        simulator,
        parameters.network_faults,
        random.Random(rng.random()),
        api_now,
        world.after,
        world.witness,
    )
    if rng.random() < 0.3:
        world.network.refused_content = b'"duration":7'
    world.replicas = [Replica(f"replica-{n}") for n in range(parameters.replicas)]
    return world


def publish_all(world: World, parameters: Parameters) -> Callable[[], int]:
    """Schedule the changes; returns a function that counts those which readers see so far."""
    rng = random.Random(world.rng.random())
    names, bulk = parameters.names, random.Random(parameters.duration)
    for number in range(parameters.changes):
        at = rng.uniform(0, parameters.duration * 0.9)
        integration = names.integrations[rng.randrange(parameters.integrations)]
        course = names.courses[rng.randrange(parameters.courses)]
        value = change(rng, number, integration, course, parameters)
        deploy = parameters.deploy
        if deploy is not None and deploy.start <= at < deploy.end and rng.random() < deploy.share:
            value = OTHER_FORMAT
        if value is not None and value.startswith(b'{"id"') and bulk.random() < parameters.bulk:
            value = value[:-1] + b',"priority":"bulk"}'
        how = rng.choices(list(Publishing), (0.85, 0.1, 0.05))[0]
        open_for = rng.choice((0.0, 3.0)) * rng.random()
        partition = rng.randrange(parameters.partitions) if value is None else None
        key = None if value is None else integration.encode()
        publisher = Publisher(f"publisher-{number}", how, open_for)
        headers = (("n", b"%d" % number), ("n", b""), *headers_of(number)) if number % 3 else ()
        message = Message(key, value, headers)
        if number >= parameters.skipped:
            world.after(at, partial(publisher.publish, world, message, partition))

    def visible() -> int:
        cluster = world.cluster
        return sum(
            len(cluster.read_committed(TOPICS.changes, p, 0, 10_000)[0])
            for p in range(cluster.partition_count(TOPICS.changes))
        )

    return visible


class Publishing(Enum):
    PLAIN = "plain"
    COMMITTED = "committed"
    ABORTED = "aborted"


class Publisher(NamedTuple):
    """Of one change."""

    name: str
    how: Publishing
    open_for: float
    """Virtual seconds for which its transaction is open, and holds back every reader of the partition."""

    def publish(self, world: World, message: Message, partition: int | None) -> None:
        if self.how is Publishing.PLAIN or message.value is HUGE:
            place = world.cluster.append(TOPICS.changes, message, partition)
            world.published[place] = world.time
            return
        producer = world.cluster.producer(self.name)
        place = producer.append(TOPICS.changes, message, partition)

        def end() -> None:
            producer.end_transaction(commit=self.how is Publishing.COMMITTED)
            world.published[place] = world.time

        world.after(self.open_for, end)


def change(
    rng: random.Random, number: int, integration: str, course: str, parameters: Parameters
) -> bytes | None:
    dice = rng.random()
    if dice < 0.02:
        return None
    if dice < 0.04:
        return b"{broken"
    if rng.random() < parameters.deactivated:
        return deactivation(rng, number, integration, course)
    body: dict[str, Any] = {
        "type": "EXTERNAL",
        "title": f"Title {rng.randrange(parameters.contents)}",
        "course_url": "https://example.com/c",
    }
    if course == parameters.names.courses[0]:
        body |= FULL
        if integration == parameters.names.integrations[0]:
            body |= WITHOUT_HOSTS
    if parameters.contents > 2 and rng.random() < 0.3:
        body["languages"] = ["en", "de", "fr"]
    if rng.random() < parameters.huge:
        return HUGE
    if rng.random() < parameters.long:
        body["description"] = LONG
    if dice < 0.06:
        body["duration"] = -1
    elif dice < 0.16:
        body["duration"] = 7  # what the API may refuse for its content
    event: dict[str, Any] = {
        "id": f"chg-{number}",
        "type": "course.upserted",
        "integration_id": integration,
        "origin_id": course,
        "course": said_otherwise(rng, body) if rng.random() < 0.5 else body,
    }
    if rng.random() < parameters.resend:
        event["resend"] = rng.choice((True, True, False, None))
    return msgspec.json.encode(event)


def said_otherwise(rng: random.Random, course: dict[str, Any]) -> dict[str, Any]:
    """The same course in other words: what is known of it stays true (R16)."""
    same = {name: None for name in FULL if rng.random() < 0.3} | course
    if "languages" in course:
        first, *others = course["languages"]
        same["languages"] = [first, *rng.sample(others, len(others))]
    scheme, host = "https://", "example.com"
    same["course_url"] = same["course_url"].replace(scheme + host, scheme + rng.choice((host, host.upper())))
    return same


def deactivation(rng: random.Random, number: int, integration: str, course: str) -> bytes:
    """With an id of the publisher's, or without; the simulated LMS has the origin id. Some ids are of no course."""
    event = {
        "id": f"chg-{number}",
        "type": "course.deactivated",
        "integration_id": integration,
        "origin_id": course,
    }
    dice = rng.random()
    if dice < 0.4:
        event["course_id"] = f"remote:{course}"
    elif dice < 0.45:
        event["course_id"] = f"remote:no such course, {course}"
    return msgspec.json.encode(event)


def heal(world: World, parameters: Parameters) -> None:
    """From here on nothing fails, and whoever is down comes back."""
    world.note("--- healing ---")
    world.after_step = world.witness.on_moment = None
    parameters.log_faults.heal()
    parameters.network_faults.heal()
    simulator = world.network.simulator
    simulator.set_plan(world.api_now(), healed(parameters.plan))
    simulator.set_outage(world.api_now(), 0.0, "error")
    simulator.api_key = world.key_file
    operators.pause(world, "*", paused=False)
    for replica in world.replicas:
        replica.paused = False
        replica.clock_offset_ms = 0
        if parameters.kind is Kind.MISREAD:
            world.kill(replica)  # a person restarts what stands still since the log was wrong
        if not replica.alive:
            world.start(replica)
