"""What the tests of the whole daemon do to it and see of it: as its publishers, readers and operators."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from daemon.log.topic_access import Publisher, TopicRecord, read_topic
from tests.sandbox.local_http import get
from tests.sandbox.results_view import ResultsView
from tests.sandbox.stack import Stack

DEADLINE = 180.0
"""Seconds. Only a failure waits so long."""

UNHURRIED = {"http.deadline": "60s", "task.timeout": "600s", "kafka.session_timeout": "60s"}
"""Settings of a daemon whose test is about none of these times: so that a machine that stands still for seconds makes
nothing happen."""


class Published(NamedTuple):
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


T = TypeVar("T")


def wait_until(holds: Callable[[], T | None], what: str) -> T:
    """What it returned when it held."""
    deadline = time.monotonic() + DEADLINE
    while not (found := holds()):
        assert time.monotonic() < deadline, f"not within {DEADLINE:g} s: {what}"
        time.sleep(0.05)
    return found


# --- publishing and reading -----------------------------------------------------------------------


def change(number: int, **fields: Any) -> dict[str, Any]:
    course = {"type": "EXTERNAL", "title": f"Title {number}", "course_url": "https://example.com/c"}
    return {
        "id": f"chg-{number}",
        "type": "course.upserted",
        "integration_id": "tool:1",
        "origin_id": f"course-{number}",
        "course": course,
    } | fields


def good(number: int, **fields: Any) -> Published:
    made = change(number, **fields)
    return Published(made["integration_id"].encode(), json.dumps(made).encode())


def publish(stack: Stack, *records: Published) -> None:
    """In this order, where their keys put them into one partition."""
    publisher = Publisher(stack.addresses.connection, stack.addresses.topics.changes)
    for record in records:
        publisher.send(*record)
    publisher.flush()


def results(stack: Stack) -> list[dict[str, Any]]:
    """As a `read_committed` consumer sees them now."""
    at = stack.addresses
    events = [json.loads(record.value or b"") for record in read_topic(at.connection, at.topics.results)]
    return [event["data"] for event in events if event["type"] == "course.sync.resolved"]


def await_results(stack: Stack, count: int) -> list[dict[str, Any]]:
    """All that are there when so many changes have one."""
    with ResultsView(stack.addresses.connection, stack.addresses.topics.results) as view:
        wait_until(lambda: view.poll(0.2) >= 0 and len(view.resolved) >= count, f"{count} results")
    return results(stack)


def await_dead_letters(stack: Stack, count: int) -> list[TopicRecord]:
    """All that are there when they are so many: each topic shows what was committed when it comes to it."""

    def enough() -> list[TopicRecord] | None:
        found = dead_letters(stack)
        return found if len(found) >= count else None

    return wait_until(enough, f"{count} dead letters")


def dead_letters(stack: Stack) -> list[TopicRecord]:
    at = stack.addresses
    return list(read_topic(at.connection, at.topics.dead_letters))


# --- the API --------------------------------------------------------------------------------------


def tasks(stack: Stack) -> list[dict[str, Any]]:
    """What the simulated API has accepted."""
    return [json.loads(line) for line in get(f"{stack.addresses.simulator.url}/_sim/tasks").splitlines()]


# --- the process ----------------------------------------------------------------------------------


def probe(admin_url: str, name: str) -> tuple[int, dict[str, Any]]:
    """Status (0 while nobody listens) and answer."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(f"{admin_url}/{name}", timeout=DEADLINE) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
    except OSError:
        return 0, {}


def metric(stack: Stack, name: str, **labels: str) -> float:
    """The sum over all series of this name that have these labels; at least one must be there."""
    series = _series(stack, name, labels)
    assert series, f"there is no {name} with {labels}"
    return sum(series)


def await_metric(stack: Stack, wanted: float, name: str, **labels: str) -> None:
    """What was done is told a moment after others can see it."""

    def is_told() -> bool:
        return bool(series := _series(stack, name, labels)) and sum(series) == wanted

    wait_until(is_told, f"{name} {labels} is {wanted}")


def _series(stack: Stack, name: str, labels: dict[str, str]) -> list[float]:
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    return [
        float(line.rsplit(" ", 1)[1])
        for line in get(f"{stack.addresses.admin_url}/metrics").decode().splitlines()
        if line.startswith((f"{name} ", f"{name}{{")) and all(label in line for label in wanted)
    ]


def log_lines(stack: Stack, event: str | None = None) -> list[dict[str, Any]]:
    """Of the first replica, over all its lives."""
    text = stack.daemon.log.read_text() if stack.daemon.log.exists() else ""
    # The last line may be half written.
    whole = (
        json.loads(line)
        for line in text.splitlines(keepends=True)
        if line.startswith("{") and line[-1] == "\n"
    )
    return [line for line in whole if event in (None, line["event"])]
