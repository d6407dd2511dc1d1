"""R6 on a real broker: what replicas leave to each other when they end, in order and by kill -9."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon.log.topic_access import read_topic
from tests.integration.daemon_world import DEADLINE, UNHURRIED, await_results, good, publish, wait_until
from tests.sandbox.stack import Stack

pytestmark = [pytest.mark.endurance, pytest.mark.kafka]

WAIT = {"http.deadline": "285s", "fence.lease": "15s"}
"""Together longer than any test waits."""
CHANGES = 5


@pytest.fixture
def stack(tmp_path: Path, kafka_bootstrap: str) -> Iterator[Stack]:
    settings = UNHURRIED | WAIT
    with Stack(
        tmp_path, faults="none", seed=1, say=print, kafka=kafka_bootstrap, task_seconds=0.2, settings=settings
    ) as stack:
        yield stack


def journal(stack: Stack) -> list[tuple[list[str], Any]]:
    """Key and value of each record."""
    at = stack.addresses
    records = read_topic(at.connection, at.topics.journal)
    return [(json.loads(record.key or b""), json.loads(record.value or b"null")) for record in records]


def unsent(stack: Stack) -> int:
    """Changes in batches that the API has not accepted."""
    last = {tuple(key): value for key, value in journal(stack)}
    batches = {key[1]: value for key, value in last.items() if key[0] == "batch" and value}
    accepted = {key[1] for key, value in last.items() if key[0] == "task" and value}
    return sum(len(value["items"]) for batch, value in batches.items() if batch not in accepted)


def position(stack: Stack) -> dict[str, Any]:
    """The last one of the only partition that was written to."""
    found = [value for key, value in journal(stack) if key == ["position"] and value["next_offset"]]
    return dict(found[-1])


def outage(stack: Stack, seconds: float) -> None:
    stack.tell_simulator("outage", json.dumps({"seconds": seconds, "kind": "error"}).encode())


def start(stack: Stack) -> None:
    """Start it, and wait until it has written a record of its own."""
    before = len(journal(stack))
    stack.start_daemon()
    wait_until(lambda: len(journal(stack)) > before, "a record of the next owner")


def leave_unsent(stack: Stack, first: int) -> None:
    """So many changes are sealed and not accepted."""
    outage(stack, 3600)
    publish(stack, *(good(number) for number in range(first, first + CHANGES)))
    wait_until(lambda: unsent(stack) == CHANGES, "batches that wait for the API")


def test_restarts_in_order_delay_nothing_and_kills_in_a_row_delay_once(stack: Stack) -> None:
    assert DEADLINE < 300
    stack.start_daemon()
    leave_unsent(stack, 0)
    for _ in range(2):
        stack.drain_daemon()
        assert position(stack)["released"] == {}
        start(stack)
    outage(stack, 0)
    await_results(stack, CHANGES)

    leave_unsent(stack, CHANGES)
    stack.kill_daemon()
    start(stack)
    stated = wait_until(lambda: position(stack).get("fencings"), "a statement of the second owner")
    stack.kill_daemon()
    start(stack)
    assert position(stack)["fencings"] == stated, "counted from the first of them"
    stack.drain_daemon()
    assert position(stack)["fencings"] == stated
    assert position(stack)["released"] == {}
    assert unsent(stack) == CHANGES
