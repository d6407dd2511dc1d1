"""The daemon as its users live it: real broker, real process, the simulated API over HTTP."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.integration.daemon_world import (
    DEADLINE,
    UNHURRIED,
    await_metric,
    await_results,
    good,
    log_lines,
    metric,
    probe,
    publish,
    results,
    tasks,
    wait_until,
)
from tests.sandbox.checker.readers import check_run
from tests.sandbox.generator import Plan
from tests.sandbox.local_http import get
from tests.sandbox.profile import PARTITIONS, check_limits
from tests.sandbox.publishing import Publishing
from tests.sandbox.replica import Replica
from tests.sandbox.results_view import ResultsView
from tests.sandbox.stack import API_KEY, Stack

pytestmark = pytest.mark.kafka


@pytest.fixture
def stack(tmp_path: Path, kafka_bootstrap: str) -> Iterator[Stack]:
    """Topics of its own, a well-behaved API, and a daemon that is not yet started; its log tells all."""
    with with_settings(tmp_path, kafka_bootstrap, UNHURRIED) as stack:
        yield stack


def with_settings(directory: Path, kafka: str, settings: Mapping[str, str]) -> Stack:
    settings = {**settings, "log.level": "debug"}
    return Stack(
        directory, faults="none", seed=1, say=print, kafka=kafka, task_seconds=0.2, settings=settings
    )


# --- what it shows --------------------------------------------------------------------------------


def test_the_metrics_tell_what_was_done_and_nothing_tells_the_key(stack: Stack) -> None:
    stack.start_daemon()
    stack.await_ready()
    publish(stack, *(good(number) for number in range(20)), good(20, type="course.retired"))
    await_results(stack, 21)

    for value, name, labels in (
        (21, "changes_consumed_total", {}),
        (1, "changes_rejected_total", {"reason": "unsupported"}),
        (20, "results_total", {"status": "SUCCEEDED"}),
        (1, "results_total", {"status": "REJECTED"}),
        (21, "results_total", {}),
        (len(tasks(stack)), "tasks_finished_total", {"outcome": "completed"}),
        (len(tasks(stack)), "http_requests_total", {"endpoint": "submit", "status": "2xx"}),
        (0, "pending_tasks", {}),
        (0, "pending_age_seconds_gcount", {}),
        (0, "pending_oldest_created_timestamp_seconds", {}),
        (0, "changes_waiting", {}),
        (0, "waiting_oldest_consumed_timestamp_seconds", {}),
        (0, "restore_remaining_records", {}),
        (0, "contract_imbalance", {}),
        (0, "kafka_consumer_lag_records", {}),
    ):
        await_metric(stack, value, f"coursesync_{name}", **labels)
    assert metric(stack, "coursesync_http_requests_total", endpoint="poll", status="2xx") >= len(tasks(stack))
    assert metric(stack, "coursesync_commits_total") > 0

    admin = stack.addresses.admin_url
    shown = [get(f"{admin}/{page}").decode() for page in ("metrics", "state", "readyz", "livez", "startupz")]
    assert log_lines(stack, "batch.accepted")  # it did use the key, and it did tell all
    assert API_KEY not in stack.daemon.log.read_text() + "".join(shown)


# --- killed and told to end -----------------------------------------------------------------------


def test_kill_9_and_drains_in_the_middle_lose_and_double_nothing(
    tmp_path: Path, kafka_bootstrap: str
) -> None:
    count = 600
    with Stack(tmp_path, faults="demo", seed=3, say=print, kafka=kafka_bootstrap, task_seconds=0.5) as stack:
        at = stack.addresses
        stack.start_daemon()
        stack.await_ready()
        plan = Plan(seed=3, changes=count, integrations=5, courses_per_integration=10)
        with (
            ResultsView(at.connection, at.topics.results) as view,
            Publishing(at.connection, at.topics.changes, plan, rate=200.0) as publishing,
        ):
            for number, share in enumerate((0.15, 0.35, 0.55)):
                enough = share * count
                wait_until(partial(_has_resolved, view, enough), "results")
                if number == 1:
                    stack.drain_daemon()
                else:
                    stack.kill_daemon()
                stack.start_daemon()
            wait_until(lambda: publishing.done, "everything published")
            wait_until(lambda: view.poll(0.1) >= 0 and len(view.resolved) >= count, "all results")
        assert metric(stack, "coursesync_contract_imbalance") == 0
        stack.drain_daemon()

        verdict = check_run(
            at.connection, at.topics.changes, at.topics.results, at.simulator.url, check_limits()
        )
        assert verdict.ok, [violation.line for violation in verdict.first(10)]
        assert verdict.changes == count


@contextmanager
def call_under_way(directory: Path, kafka: str, fault: str, *, drain: str) -> Iterator[Stack]:
    """A daemon whose POST has arrived, and is answered slowly or never."""
    settings = {
        "http.deadline": "100s",
        "task.timeout": "200s",
        "kafka.session_timeout": "60s",
        "drain.timeout": drain,
        "log.level": "debug",
    }
    with Stack(directory, faults="none", seed=1, say=print, kafka=kafka, settings=settings) as stack:
        stack.tell_simulator("faults", fault.encode())
        stack.start_daemon()
        stack.await_ready()
        publish(stack, good(1))
        wait_until(lambda: tasks(stack), "the POST has arrived")
        yield stack


SLOW = '{"rules": [{"fault": "answer_slow", "seconds_min": 15.0, "seconds_max": 15.0}]}'
"""Long enough for what a test does meanwhile, on any machine."""
HANGS = '{"rules": [{"fault": "answer_lost", "how": "hang", "hang_seconds": 300}]}'


def test_a_drain_waits_for_the_call_and_the_next_process_goes_on_from_there(
    tmp_path: Path, kafka_bootstrap: str
) -> None:
    """The POST is not sent a second time: its task was committed before the end."""
    with call_under_way(tmp_path, kafka_bootstrap, SLOW, drain="50s") as stack:
        assert not log_lines(stack, "batch.accepted")
        stack.daemon.process.terminate()
        wait_until(lambda: probe(stack.addresses.admin_url, "readyz")[0] == 503, "not ready any more")

        assert stack.daemon.process.wait(DEADLINE) == 0
        assert log_lines(stack, "batch.accepted")
        assert log_lines(stack, "drain.finished")
        assert not log_lines(stack, "drain.timed_out")
        assert results(stack) == []

        stack.tell_simulator("faults", b'{"rules": []}')
        stack.start_daemon()
        [ended] = await_results(stack, 1)
        assert ended["status"] == "SUCCEEDED"
        [task] = tasks(stack)
        assert task["posts"] == 1
        assert ended["task_id"] == task["task_id"]


def test_a_drain_does_not_wait_longer_than_it_is_allowed(tmp_path: Path, kafka_bootstrap: str) -> None:
    with call_under_way(tmp_path, kafka_bootstrap, HANGS, drain="1s") as stack:
        stack.daemon.process.terminate()

        assert stack.daemon.process.wait(DEADLINE) == 0
        assert log_lines(stack, "drain.timed_out")


def test_a_second_signal_ends_at_once(tmp_path: Path, kafka_bootstrap: str) -> None:
    with call_under_way(tmp_path, kafka_bootstrap, HANGS, drain="50s") as stack:
        stack.daemon.process.terminate()
        wait_until(lambda: log_lines(stack, "drain.started"), "drain begun")
        stack.daemon.process.terminate()

        assert stack.daemon.process.wait(DEADLINE) == 1
        assert log_lines(stack, "stop.at_once")
        assert not log_lines(stack, "drain.timed_out")
        assert not log_lines(stack, "drain.finished")


# --- together -------------------------------------------------------------------------------------


def test_two_replicas_share_the_partitions_and_one_takes_over(tmp_path: Path, kafka_bootstrap: str) -> None:
    """The short session time-out of the sandbox is how long the other one has to wait."""
    with with_settings(tmp_path, kafka_bootstrap, {}) as stack:
        _one_takes_over(stack, stack.add_replica())


def _one_takes_over(stack: Stack, other: Replica) -> None:
    stack.start_daemon()
    other.start()
    stack.await_ready()
    other.await_ready()
    everything = set(range(PARTITIONS))

    def held() -> list[set[int]]:
        return [
            {number for number, state in (replica.partitions(DEADLINE) or {}).items() if state == "running"}
            for replica in (stack.daemon, other)
        ]

    def shared(first: set[int], second: set[int]) -> bool:
        return bool(first and second) and not first & second and first | second == everything

    wait_until(lambda: shared(*held()), "both hold some partitions")
    # Their tasks take a while yet, and the one that made them will not see their ends.
    stack.tell_simulator(
        "faults", b'{"rules": [{"fault": "task_slow", "seconds_min": 3.0, "seconds_max": 3.0}]}'
    )
    before = [good(number, integration_id=f"tool:{number}") for number in range(12)]
    publish(stack, *before)
    wait_until(lambda: len(tasks(stack)) == len(before), "all are under way")

    stack.kill_daemon()

    wait_until(lambda: held()[1] == everything, "the other one holds all of them")
    publish(stack, *(good(number, integration_id=f"tool:{number}") for number in range(12, 24)))
    ended = await_results(stack, 24)
    assert len(ended) == 24
    assert {data["status"] for data in ended} == {"SUCCEEDED"}


def _has_resolved(view: ResultsView, count: float) -> bool:
    return view.poll(0.1) >= 0 and len(view.resolved) >= count
