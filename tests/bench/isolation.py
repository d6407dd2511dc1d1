"""Isolation (C5) on the real clock: what do four bad integrations cost the 46 others?

46 integrations publish at a steady pace, once alone and once beside four more: one never answers, one always throttles, one has
broken credentials, and one publishes 100 times as many changes as each of the others. In both runs the 46 publish the same
changes at the same moments. All integrations share six partitions.

Two times are taken of each change of the 46, both from the timestamp of its record:

    POST    until its POST reaches the API. It is judged, because up to there everything is the daemon's work: the fetch, the
            batch, the commit, the window and the connections, each of which a bad integration could use up
    result  until its result is written. It contains the task and the schedule of the polls, which are the same in both runs and
            hide a part of the growth

`batch.linger` is in both times, and short. `growth` is that of the 99th percentile, the median over the repetitions.
`python -m tests.bench.isolation` measures this alone.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, NamedTuple

import click
import msgspec
from kafka import KafkaProducer
from rich.console import Console

from daemon.log.errors import LogError
from tests.bench.setting import DIRECTORY, Setting, kafka
from tests.bench.usage import machine_seconds, process_seconds
from tests.sandbox.checker.readers import read_tasks
from tests.sandbox.process import SandboxError
from tests.sandbox.results_view import ResultsView
from tests.sandbox.simulator.faults import AnswerLost, FaultPlan, PollFails, SubmitThrottled, TaskFails
from tests.sandbox.stack import Stack

OTHERS = tuple(f"workday:{number:024d}" for number in range(46))
SILENT, THROTTLED, BROKEN, HEAVY = (
    f"docebo:{name:024}" for name in ("silent", "throttled", "broken", "heavy")
)
HEAVY_FACTOR = 100
PLAN = FaultPlan(
    rules=(
        AnswerLost(how="hang", integrations=(SILENT,)),
        PollFails(how="hang", integrations=(SILENT,)),
        SubmitThrottled(retry_after=1, integrations=(THROTTLED,)),
        TaskFails(codes=("INTEGRATION.AUTHENTICATION_INVALID",), integrations=(BROKEN,)),
    )
)
MUST_HIT = ("answer_lost hang", "submit_throttled", "task_fails")
"""Faults without which the second run measures nothing."""

RATE = 0.5
"""Changes a second of each integration; of the heavy one, 100 times as many."""
WARM_UP = 3.0
"""Seconds whose changes are not counted: connections are opened, bad integrations become known as such."""
SETTINGS = {"batch.linger": "50ms"}
GROWTH_MAX = 0.20
PATIENCE = 60.0
"""Seconds after the last change within which all changes of the 46 must have a result."""


class Run(NamedTuple):
    post: float
    result: float
    """99th percentiles in milliseconds."""
    daemon_cpus: float
    """CPUs that the daemon kept busy while changes were published."""
    elsewhere: float
    """The same of other processes than ours: how much the figures are disturbed."""


@dataclass(frozen=True, slots=True)
class Pair:
    alone: Run
    beside: Run


class _Due(NamedTuple):
    at: float
    """Seconds after the first change."""
    integration_id: str
    number: int


@dataclass(frozen=True, slots=True)
class _Sent:
    course: tuple[str, str]
    place: tuple[int, int]
    timestamp: int


def measure_isolation(setting: Setting, repetitions: int, seconds: float) -> Sequence[Pair]:
    """Each repetition publishes for `seconds` alone and beside the four, in alternating order.

    Raises:
        SandboxError: a change of the 46 did not succeed in time, or a fault never happened.
    """
    pairs = []
    for number in range(repetitions):
        runs = {}
        for beside in (False, True) if number % 2 == 0 else (True, False):
            runs[beside] = _measure(setting, seconds, seed=number, beside=beside)
        pairs.append(Pair(alone=runs[False], beside=runs[True]))
    return pairs


def figures(pairs: Sequence[Pair]) -> dict[str, Any]:
    """For JSON. Milliseconds; a growth of 0.2 is 20 %."""
    alone, beside = [pair.alone for pair in pairs], [pair.beside for pair in pairs]
    found: dict[str, Any] = {}
    for name in ("post", "result"):
        growth = [getattr(pair.beside, name) / getattr(pair.alone, name) - 1 for pair in pairs]
        found |= {
            f"{name}_p99_ms_alone": round(statistics.median(getattr(run, name) for run in alone), 1),
            f"{name}_p99_ms_beside": round(statistics.median(getattr(run, name) for run in beside), 1),
            f"{name}_growth": round(statistics.median(growth), 3),
            f"{name}_growth_each": [round(one, 3) for one in growth],
        }
    return found | {
        "daemon_cpus_alone": round(statistics.median(run.daemon_cpus for run in alone), 2),
        "daemon_cpus_beside": round(statistics.median(run.daemon_cpus for run in beside), 2),
        "cpus_busy_elsewhere": [
            round(run.elsewhere, 2) for pair in pairs for run in (pair.alone, pair.beside)
        ],
    }


def _measure(setting: Setting, seconds: float, seed: int, *, beside: bool) -> Run:
    faults = msgspec.json.encode(PLAN).decode()
    with setting.stack("isolation", task_seconds=0.0, settings=SETTINGS, faults=faults) as stack:
        stack.start_daemon()
        stack.await_ready()
        pids = [stack.daemon_pid, stack.addresses.simulator.pid, os.getpid()]
        pids += [] if setting.broker_pid is None else [setting.broker_pid]
        began, machine, ours = time.monotonic(), machine_seconds(), [process_seconds(pid) for pid in pids]
        sent = _publish(stack, _schedule(seconds + WARM_UP, seed, beside=beside))
        took, machine = time.monotonic() - began, machine_seconds() - machine
        ours = [process_seconds(pid) - before for pid, before in zip(pids, ours, strict=True)]
        resolved = _results(stack, sent)
        posted = _arrivals(stack)
        if beside:
            hits = stack.ask_simulator("stats")["faults"]
            if missing := [name for name in MUST_HIT if name not in hits]:
                raise SandboxError(f"these faults never happened: {', '.join(missing)}")
    return Run(
        post=_p99([posted[one.course] - one.timestamp for one in sent]),
        result=_p99([resolved[one.place] - one.timestamp for one in sent]),
        daemon_cpus=ours[0] / took,
        elsewhere=max(0.0, machine - sum(ours)) / took,
    )


def _p99(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[98]


def _schedule(seconds: float, seed: int, *, beside: bool) -> list[_Due]:
    """The changes of the 46 are the same with and without the four."""
    due = [one for name in OTHERS for one in _times(name, RATE, seconds, seed)]
    if beside:
        due += [one for name in (SILENT, THROTTLED, BROKEN) for one in _times(name, RATE, seconds, seed)]
        due += _times(HEAVY, HEAVY_FACTOR * RATE, seconds, seed)
    return sorted(due)


def _times(integration_id: str, rate: float, seconds: float, seed: int) -> Iterator[_Due]:
    rng = random.Random(f"{seed} {integration_id}")
    at = 0.0
    for number in count():
        at += rng.uniform(0.5, 1.5) / rate
        if at > seconds:
            return
        yield _Due(at, integration_id, number)


def _publish(stack: Stack, schedule: Sequence[_Due]) -> list[_Sent]:
    """Publish all of it; return what is counted."""
    at, counted = stack.addresses, []
    producer = KafkaProducer(bootstrap_servers=at.bootstrap.split(","), acks="all", linger_ms=0)
    try:
        began = time.monotonic()
        for due in schedule:
            ahead = began + due.at - time.monotonic()
            if ahead > 0:
                time.sleep(ahead)
            future = producer.send(at.topics.changes, _change(due), due.integration_id.encode())
            if due.at >= WARM_UP and due.integration_id in OTHERS:
                counted.append((due, future))
        sent = [(due, future.get(timeout=PATIENCE)) for due, future in counted]
    finally:
        producer.close()
    return [
        _Sent((due.integration_id, f"course-{due.number}"), (done.partition, done.offset), done.timestamp)
        for due, done in sent
    ]


def _change(due: _Due) -> bytes:
    """A course of its own, so that nothing waits for another change."""
    return msgspec.json.encode(
        {
            "id": f"{due.integration_id}-{due.number}",
            "type": "course.upserted",
            "integration_id": due.integration_id,
            "origin_id": f"course-{due.number}",
            "course": {
                "type": "EXTERNAL",
                "title": f"Course {due.number}",
                "course_url": f"https://learn.example.com/course-{due.number}",
            },
        }
    )


def _results(stack: Stack, sent: Sequence[_Sent]) -> dict[tuple[int, int], int]:
    """When the result of each change was written, in milliseconds since the epoch."""
    at = stack.addresses
    deadline = time.monotonic() + PATIENCE
    with ResultsView(at.connection, at.topics.results) as view:
        while missing := [one for one in sent if one.place not in view.resolved]:
            stack.assert_running()
            if time.monotonic() > deadline:
                raise SandboxError(f"{len(missing):,} of {len(sent):,} changes have no result")
            view.poll(0.2)
        for one in sent:
            if (status := view.resolved[one.place].status) != "SUCCEEDED":
                raise SandboxError(f"the change of {one.course} ended as {status}")
        return {one.place: view.resolved[one.place].timestamp for one in sent}


def _arrivals(stack: Stack) -> dict[tuple[str, str], int]:
    """When the first POST with each course arrived, in milliseconds since the epoch."""
    arrived: dict[tuple[str, str], int] = {}
    for task in read_tasks(stack.addresses.simulator.url):
        for item in task.items:
            arrived.setdefault((task.integration_id, item.origin_id), task.created_at)
    return arrived


@click.command
@click.option("--repetitions", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--seconds", type=click.FloatRange(min=5), default=20.0, show_default=True, help="Of each run.")
def isolation(*, repetitions: int, seconds: float) -> None:
    """What four bad integrations cost the 46 others. One line of JSON goes to stdout."""
    console = Console(stderr=True, highlight=False)
    try:
        with kafka(console) as (bootstrap, broker_pid):
            pairs = measure_isolation(Setting(DIRECTORY, bootstrap, broker_pid), repetitions, seconds)
    except (SandboxError, LogError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(json.dumps(figures(pairs)))


if __name__ == "__main__":
    isolation()
