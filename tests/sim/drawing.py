"""Draws what a seed stands for: the parameters of its history, by its kind."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Mapping

import msgspec

from daemon import config
from daemon.config import Settings
from tests.sandbox.simulator.faults import (
    PERMANENT_CODES,
    AnswerLost,
    AnyRule,
    EntryMissing,
    Idempotency,
    Inactive,
    ItemFails,
    PollFails,
    SubmitRefused,
    TaskEndless,
    TaskFails,
    TaskSlow,
)
from tests.sim import faults
from tests.sim.faulty import LogFaults
from tests.sim.network import NetworkFaults
from tests.sim.parameters import (
    BREAKAGES,
    CROWD,
    NASTY,
    PLAIN,
    TOOLS,
    TOPICS,
    WATCHED,
    WEIGHTS,
    Bounds,
    Kind,
    Parameters,
    Upheaval,
)
from tests.sim.policies import draw_plan
from tests.sim.rejections import Deploy


def draw(rng: random.Random, kind: Kind | None = None) -> Parameters:
    """Small on purpose, so that changes collide."""
    chosen = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
    kind = kind or chosen
    wild = max(rng.random(), rng.random())
    if kind in (Kind.ISOLATION, Kind.REPLACED, Kind.CROWDED):
        wild = 0.0
    plan = faults.draw_plan(rng, wild)
    network_faults = faults.draw_network(rng, wild)
    if not plan.idempotency.return_finished:
        # A repeated request whose task is finished would run again after newer changes: that equal
        # bytes run once, as long as a request may be on its way, is the API's promise (C4).
        network_faults.request_twice = 0.0
    inactive = Inactive(
        "refused" if rng.random() < 0.3 else "done", "keeps" if rng.random() < 0.5 else "reactivates"
    )
    plan = msgspec.structs.replace(plan, inactive=inactive)
    log_faults = faults.draw_log(rng, wild)
    strikes = faults.draw_strikes(rng, wild)
    if rng.random() < wild * 0.4:
        # A wrong clock of the API together with a wrong one of the host could end a watch too early (R11).
        strikes = dataclasses.replace(strikes, clock_jumps=0)
        plan = msgspec.structs.replace(plan, rules=(*plan.rules, *faults.draw_times(rng)))
    small = rng.random() < 0.15
    dense = rng.random() < 0.4
    parameters = Parameters(
        kind=kind,
        partitions=rng.randint(1, 3),
        replicas=rng.choice((1, 2, 2, 3, 3)),
        names=NASTY if rng.random() < 0.2 else PLAIN,
        integrations=1 if small or dense else rng.randint(1, 3),
        courses=6 if small else rng.randint(1, 2 if dense else 4),
        changes=rng.randint(8, 50),
        deactivated=rng.choice((0.0, 0.2, 0.5)),
        contents=2 if dense else 3,
        duration=rng.uniform(8.0, 25.0),
        settings=draw_settings(rng, small=small),
        log_faults=log_faults,
        network_faults=network_faults,
        plan=plan,
        strikes=strikes,
        api_offset_ms=rng.choice((0, 0, -30_000, 45_000)),
        huge=0.02 if rng.random() < 0.1 else 0.0,
        resend=0.15,
        bulk=0.0,
        long=0.8 if small else 0.0,
        bounds=Bounds(
            rng.choice((2, 10_000, 10_000)),
            rng.choice((500, 2**24, 2**24)),
            rng.choice((1, 3000, 2**24, 2**24)),
        ),
    )
    return _OF_KIND[kind](rng, parameters)


def _wild(rng: random.Random, drawn: Parameters) -> Parameters:
    return _decided(rng, _deployed(rng, _longer(rng, _with_bulk(drawn))))


def _misread(rng: random.Random, drawn: Parameters) -> Parameters:
    drawn.log_faults.misread = rng.uniform(0.1, 0.5)
    return drawn


def _with_bulk(drawn: Parameters) -> Parameters:
    """Drawn apart from everything else, so that the other histories stay what they are."""
    return dataclasses.replace(drawn, bulk=random.Random(drawn.duration).choice((0.0, 0.0, 0.3, 0.7)))


def _longer(rng: random.Random, drawn: Parameters) -> Parameters:
    """Some last so long that the API forgets within them."""
    if rng.random() >= 0.05:
        return drawn
    factor = rng.choice((3, 4))
    strikes = {
        field.name: factor * getattr(drawn.strikes, field.name) for field in dataclasses.fields(drawn.strikes)
    }
    return dataclasses.replace(
        drawn,
        changes=drawn.changes * factor,
        duration=drawn.duration * factor,
        strikes=faults.Strikes(**strikes),
    )


def _deployed(rng: random.Random, drawn: Parameters) -> Parameters:
    """In some, a publisher writes something else for a while, and few rejections are enough to stop reading."""
    if rng.random() >= 0.3:
        return drawn
    limits = config.InputSettings(
        rejected_max=rng.choice((1, 2, 3, 5)), rejected_ratio_max=rng.choice((0.0, 0.3, 0.5))
    )
    start = rng.uniform(0, drawn.duration * 0.8)
    return dataclasses.replace(
        drawn,
        settings=dataclasses.replace(drawn.settings, input=limits),
        deploy=Deploy(
            start, start + rng.uniform(1, drawn.duration), rng.choice((0.6, 1.0)), rng.choice((0, 3, 6))
        ),
    )


def _decided(rng: random.Random, drawn: Parameters) -> Parameters:
    """In some, operators interfere."""
    return dataclasses.replace(drawn, decisions=rng.choice((0, 0, 0, 3, 8)))


def _operated(rng: random.Random, drawn: Parameters) -> Parameters:
    """Not much else goes wrong: tasks end late or not at all, integrations refuse, and replicas end."""
    rules: tuple[AnyRule, ...] = (
        TaskSlow(seconds_min=0.5, seconds_max=5.0, probability=0.5),
        TaskEndless(applies_after_seconds=rng.choice((None, 5.0, 9.0)), probability=0.2),
        TaskFails(probability=0.3),
        SubmitRefused(probability=0.3),
        SubmitRefused(statuses=(403,), code="INTEGRATION.AUTHENTICATION_INVALID", probability=0.3),
        AnswerLost(how=rng.choice(("cut", "hang")), probability=0.2),
    )
    strikes = dataclasses.replace(
        faults.NO_STRIKES,
        crashes=rng.choice((0, 2, 6)),
        pauses=rng.randint(0, 1),
        rebalances=rng.randint(0, 3),
        drains=rng.randint(0, 2),
        compactions=rng.randint(0, 2),
    )
    return dataclasses.replace(
        drawn,
        changes=rng.randint(20, 60),
        duration=30.0,
        strikes=strikes,
        log_faults=LogFaults(
            unavailable=rng.choice((0.0, 0.0, 0.1)), latency_max=rng.choice((0.02, 0.02, 0.5))
        ),
        network_faults=NetworkFaults(service_max=rng.choice((0.1, 1.0))),
        plan=msgspec.structs.replace(
            drawn.plan, rules=tuple(rule for rule in rules if rng.random() < 0.4), concurrency_limit=30
        ),
        decisions=rng.randint(3, 18),
        huge=0.0,
    )


def draw_settings(rng: random.Random, *, small: bool) -> Settings:
    """`small`: few courses fill a batch by their size."""
    items_max = rng.choice((1, 2, 5, 100))
    patient = rng.random() < 0.5
    timeout = rng.choice((6.0, 10.0))
    return Settings(
        kafka=config.KafkaSettings(session_timeout=6.0),
        topics=TOPICS,
        batch=config.BatchSettings(
            linger=rng.choice((0.0, 0.1, 0.5)),
            items_max=100 if small else items_max,
            bytes_max=4096 if small else 512 * 1024,
        ),
        window=config.WindowSettings(
            batches_max=rng.choice((1, 2, 8)),
            batches_max_per_partition=rng.choice((1, 2, 3, 10_000, 10_000, 10_000)),
        ),
        http=config.HttpSettings(
            in_flight_max=rng.choice((2, 8, 64)),
            deadline=2.0,
            requests_per_second_max=rng.choice((None, None, None, None, 8.0)),
        ),
        fence=config.FenceSettings(lease=2.0),
        poll=config.PollSettings(first_after=0.3, factor=1.6, interval_max=2.0),
        task=config.TaskSettings(timeout=timeout, watch_after_timeout=WATCHED - timeout),
        retry=config.RetrySettings(
            backoff_min=0.1 if patient else 2.0,
            backoff_max=1.0 if patient else 5.0,
            attempts_max=rng.choice((2, 5)),
        ),
        park=config.ParkSettings(probe_min=0.5, probe_max=2.0),
        wait=config.WaitSettings(age_max=rng.choice((5.0, 604_800.0))),
        backlog=draw_backlog(rng),
        courses=config.CoursesSettings(index_max=rng.choice((1, 3, 1_000_000, 1_000_000))),
        unchanged=config.UnchangedSettings(trust_for=rng.choice((0.0, 4.0, 604_800.0, 604_800.0))),
        drain=config.DrainSettings(timeout=2.0),
    )


def draw_backlog(rng: random.Random) -> config.BacklogSettings:
    """Half of them are out of reach."""
    if rng.random() < 0.5:
        return config.BacklogSettings()
    return config.BacklogSettings(
        courses_max=rng.choice((1, 2, 4, 1_000_000)),
        courses_max_per_integration=rng.choice((1, 2, 200_000)),
        bytes_max=rng.choice((200, 2**28, 2**28)),
        on_full=rng.choice(("pause", "reject")),
    )


def _isolation(rng: random.Random, drawn: Parameters) -> Parameters:
    """One integration is broken until the healing. The limits that all of them share, places in flight and
    the backlog of a partition, are out of reach, as C5 has it.
    """
    broken = drawn.names.integrations[0]
    how = msgspec.structs.replace(rng.choice(BREAKAGES), integrations=(broken,))
    settings = dataclasses.replace(
        drawn.settings,
        batch=config.BatchSettings(linger=drawn.settings.batch.linger),
        window=config.WindowSettings(),
        http=config.HttpSettings(in_flight_max=64, deadline=2.0),
        backlog=config.BacklogSettings(),
    )
    return dataclasses.replace(
        drawn,
        settings=settings,
        integrations=3,
        duration=30.0,
        changes=rng.randint(20, 50),
        strikes=faults.NO_STRIKES,
        plan=msgspec.structs.replace(drawn.plan, rules=(how,), concurrency_limit=30),
        broken=broken,
        huge=0.0,
    )


def _crowded(rng: random.Random, drawn: Parameters) -> Parameters:
    settings = dataclasses.replace(
        drawn.settings,
        batch=config.BatchSettings(linger=drawn.settings.batch.linger, items_max=rng.choice((1, 1, 2))),
        window=config.WindowSettings(batches_max=rng.choice((4, 8))),
        http=config.HttpSettings(
            in_flight_max=64, deadline=2.0, requests_per_second_max=rng.choice((None, None, 4.0, 12.0))
        ),
        backlog=config.BacklogSettings(),
    )
    alone = rng.random() < 0.4
    shared = faults.SHARED_IDS if rng.random() < 0.3 else ()
    return dataclasses.replace(
        drawn,
        names=CROWD,
        settings=settings,
        replicas=1 if alone else drawn.replicas,
        integrations=rng.randint(1, 2),
        courses=len(CROWD.courses),
        changes=rng.randint(40, 80),
        strikes=faults.NO_STRIKES,
        network_faults=dataclasses.replace(drawn.network_faults, service_max=rng.choice((0.1, 0.5))),
        plan=msgspec.structs.replace(
            drawn.plan,
            rules=() if alone else (*faults.draw_limits(rng), *shared),
            concurrency_limit=rng.choice((1, 2, 3, 5)) if alone else 30,
        ),
        alone=alone,
        huge=0.0,
    )


def _replaced(rng: random.Random, drawn: Parameters) -> Parameters:
    return dataclasses.replace(
        drawn,
        duration=10.0,
        strikes=faults.NO_STRIKES,
        upheaval=rng.choice(list(Upheaval)),
        huge=0.0,
    )


def _republished(rng: random.Random, drawn: Parameters) -> Parameters:
    """So slow that most changes have their result before the next one of their course comes."""
    runs_again = rng.random() < 0.4
    """Equal bytes: a lost answer and a failed task may then be of two tasks of one submission."""
    twice: tuple[AnyRule, ...] = (
        AnswerLost(how="cut", probability=0.4),
        TaskFails(probability=0.4, codes=("REMOTE.SERVICE_UNAVAILABLE", "LMS.COURSE_LIMIT_REACHED")),
        TaskSlow(seconds_min=0.5, seconds_max=2.5, probability=0.5),
    )
    late = TaskEndless(applies_after_seconds=rng.choice((None, 5.0, 9.0)), probability=0.15)
    possible: tuple[AnyRule, ...] = (
        ItemFails(probability=0.3),
        TaskFails(probability=0.3),
        TaskFails(probability=0.1, codes=("PLATFORM.TASK_TIMED_OUT",)),
        late,
        TaskSlow(seconds_min=6.5, seconds_max=14.0, probability=0.15),
        EntryMissing(probability=0.15),
        AnswerLost(how="cut", probability=0.3),
        SubmitRefused(probability=0.2),
        PollFails(statuses=(404,), probability=0.15),
    )
    settings = dataclasses.replace(
        drawn.settings,
        batch=config.BatchSettings(linger=rng.choice((0.0, 0.1)), items_max=rng.choice((1, 100))),
        window=config.WindowSettings(),
        http=config.HttpSettings(in_flight_max=64, deadline=2.0),
        poll=config.PollSettings(first_after=0.1, factor=1.6, interval_max=0.5),
        retry=config.RetrySettings(backoff_min=0.1, backoff_max=0.5, attempts_max=2),
        park=config.ParkSettings(probe_min=0.2, probe_max=0.5),
        backlog=config.BacklogSettings(),
        unchanged=config.UnchangedSettings(trust_for=rng.choice((4.0, 604_800.0, 604_800.0))),
    )
    strikes = dataclasses.replace(
        faults.NO_STRIKES,
        crashes=15 if runs_again else rng.choice((0, 4, 15)),
        rebalances=rng.randint(0, 2),
        compactions=rng.randint(0, 2),
        ambushes=rng.randint(0, 4),
    )
    return dataclasses.replace(
        drawn,
        settings=settings,
        integrations=rng.randint(1, 2),
        courses=rng.randint(1, 3),
        changes=rng.randint(40, 80),
        contents=rng.choice((2, 3)),
        duration=60.0,
        strikes=strikes,
        log_faults=LogFaults(courses_late=rng.choice((0.0, 0.5, 3.0))),
        resend=0.3,
        network_faults=NetworkFaults(service_max=rng.choice((0.0, 0.1))),
        plan=msgspec.structs.replace(
            drawn.plan,
            rules=twice if runs_again else tuple(rule for rule in possible if rng.random() < 0.35),
            concurrency_limit=30,
            idempotency=Idempotency(return_finished=False) if runs_again else drawn.plan.idempotency,
        ),
        huge=0.0,
    )


def _restarts(rng: random.Random, drawn: Parameters) -> Parameters:
    """POSTs take so long that many are in flight when their process ends. In some histories answers are cut off, the API
    forgets tasks, or clocks jump. Each integration has one batch at a time, so that none waits for another.
    """
    rules: list[AnyRule] = []
    if rng.random() < 0.5:
        rules.append(AnswerLost(how="cut", probability=0.3))
    if rng.random() < 0.5:
        rules.append(PollFails(statuses=(404,), probability=0.2))
    clock_jumps, broker_jumps = rng.choice(((0, 0), (4, 0), (0, 4)))
    settings = dataclasses.replace(
        drawn.settings,
        batch=config.BatchSettings(linger=drawn.settings.batch.linger),
        window=config.WindowSettings(batches_max=1),
        http=config.HttpSettings(in_flight_max=64, deadline=2.0),
        retry=config.RetrySettings(backoff_min=0.1, backoff_max=0.5),
        park=config.ParkSettings(probe_min=0.5, probe_max=0.5),
        backlog=config.BacklogSettings(),
        drain=config.DrainSettings(timeout=rng.choice((0.5, 2.0))),
    )
    strikes = dataclasses.replace(
        faults.NO_STRIKES,
        crashes=rng.randint(0, 10),
        pauses=rng.randint(0, 1),
        drains=rng.randint(2, 12),
        rebalances=rng.randint(0, 3),
        ambushes=rng.randint(0, 8),
        clock_jumps=clock_jumps,
        broker_jumps=broker_jumps,
    )
    return dataclasses.replace(
        drawn,
        settings=settings,
        integrations=3,
        duration=30.0,
        changes=rng.randint(20, 60),
        strikes=strikes,
        log_faults=LogFaults(latency_max=0.02),
        network_faults=NetworkFaults(service_max=1.5),
        plan=msgspec.structs.replace(drawn.plan, rules=tuple(rules), concurrency_limit=30),
        huge=0.0,
    )


def _retired(rng: random.Random, drawn: Parameters) -> Parameters:
    """So dense that a course has several changes within the watch of a task."""
    rules: list[AnyRule] = [
        TaskEndless(applies_after_seconds=rng.choice((None, 2.0, 7.0, 12.0)), probability=0.2),
        TaskSlow(seconds_min=6.5, seconds_max=14.0, probability=0.2),
        AnswerLost(how=rng.choice(("cut", "error", "hang")), probability=rng.choice((0.0, 0.3, 0.6))),
        SubmitRefused(probability=rng.choice((0.0, 0.2))),
        SubmitRefused(statuses=(404,), probability=rng.choice((0.0, 0.2))),
    ]
    settings = dataclasses.replace(
        drawn.settings,
        batch=config.BatchSettings(linger=rng.choice((0.0, 0.1)), items_max=rng.choice((1, 100))),
        window=config.WindowSettings(),
        http=config.HttpSettings(in_flight_max=64, deadline=2.0),
        poll=config.PollSettings(first_after=0.1, factor=1.6, interval_max=0.5),
        park=config.ParkSettings(probe_min=0.2, probe_max=0.5),
        backlog=config.BacklogSettings(),
        courses=config.CoursesSettings(),
    )
    strikes = dataclasses.replace(
        faults.NO_STRIKES,
        crashes=rng.choice((0, 4, 10)),
        pauses=rng.randint(0, 2),
        rebalances=rng.randint(0, 4),
        ambushes=rng.randint(0, 6),
    )
    return dataclasses.replace(
        drawn,
        settings=settings,
        names=PLAIN,
        integrations=1,
        courses=rng.randint(1, 3),
        changes=rng.randint(30, 60),
        deactivated=0.45,
        contents=2,
        duration=40.0,
        strikes=strikes,
        log_faults=LogFaults(courses_late=rng.choice((0.0, 1.0, 3.0))),
        network_faults=NetworkFaults(
            request_late=rng.choice((0.0, 0.2)),
            request_twice=rng.choice((0.0, 0.2)) if drawn.plan.idempotency.return_finished else 0.0,
            answer_lost=rng.choice((0.0, 0.2)),
            service_max=rng.choice((0.0, 0.5)),
        ),
        plan=msgspec.structs.replace(drawn.plan, rules=tuple(rules), concurrency_limit=30),
        huge=0.0,
    )


def _loaded(rng: random.Random, drawn: Parameters) -> Parameters:
    """Most changes wait: for a place in the window, or for their turn to be sent. Nothing delays single batches."""
    slow = TaskSlow(seconds_min=0.5, seconds_max=3.0, probability=0.5)
    fails = TaskFails(probability=0.1)
    settings = dataclasses.replace(
        drawn.settings,
        batch=config.BatchSettings(linger=rng.choice((0.0, 0.1)), items_max=rng.choice((1, 1, 2, 5))),
        window=config.WindowSettings(batches_max=rng.choice((1, 2, 4, 8, 8))),
        http=config.HttpSettings(in_flight_max=64, deadline=2.0),
        poll=config.PollSettings(first_after=0.1, factor=1.6, interval_max=0.5),
        retry=config.RetrySettings(backoff_min=0.1, backoff_max=0.5),
        backlog=config.BacklogSettings(),
    )
    strikes = dataclasses.replace(
        faults.NO_STRIKES,
        crashes=rng.choice((0, 0, 3, 8)),
        drains=rng.choice((0, 2)),
        rebalances=rng.randint(0, 2),
        ambushes=rng.choice((0, 4)),
    )
    return dataclasses.replace(
        drawn,
        names=CROWD,
        settings=settings,
        partitions=1,
        integrations=rng.randint(1, 2),
        courses=rng.choice((6, 24, 24)),
        changes=rng.randint(60, 120),
        bulk=rng.choice((0.2, 0.5, 0.8)),
        duration=25.0,
        strikes=strikes,
        log_faults=LogFaults(latency_max=0.02),
        network_faults=NetworkFaults(service_max=rng.choice((0.0, 0.5, 1.5))),
        plan=msgspec.structs.replace(
            drawn.plan,
            rules=tuple(rule for rule in (slow, fails) if rng.random() < 0.7),
            concurrency_limit=rng.choice((1, 2, 30)),
        ),
        bounds=Bounds(),
        huge=0.0,
    )


def _polled(rng: random.Random, drawn: Parameters) -> Parameters:
    """Each tool has durations of its own, with one hump or two. In most histories they change, after which the process has
    learned what is not true any more; in some of these, what was rare becomes usual.
    """
    change = rng.uniform(15.0, 40.0)
    spans: tuple[tuple[float, float | None], ...] = ((0.0, change), (change, None))
    rules: list[AnyRule] = []
    for tool in ("one:*", "other:*"):
        fast, slow, width = rng.uniform(0.3, 2.0), rng.uniform(3.0, 7.0), rng.choice((0.05, 0.4))
        shares = rng.choice(((0.1, 0.1), (0.1, 1.0), (0.1, 1.0), (0.5, 0.5), (0.0, 1.0), (1.0, 0.0)))
        for (start, end), share in zip(spans, shares, strict=True):
            for hump, probability in ((slow, share), (fast, 1.0)):
                rule = TaskSlow(
                    seconds_min=hump,
                    seconds_max=hump * (1 + width),
                    probability=probability,
                    integrations=(tool,),
                    start_seconds=start,
                    end_seconds=end,
                )
                rules.append(rule)
    endless = TaskEndless(
        applies_after_seconds=rng.choice((None, 5.0)), probability=rng.choice((0.0, 0.1, 0.3))
    )
    factor, interval_max = rng.choice(((1.6, 2.0), (1.6, 6.0), (1.15, 6.0)))
    settings = dataclasses.replace(
        drawn.settings,
        batch=config.BatchSettings(linger=0.1, items_max=rng.choice((1, 1, 3))),
        window=config.WindowSettings(batches_max=100),
        http=config.HttpSettings(in_flight_max=64, deadline=2.0),
        poll=config.PollSettings(
            first_after=rng.choice((0.2, 0.4)), factor=factor, interval_max=interval_max
        ),
        retry=config.RetrySettings(backoff_min=0.1, backoff_max=0.5, attempts_max=2),
        backlog=config.BacklogSettings(),
    )
    return dataclasses.replace(
        drawn,
        names=TOOLS,
        settings=settings,
        integrations=rng.randint(1, 3),
        courses=len(TOOLS.courses),
        changes=rng.randint(120, 200),
        duration=60.0,
        contents=20,
        strikes=dataclasses.replace(
            faults.NO_STRIKES, crashes=rng.choice((0, 0, 2)), compactions=rng.randint(0, 1)
        ),
        log_faults=LogFaults(latency_max=0.02),
        network_faults=NetworkFaults(service_max=0.05, latency_max=0.02),
        plan=msgspec.structs.replace(drawn.plan, rules=(endless, *rules), concurrency_limit=30),
        bounds=Bounds(tasks_learned=rng.choice((3, 6)), polls_saved=1),
        huge=0.0,
    )


def _policies(rng: random.Random, drawn: Parameters) -> Parameters:
    """Little else goes wrong, and everything is prompt, so that what is seen follows from the tables in force."""
    possible: tuple[AnyRule, ...] = (
        TaskEndless(applies_after_seconds=rng.choice((None, 5.0, 9.0)), probability=0.3),
        TaskSlow(seconds_min=3.0, seconds_max=14.0, probability=0.3),
        TaskFails(probability=0.3, codes=("REMOTE.SERVICE_UNAVAILABLE",)),
        ItemFails(probability=0.3),
        SubmitRefused(probability=0.2),
        SubmitRefused(statuses=(403,), code="INTEGRATION.AUTHENTICATION_INVALID", probability=0.5),
    )
    settings = dataclasses.replace(
        drawn.settings,
        batch=config.BatchSettings(linger=rng.choice((0.0, 0.1, 0.5)), items_max=rng.choice((1, 3, 100))),
        window=config.WindowSettings(batches_max=rng.choice((1, 3, 8))),
        http=config.HttpSettings(
            in_flight_max=64, deadline=2.0, requests_per_second_max=rng.choice((None, None, 12.0))
        ),
        retry=config.RetrySettings(backoff_min=0.1, backoff_max=2.0, attempts_max=rng.choice((2, 3))),
        wait=config.WaitSettings(age_max=rng.choice((5.0, 604_800.0))),
        backlog=config.BacklogSettings(),
        courses=config.CoursesSettings(),
        unchanged=config.UnchangedSettings(trust_for=rng.choice((3.0, 604_800.0))),
    )
    duration = 30.0
    return dataclasses.replace(
        drawn,
        settings=settings,
        integrations=3,
        courses=6,
        changes=rng.randint(40, 90),
        duration=duration,
        contents=3,
        strikes=dataclasses.replace(
            faults.NO_STRIKES,
            crashes=rng.choice((0, 0, 2)),
            drains=rng.choice((0, 0, 2)),
            rebalances=rng.choice((0, 0, 2)),
        ),
        log_faults=LogFaults(latency_max=0.02),
        network_faults=NetworkFaults(service_max=rng.choice((0.0, 0.3)), latency_max=0.02),
        plan=msgspec.structs.replace(
            drawn.plan, rules=tuple(rule for rule in possible if rng.random() < 0.4), concurrency_limit=30
        ),
        policies=draw_plan(rng, drawn.names.integrations, duration, WATCHED),
        bounds=Bounds(),
        huge=0.0,
    )


def _sent_again(rng: random.Random, drawn: Parameters) -> Parameters:
    """Most changes fail soon, and newer ones of the same course come all the time."""
    possible: tuple[AnyRule, ...] = (
        ItemFails(probability=0.5, codes=PERMANENT_CODES),
        TaskFails(probability=0.4, codes=PERMANENT_CODES),
        TaskEndless(applies_after_seconds=rng.choice((None, 5.0, 9.0)), probability=0.1),
        SubmitRefused(probability=0.2),
        AnswerLost(how="cut", probability=0.1),
    )
    settings = dataclasses.replace(
        drawn.settings,
        batch=config.BatchSettings(linger=rng.choice((0.0, 0.1, 0.5)), items_max=rng.choice((1, 2, 100))),
        window=config.WindowSettings(),
        poll=config.PollSettings(first_after=0.1, factor=1.6, interval_max=0.5),
        retry=config.RetrySettings(backoff_min=0.1, backoff_max=0.5, attempts_max=2),
    )
    strikes = dataclasses.replace(
        faults.NO_STRIKES,
        crashes=rng.choice((0, 2, 6, 12)),
        pauses=rng.randint(0, 2),
        rebalances=rng.randint(0, 3),
        drains=rng.randint(0, 2),
        ambushes=rng.randint(0, 3),
    )
    return dataclasses.replace(
        drawn,
        settings=settings,
        partitions=rng.randint(1, 2),
        integrations=rng.randint(1, 2),
        courses=rng.randint(1, 3),
        changes=rng.randint(30, 60),
        duration=40.0,
        strikes=strikes,
        log_faults=LogFaults(latency_max=rng.choice((0.02, 0.3))),
        network_faults=NetworkFaults(service_max=rng.choice((0.0, 0.1))),
        plan=msgspec.structs.replace(
            drawn.plan, rules=tuple(rule for rule in possible if rng.random() < 0.7), concurrency_limit=30
        ),
        repetitions=rng.randint(6, 20),
        decisions=rng.choice((0, 0, 4)),
        bounds=dataclasses.replace(drawn.bounds, reach=rng.choice((1, 3, 32_768))),
        huge=0.0,
    )


_OF_KIND: Mapping[Kind, Callable[[random.Random, Parameters], Parameters]] = {
    Kind.WILD: _wild,
    Kind.ISOLATION: _isolation,
    Kind.REPLACED: _replaced,
    Kind.CROWDED: _crowded,
    Kind.MISREAD: _misread,
    Kind.LOADED: _loaded,
    Kind.POLICIES: _policies,
    Kind.POLLED: _polled,
    Kind.OPERATED: _operated,
    Kind.REPUBLISHED: _republished,
    Kind.RESTARTS: _restarts,
    Kind.RETIRED: _retired,
    Kind.SENT_AGAIN: _sent_again,
}
