"""What is done to the replicas, the log, the API and the clocks, and how often."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from dataclasses import dataclass
from functools import partial

import msgspec

from daemon.log.port import Message
from tests.sandbox.simulator.faults import (
    PASSING_CODES,
    PERMANENT_CODES,
    AnswerLost,
    AnyRule,
    ClockSkewed,
    EntryDuplicated,
    EntryForeign,
    EntryMissing,
    FateShared,
    FaultPlan,
    Idempotency,
    ItemFails,
    LimitLow,
    PollFails,
    SubmitRefused,
    SubmitThrottled,
    TaskEndless,
    TaskFails,
    TaskIdShared,
    TaskSlow,
    TimesAbsurd,
)
from tests.sim.faulty import LogFaults
from tests.sim.journal_view import FOREIGN_KEYS
from tests.sim.network import NetworkFaults
from tests.sim.seen import Who
from tests.sim.witness import Moment
from tests.sim.world import Replica, World


@dataclass(frozen=True)
class Strikes:
    """Means per history, spread over the phase of faults."""

    crashes: int
    """Between any two steps of a replica."""
    pauses: int
    drains: int
    rebalances: int
    clock_jumps: int
    key_changes: int
    outages: int
    compactions: int
    blackouts: int
    """All replicas are down for longer than a task may take."""
    ambushes: int
    """Crashes, and pauses that make zombies, a few steps after a moment at which they hurt most."""
    broker_jumps: int = 0
    """Of the broker's clock. Not together with `clock_jumps`: a wait is shortened only by two wrong clocks (R6)."""


NO_STRIKES = Strikes(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)


@dataclass(slots=True)
class Ambush:
    moment: Moment
    steps: int
    """Of the replica, from the moment to the strike."""
    who: Who | None = None
    """Whom it has met."""


def draw_strikes(rng: random.Random, wild: float) -> Strikes:
    def some(most: int) -> int:
        return rng.randint(0, most) if rng.random() < wild else 0

    drawn = Strikes(some(4), some(3), some(2), some(4), some(2), some(1), some(2), some(3), some(1), some(6))
    jumps = 0 if drawn.clock_jumps or rng.random() >= wild * 0.4 else rng.randint(1, 3)
    return dataclasses.replace(drawn, broker_jumps=jumps)


def _rate(rng: random.Random, wild: float, most: float) -> float:
    return rng.uniform(0, most) if rng.random() < wild else 0.0


def draw_log(rng: random.Random, wild: float) -> LogFaults:
    return LogFaults(
        commit_refused=_rate(rng, wild, 0.05),
        commit_unheard=_rate(rng, wild, 0.05),
        commit_late=_rate(rng, wild, 0.05),
        unavailable=_rate(rng, wild, 0.1),
        news_late=_rate(rng, wild, 0.5),
        records_late=_rate(rng, wild, 0.5),
        courses_late=_rate(rng, wild, 3.0),
        latency_max=rng.choice((0.005, 0.02, 0.2)),
    )


def draw_network(rng: random.Random, wild: float) -> NetworkFaults:
    return NetworkFaults(
        request_lost=_rate(rng, wild, 0.1),
        request_late=_rate(rng, wild, 0.2),
        request_twice=_rate(rng, wild, 0.1),
        answer_lost=_rate(rng, wild, 0.2),
        date_missing=_rate(rng, wild, 0.6),
        shuffled=rng.random() < 0.5,
        wordy=rng.random() < 0.25 * wild,
        latency_max=rng.choice((0.01, 0.1, 0.5)),
        service_max=rng.choice((0.0, 0.1, 0.5)),
    )


def draw_limits(rng: random.Random) -> list[AnyRule]:
    """Concurrency limits that change, and of which somebody else uses some."""
    rules: list[AnyRule] = []
    for _ in range(rng.randint(1, 4)):
        start = rng.uniform(0, 15)
        rules.append(
            LimitLow(
                limit=rng.choice((1, 2, 3, 5)),
                others=rng.choice((0, 0, 1, 2)),
                probability=rng.choice((0.5, 1.0)),
                start_seconds=start,
                end_seconds=start + rng.uniform(1, 10),
            )
        )
    return rules


SHARED_IDS: tuple[AnyRule, ...] = (
    TaskSlow(probability=0.7, seconds_min=10.5, seconds_max=15),
    TaskIdShared(probability=0.5),
)
"""Several batches get the id of one task, and it ends while they are watched."""


