"""A process that stood still, was replaced by another one under the same name, and comes back to life: as when a
node is given up and its pod made again. It ends by itself, says why, and nothing is lost or doubled."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from tests.integration.daemon_world import DEADLINE, await_results, good, publish, tasks, wait_until
from tests.sandbox.checker.readers import check_run
from tests.sandbox.generator import Plan
from tests.sandbox.process import Child
from tests.sandbox.profile import check_limits
from tests.sandbox.publishing import Publishing
from tests.sandbox.replica import Replica
from tests.sandbox.results_view import ResultsView
from tests.sandbox.stack import Stack

pytestmark = [pytest.mark.endurance, pytest.mark.kafka]

LONG_SESSION = {"kafka.session_timeout": "120s"}
"""A replacement is up long before that, also on a busy machine."""
SESSION_TIMEOUT = 12.0
"""Seconds: a machine that stands still for so long makes another one of this test."""
SESSION_OVER = SESSION_TIMEOUT + 1.0
SHORT_SESSION = {"kafka.session_timeout": f"{SESSION_TIMEOUT:g}s"}
ANSWER_SECONDS = 8.0
SLOW = {"http.deadline": "10s", "task.timeout": "60s"}
"""For calls that are answered so late: time enough to freeze the daemon before."""


@contextmanager
def sandbox(
    directory: Path,
    kafka: str,
    *,
    faults: str = "none",
    short_session: bool = True,
    more: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Stack]:
    settings = {**(SHORT_SESSION if short_session else LONG_SESSION), **more}
    with Stack(directory, faults=faults, seed=2, say=print, kafka=kafka, settings=settings) as stack:
        stack.start_daemon()
        stack.await_ready()
        yield stack


def replace_and_thaw(replica: Replica, for_seconds: float, frozen: Callable[[], None] = lambda: None) -> None:
    """Whatever the process was just doing; when this returns, it has ended as it should. It stands still for so long at
    least, and `frozen` is called when it does."""
    replica.process.freeze()
    frozen_at = time.monotonic()
    frozen()
    old = replica.replace()
    replica.await_ready()
    wait_until(lambda: time.monotonic() > frozen_at + for_seconds, "the end of its session, or its answer")
    old.thaw()
    assert old.wait(DEADLINE) == 1, old.output()
    [last_words] = [line for line in log_of(old) if line["event"] == "daemon.failed"]
    assert "FENCED_INSTANCE_ID" in last_words["error"]
    assert replica.running


def log_of(process: Child) -> list[dict[str, Any]]:
    return [json.loads(line) for line in process.output().splitlines() if line.startswith("{")]


def assert_contract(stack: Stack, changes: int) -> None:
    stack.drain_daemon()
    at = stack.addresses
    verdict = check_run(at.connection, at.topics.changes, at.topics.results, at.simulator.url, check_limits())
    assert verdict.ok, [violation.line for violation in verdict.first(10)]
    assert verdict.changes == changes


@pytest.mark.parametrize("when_session_is_over", [False, True])
def test_in_the_middle_of_its_work(
    tmp_path: Path, kafka_bootstrap: str, *, when_session_is_over: bool
) -> None:
    """Commits, POSTs and polls are under way all the time."""
    count = 600
    with sandbox(tmp_path, kafka_bootstrap, faults="demo", short_session=when_session_is_over) as stack:
        at = stack.addresses
        plan = Plan(seed=2, changes=count, integrations=5, courses_per_integration=20)
        with (
            ResultsView(at.connection, at.topics.results) as view,
            Publishing(at.connection, at.topics.changes, plan, rate=100.0),
        ):
            wait_until(lambda: view.poll(0.1) >= 0 and len(view.resolved) >= 0.1 * count, "some results")
            replace_and_thaw(stack.daemon, SESSION_OVER if when_session_is_over else 0.0)
            wait_until(lambda: view.poll(0.1) >= 0 and len(view.resolved) >= count, "all results")
        assert_contract(stack, count)


@pytest.mark.parametrize("when_session_is_over", [False, True])
def test_while_its_post_is_under_way(
    tmp_path: Path, kafka_bootstrap: str, *, when_session_is_over: bool
) -> None:
    """Its answer lies in the socket when it comes back to life."""
    seconds = {"seconds_min": ANSWER_SECONDS, "seconds_max": ANSWER_SECONDS}
    slow = json.dumps({"rules": [{"fault": "answer_slow", **seconds}]}).encode()
    with sandbox(tmp_path, kafka_bootstrap, short_session=when_session_is_over, more=SLOW) as stack:
        stack.tell_simulator("faults", slow)
        publish(stack, good(1))
        wait_until(lambda: tasks(stack), "the POST has arrived")

        replace_and_thaw(
            stack.daemon,
            SESSION_OVER if when_session_is_over else ANSWER_SECONDS + 1.0,
            frozen=lambda: stack.tell_simulator("faults", b'{"rules": []}'),
        )

        [ended] = await_results(stack, 1)
        assert ended["status"] == "SUCCEEDED"
        [task] = tasks(stack)
        assert task["posts"] == 2, "the one whose answer came too late, and that of the replacement"
        assert_contract(stack, 1)


def test_while_the_group_is_rebalancing(tmp_path: Path, kafka_bootstrap: str) -> None:
    with sandbox(tmp_path, kafka_bootstrap) as stack:
        publish(stack, *(good(number, integration_id=f"tool:{number}") for number in range(30)))
        await_results(stack, 30)
        other = stack.add_replica()
        # It is frozen at once when it knows, while the other one waits for it.
        other.start()
        wait_until(lambda: count_of(stack.daemon, "partitions.revoked") > 0, "the rebalance")
        replace_and_thaw(stack.daemon, SESSION_OVER)

        publish(stack, *(good(number, integration_id=f"tool:{number}") for number in range(30, 60)))
        await_results(stack, 60)
        other.drain()
        assert_contract(stack, 60)


def count_of(replica: Replica, event: str) -> int:
    return sum(line["event"] == event for line in log_of(replica.process))
