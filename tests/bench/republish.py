"""The nightly republish: what does a catalogue cost that is published again, in other bytes, without a change?

`python -m tests.bench.republish` publishes a catalogue three times, over a real Kafka and a daemon in a process of its own:

    written    every course is new, so each of them is sent
    again      the daemon knows every course, and nothing is sent
    restarted  the daemon was restarted, and finds the catalogue in the input: it loads what is known from
               the courses topic, and nothing is sent

It prints a table to stderr and a line of JSON to stdout, and ends with exit code 1 if a course of the second or the third round
was sent, or ended as anything but `UNCHANGED`.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections import Counter
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from daemon.log.errors import LogError
from daemon.log.topic_access import read_topic
from tests.bench.end_to_end import watch
from tests.bench.load import preload
from tests.bench.setting import DIRECTORY, Setting, kafka
from tests.bench.usage import process_seconds
from tests.sandbox.generator import GeneratedRecord, Plan, generate_records
from tests.sandbox.process import SandboxError
from tests.sandbox.stack import Stack

ROUNDS = ("written", "again", "restarted")


class Round(msgspec.Struct, frozen=True):
    """What one publication of the catalogue cost."""

    statuses: dict[str, int]
    stale_replays: int
    """Results with the error `COURSESYNC.STALE_REPLAY`."""
    calls: int
    """To the API: submissions and polls."""
    seconds: float
    """Until the last result: from the first record, or from the start of the daemon where the records lay in the topic before."""
    daemon_cpu_us: float
    """CPU microseconds of the daemon for each change; from its start, if that is in this round."""

    @property
    def is_free(self) -> bool:
        """No change was sent, and each ended as `UNCHANGED`."""
        return not self.calls and set(self.statuses) == {"UNCHANGED"}


class _Data(msgspec.Struct):
    status: str
    change_id: str
    error: dict[str, Any] | None


class _Event(msgspec.Struct):
    """What is looked at of a result."""

    data: _Data


@click.command
@click.option("--courses", type=click.IntRange(min=100), default=100_000, show_default=True)
@click.option("--integrations", type=click.IntRange(min=1), default=20, show_default=True)
def republish(*, courses: int, integrations: int) -> None:
    """Publish a catalogue three times, and measure what the second and the third time cost."""
    console = Console(stderr=True, highlight=False)
    try:
        with kafka(console) as (bootstrap, broker_pid):
            rounds = measure_republish(
                Setting(DIRECTORY, bootstrap, broker_pid), courses, integrations, console
            )
    except (SandboxError, LogError) as error:
        raise click.ClickException(str(error)) from error
    print_table(console, courses, rounds)
    click.echo(json.dumps({"courses": courses, "rounds": msgspec.to_builtins(rounds)}))
    sys.exit(0 if all(rounds[name].is_free for name in ROUNDS[1:]) else 1)


def measure_republish(
    setting: Setting, courses: int, integrations: int, console: Console
) -> dict[str, Round]:
    """
    Raises:
        SandboxError: a change had no result in time, or more than one, or a course was not written in the first round.
    """
    rounds: dict[str, Round] = {}
    records = generate_records(_plan(courses, integrations))
    with setting.stack("republish", task_seconds=0.0, settings={}) as stack:
        for number, name in enumerate(ROUNDS):
            console.print(f"{name}: {courses:,} courses …")
            lies_ready = name != "again"
            if number and lies_ready:
                stack.drain_daemon()
            catalogue = list(itertools.islice(records, courses))
            rounds[name] = _round(stack, catalogue, number, lies_ready=lies_ready)
        if rounds["written"].statuses != {"SUCCEEDED": courses}:
            raise SandboxError(f"the catalogue was not written: {rounds['written'].statuses}")
    return rounds


def _plan(courses: int, integrations: int) -> Plan:
    """The catalogue, once for each round."""
    return Plan(
        changes=len(ROUNDS) * courses,
        republished=(len(ROUNDS) - 1) * courses,
        integrations=integrations,
        courses_per_integration=-(-courses // integrations),
        quiet_integrations=0,
        repeat_share=0.0,
        return_share=0.0,
        invalid_share=0.0,
        first_time_ms=time.time_ns() // 1_000_000,
    )


def _round(stack: Stack, catalogue: list[GeneratedRecord], number: int, *, lies_ready: bool) -> Round:
    """Publish the catalogue as round `number`, and wait for its results. `lies_ready`: the daemon does not run, and is started
    when everything lies in the topic."""
    calls = _calls(stack)
    began = time.time()
    if lies_ready:
        preload(stack.addresses, catalogue)
        began, cpu = time.time(), 0.0
        stack.start_daemon()
    else:
        cpu = process_seconds(stack.daemon_pid)
        preload(stack.addresses, catalogue)
    looks = watch(stack, {"daemon": stack.daemon_pid}, (number + 1) * len(catalogue))
    last = next(look for look in looks if look.end == looks[-1].end)
    statuses, stale = _ended(stack, number, len(catalogue))
    return Round(
        statuses=statuses,
        stale_replays=stale,
        calls=_calls(stack) - calls,
        seconds=round(last.at - began, 1),
        daemon_cpu_us=round((last.cpu["daemon"] - cpu) / len(catalogue) * 1e6, 1),
    )


def _calls(stack: Stack) -> int:
    """Requests that the API has answered so far, without the checks of the key."""
    requests: dict[str, int] = stack.ask_simulator("stats")["requests"]
    return sum(count for name, count in requests.items() if name.startswith(("submit", "poll", "deactivate")))


def _ended(stack: Stack, number: int, courses: int) -> tuple[dict[str, int], int]:
    """How the changes of a round have ended, and how many of them as stale replays."""
    at = stack.addresses
    decode = msgspec.json.Decoder(_Event).decode
    ids, statuses, stale = set(), Counter[str](), 0
    for record in read_topic(at.connection, at.topics.results):
        data = decode(record.value or b"").data
        if int(data.change_id.rpartition("-")[2]) // courses != number:
            continue  # of another round
        ids.add(data.change_id)
        statuses[data.status] += 1
        stale += data.error is not None and data.error["code"] == "COURSESYNC.STALE_REPLAY"
    if not len(ids) == statuses.total() == courses:
        raise SandboxError(f"{courses:,} changes have {statuses.total():,} results, {len(ids):,} different")
    return dict(statuses), stale


def print_table(console: Console, courses: int, rounds: dict[str, Round]) -> None:
    table = Table(title=f"A catalogue of {courses:,} courses, published three times", title_justify="left")
    table.add_column("round")
    for heading in ("results", "stale replays", "calls to the API", "seconds", "daemon, CPU µs a change"):
        table.add_column(heading, justify="right")
    for name, one in rounds.items():
        statuses = ", ".join(f"{count:,} {status}" for status, count in sorted(one.statuses.items()))
        table.add_row(
            name,
            statuses,
            str(one.stale_replays),
            f"{one.calls:,}",
            f"{one.seconds:.1f}",
            f"{one.daemon_cpu_us:.1f}",
        )
    console.print(table)


if __name__ == "__main__":
    republish()