def draw_plan(rng: random.Random, wild: float) -> FaultPlan:
    rules: list[AnyRule] = []

    def maybe(make: object, most: float) -> None:
        if rng.random() < wild:
            rules.append(make(rng.uniform(0, most)))  # type: ignore[operator]

    maybe(lambda p: SubmitThrottled(probability=p, retry_after=1), 0.2)
    maybe(lambda p: SubmitRefused(probability=p), 0.2)
    maybe(lambda p: SubmitRefused(probability=p, statuses=(408, 408, 405, 425)), 0.4)
    maybe(
        lambda p: SubmitRefused(probability=p, statuses=(401,), code="PLATFORM.AUTHENTICATION_INVALID"), 0.1
    )
    maybe(lambda p: SubmitThrottled(probability=p, retry_after=99_999_999), 0.1)
    maybe(lambda p: SubmitRefused(probability=p, statuses=(403,)), 0.1)
    maybe(lambda p: SubmitRefused(probability=p, statuses=(409,), code="INTEGRATION.SETUP_SYNC_PENDING"), 0.2)
    maybe(lambda p: SubmitRefused(probability=p, statuses=(404,)), 0.2)
    maybe(lambda p: SubmitRefused(probability=p, statuses=(404,), code="PLATFORM.INTEGRATION_NOT_FOUND"), 0.3)
    if rng.random() < wild * 0.5:
        rules += draw_limits(rng)
    maybe(lambda p: AnswerLost(probability=p, how="error"), 0.4)
    maybe(lambda p: AnswerLost(probability=p, how="cut"), 0.2)
    maybe(lambda p: AnswerLost(probability=p, how="hang"), 0.1)
    maybe(lambda p: PollFails(probability=p), 0.3)
    maybe(lambda p: PollFails(probability=p, how="hang"), 0.1)
    maybe(lambda p: PollFails(probability=p, statuses=(404,)), 0.1)
    maybe(lambda p: TaskFails(probability=p), 0.3)
    maybe(lambda p: TaskFails(probability=p, codes=("INTEGRATION.AUTHENTICATION_INVALID",)), 0.1)
    maybe(lambda p: TaskFails(probability=p, codes=("PLATFORM.TASK_TIMED_OUT",)), 0.1)
    maybe(lambda p: TaskFails(probability=p, codes=("PLATFORM.AUTHENTICATION_INVALID",)), 0.3)
    maybe(lambda p: TaskSlow(probability=p, seconds_min=3, seconds_max=12), 0.3)
    maybe(lambda p: TaskSlow(probability=p, seconds_min=10.5, seconds_max=15.5), 0.2)
    if rng.random() < wild * 0.25:
        rules.append(TaskSlow(probability=0.7, seconds_min=5, seconds_max=15))  # as a whole: many time-outs
    maybe(lambda p: TaskEndless(probability=p, applies_after_seconds=rng.uniform(0, 15)), 0.2)
    maybe(lambda p: TaskEndless(probability=p), 0.1)
    maybe(lambda p: ItemFails(probability=p, codes=PASSING_CODES), 0.3)
    maybe(lambda p: ItemFails(probability=p, codes=PERMANENT_CODES), 0.2)
    maybe(lambda p: ItemFails(probability=p, codes=("PLATFORM.AUTHENTICATION_INVALID",)), 0.3)
    if rng.random() < wild * 0.4:
        rules.append(FateShared(probability=rng.uniform(0.3, 1.0)))
        rules.append(ItemFails(probability=0.2, codes=PERMANENT_CODES))
    maybe(lambda p: EntryMissing(probability=p), 0.2)
    maybe(lambda p: EntryDuplicated(probability=p), 0.2)
    maybe(lambda p: EntryForeign(probability=p), 0.2)
    idempotency = Idempotency(
        compare=rng.choice(("bytes", "json")),
        forget_after_seconds=rng.choice((None, 60.0)),
        return_finished=rng.random() < 0.7,
    )
    return FaultPlan(rules=tuple(rules), idempotency=idempotency, concurrency_limit=rng.choice((1, 2, 30)))


def draw_times(rng: random.Random) -> list[AnyRule]:
    """Clocks of the API that are wrong for a while, and answers with times that cannot be true; for some of the
    integrations, or for all.
    """
    rules: list[AnyRule] = []
    for _ in range(rng.randint(1, 3)):
        start = rng.uniform(0, 15)
        rules.append(
            ClockSkewed(
                seconds=rng.choice((3.0, 15.0, 30.0, 60.0, -5.0, -30.0)),
                every=rng.choice((1, 2, 3)),
                start_seconds=start,
                end_seconds=start + rng.uniform(1, 15),
            )
        )
    if rng.random() < 0.5:
        # Above the tolerance (`Bounds.ahead_ms`) too: nothing is understood until the time has come.
        seconds = rng.choice((2.0, 10.0, 18.0, 40.0))
        rules.append(ClockSkewed(seconds=seconds, date=False, every=rng.choice((1, 2))))
    return rules + [
        msgspec.structs.replace(absurd, probability=rng.uniform(0, 0.5), every=rng.choice((1, 2)))
        for absurd in rng.sample(ABSURD, rng.randint(0, 2))
    ]


ABSURD = (
    TimesAbsurd(created_at="0001-01-01T00:00:00+14:00"),
    TimesAbsurd(created_at="9999-12-31T23:59:59-14:00"),
    TimesAbsurd(completed_at="9999-12-31T23:59:59-14:00"),
    TimesAbsurd(created_at="2099-06-01T00:00:00Z"),
    TimesAbsurd(created_at="2099-06-01T00:00:00Z", date="Mon, 01 Jun 2099 00:00:00 GMT"),
    TimesAbsurd(date="Fri, 31 Dec 9999 23:59:59 GMT"),
    TimesAbsurd(date="Sat, 01 Jan 2000 00:00:00 GMT"),
    TimesAbsurd(date=""),
)


def _first_needed(world: World, partition: int) -> int | None:
    """Where the cleaner of the courses topic stops; None: nowhere. `min.compaction.lag.ms` keeps the record with the id of a
    course from being removed before a later record says the id, too (R17).
    """
    topic = world.topics.courses
    found, _ = world.cluster.read_committed(topic, partition, 0, 1_000_000)
    with_id: dict[bytes | None, int] = {}
    last: dict[bytes | None, int] = {}
    for record in found:
        last[record.key] = record.offset
        if record.value is None:
            with_id.pop(record.key, None)
        elif msgspec.json.decode(record.value)["course_id"] is not None:
            with_id[record.key] = record.offset
    return min((offset for key, offset in with_id.items() if offset < last[key]), default=None)


def unleash(world: World, strikes: Strikes, duration: float, happened: Counter[str]) -> None:
    """Schedule everything that will be done to the replicas and around them."""
    rng = random.Random(world.rng.random())

    def at_random(count: int, strike: object) -> None:
        for _ in range(count):
            world.after(rng.uniform(0.2, duration), strike)  # type: ignore[arg-type]

    countdown: list[int] = []

    def arm_crash() -> None:
        # Not at a point in time but at a point in the work: between any two callbacks.
        countdown.append(rng.randint(1, 60))

    def after_step(replica: Replica) -> None:
        for index, left in enumerate(countdown):
            countdown[index] = left - 1
        if countdown and countdown[0] <= 0:
            countdown.pop(0)
            crash(replica)
        if ambushes:
            spring(replica)

    def crash(replica: Replica) -> None:
        world.note(f"{replica.name} is killed")
        happened["crashes"] += 1
        world.kill(replica)
        back = rng.choice((0.05, 1.0, world.session_timeout + 2))
        world.after(back * rng.uniform(0.5, 1.0), lambda: world.start(replica))

    def pause() -> None:
        replica = rng.choice(world.replicas)
        sleep(replica, rng.choice((0.5, 3.0, world.session_timeout * 2)) * rng.uniform(0.5, 1.0))

    def sleep(replica: Replica, seconds: float) -> None:
        if replica.alive and not replica.paused:
            happened["zombies" if seconds > world.session_timeout else "pauses"] += 1
            world.note(f"{replica.name} is paused for {seconds:.1f} s")
            world.pause(replica, seconds)

    def drain() -> None:
        replica = rng.choice(world.replicas)
        if replica.engine is not None and not replica.paused:
            happened["drains"] += 1
            world.witness.takeovers.disturbed((replica.name, replica.lives))
            world.note(f"{replica.name} is told to stop")
            assert replica.loop is not None
            replica.loop.call_soon_threadsafe(replica.engine.stop)

    def rebalance() -> None:
        happened["rebalances"] += 1
        for replica in world.replicas:
            world.witness.takeovers.disturbed((replica.name, replica.lives))
        world.note("rebalance")
        world.cluster.rebalance(world.topics.changes)

    def jump() -> None:
        replica = rng.choice(world.replicas)
        # Ahead by less than the tolerance of a shard's very first floor (R14); behind by anything.
        replica.clock_offset_ms = rng.choice((-3_600_000, -5_000, 5_000, 200_000, 0))
        happened["clock jumps"] += 1
        world.note(f"the clock of {replica.name} is off by {replica.clock_offset_ms} ms")

    def wrong_key() -> None:
        simulator = world.network.simulator
        happened["wrong keys"] += 1
        world.note("the API wants another key")
        simulator.api_key = f"key-{happened['wrong keys']}"

        def right() -> None:
            world.key_file = simulator.api_key

        world.after(rng.uniform(1.0, 8.0), right)

    def outage() -> None:
        happened["outages"] += 1
        seconds = rng.choice((1.0, 10.0)) * rng.uniform(0.5, 1.0)
        world.note(f"the API is away for {seconds:.1f} s")
        world.network.simulator.set_outage(world.api_now(), seconds, rng.choice(("cut", "error")))

    def compact() -> None:
        happened["compactions"] += 1
        for partition in range(world.cluster.partition_count(world.topics.journal)):
            world.cluster.compact(world.topics.journal, partition, drop_tombstones=rng.random() < 0.3)
            world.cluster.compact(
                world.topics.courses,
                partition,
                before=_first_needed(world, partition),
                drop_tombstones=rng.random() < 0.3,
            )

    def blackout() -> None:
        happened["blackouts"] += 1
        seconds = rng.uniform(8.0, 20.0)
        world.note(f"all replicas are down for {seconds:.1f} s")
        for replica in world.replicas:
            world.kill(replica)
            world.after(seconds, partial(world.start, replica))

    ambushes: list[Ambush] = []

    def lie_in_ambush() -> None:
        ambushes.append(Ambush(rng.choice((*Moment, Moment.SEALED)), rng.choice((1, 2, 3, 5, 8, 13))))

    def on_moment(moment: Moment, who: Who) -> None:
        for ambush in ambushes:
            if ambush.who is None and ambush.moment is moment:
                ambush.who = who
                break

    def spring(replica: Replica) -> None:
        for ambush in ambushes:
            if ambush.who == (replica.name, replica.lives):
                ambush.steps -= 1
                if ambush.steps <= 0:
                    ambushes.remove(ambush)
                    happened["ambushes"] += 1
                    if rng.random() < 0.5:
                        crash(replica)
                    else:
                        sleep(replica, world.session_timeout * rng.uniform(1.05, 3.0))
                    break

    # A generator of its own, so that the other faults stay what they are without it.
    stranger = random.Random(repr(strikes))

    def scribble() -> None:
        """A program that has nothing to do in the journal writes into it, and somebody erases it again (R9)."""
        happened["foreign journal records"] += 1
        journal, key = world.topics.journal, stranger.choice(FOREIGN_KEYS)
        partition = stranger.randrange(world.cluster.partition_count(journal))
        world.note(f"a foreign record is written to the journal of partition {partition}")
        world.cluster.append(journal, Message(key, b"garbage"), partition)

        def erase() -> None:
            world.cluster.append(journal, Message(key, None), partition)

        world.after(stranger.choice((0.1, 5.0)) * stranger.random(), erase)

    def refuse() -> None:
        """The clock of the broker is wrong for a while, and so it takes no record."""
        happened["refused records"] += 1
        log = world.cluster.faults
        world.note("the log refuses all records")
        log.records_refused = True

        def accept() -> None:
            log.records_refused = False

        world.after(stranger.uniform(1.0, 10.0), accept)

    def set_broker() -> None:
        """The partition's leader moves to another broker, whose clock is wrong, or it is set."""
        happened["broker clock jumps"] += 1
        world.broker_offset_ms = rng.choice((-3_600_000, -5_000, 5_000, 3_600_000, 0))
        world.note(f"the clock of the broker is off by {world.broker_offset_ms} ms")

    for _ in range(strikes.compactions):
        world.after(stranger.uniform(0.2, duration), scribble)
    for _ in range(strikes.outages):
        world.after(stranger.uniform(0.2, duration), refuse)
    if not world.witness.takeovers.is_prompt:
        world.cluster.faults.times_of_writers = stranger.random() < 0.15
    world.after_step = after_step
    world.witness.on_moment = on_moment
    at_random(strikes.crashes, arm_crash)
    at_random(strikes.pauses, pause)
    at_random(strikes.drains, drain)
    at_random(strikes.rebalances, rebalance)
    at_random(strikes.clock_jumps, jump)
    at_random(strikes.key_changes, wrong_key)
    at_random(strikes.outages, outage)
    at_random(strikes.compactions, compact)
    at_random(strikes.blackouts, blackout)
    at_random(strikes.ambushes, lie_in_ambush)
    at_random(strikes.broker_jumps, set_broker)
