"""The daemon as its users live it: real broker, real process, the simulated API over HTTP."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon.log.plain import PlainRecord, Publisher, read_topic
from daemon.sandbox.broker import Broker
from daemon.sandbox.checker.readers import check_run
from daemon.sandbox.generator import Plan
from daemon.sandbox.generator.invalid import InvalidKind, spoil
from daemon.sandbox.local_http import get
from daemon.sandbox.process import Child
from daemon.sandbox.profile import check_limits
from daemon.sandbox.publishing import Publishing
from daemon.sandbox.results_view import ResultsView
from daemon.sandbox.stack import Stack

DEADLINE = 60.0
COURSESYNCD = str(Path(sys.executable).with_name("coursesyncd"))

pytestmark = pytest.mark.kafka


@pytest.fixture
def stack(tmp_path: Path, kafka_bootstrap: str) -> Iterator[Stack]:
    """Topics of its own, a well-behaved API, and a daemon that is not yet started."""
    with Stack(tmp_path, faults="none", seed=1, say=print, kafka=kafka_bootstrap, task_seconds=0.2) as stack:
        yield stack


def wait_until(holds: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + DEADLINE
    while not (found := holds()):
        assert time.monotonic() < deadline, f"not within {DEADLINE:g} s: {what}"
        time.sleep(0.05)
    return found


def change(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "id": f"chg-{number}",
        "type": "course.upserted",
        "integration_id": "tool:1",
        "origin_id": f"course-{number}",
        "course": {"type": "EXTERNAL", "title": f"Title {number}", "course_url": "https://example.com/c"},
    } | fields


def publish(stack: Stack, *records: tuple[bytes | None, bytes | None, tuple[tuple[str, bytes], ...]]) -> None:
    publisher = Publisher(stack.addresses.connection, stack.addresses.topics.changes)
    for key, value, headers in records:
        publisher.send(key, value, headers)
    publisher.flush()


def good(number: int, **fields: Any) -> tuple[bytes, bytes, tuple[()]]:
    return b"tool:1", json.dumps(change(number, **fields)).encode(), ()


def results(stack: Stack) -> list[dict[str, Any]]:
    at = stack.addresses
    events = [json.loads(r.value or b"") for r in read_topic(at.connection, at.topics.results)]
    return [event["data"] for event in events if event["type"] == "course.sync.resolved"]


def await_results(stack: Stack, count: int) -> list[dict[str, Any]]:
    with ResultsView(stack.addresses.connection, stack.addresses.topics.results) as view:
        wait_until(lambda: view.poll(0.2) >= 0 and len(view.resolved) >= count, f"{count} results")
    return results(stack)


def probe(admin_url: str, name: str) -> tuple[int, dict[str, Any]]:
    """Status 0 while nobody listens."""
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
            f"{admin_url}/{name}"
        ) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
    except OSError:
        return 0, {}


def metric(stack: Stack, name: str) -> float:
    """The sum over all series of this name."""
    text = get(f"{stack.addresses.admin_url}/metrics").decode()
    return sum(
        float(line.rsplit(" ", 1)[1])
        for line in text.splitlines()
        if line.startswith((f"{name} ", f"{name}{{"))
    )


def test_each_kind_of_bad_record_is_rejected_once_and_kept(stack: Stack) -> None:
    stack.start_daemon()
    stack.await_ready()
    bad = [spoil(kind, change(number)) for number, kind in enumerate(InvalidKind)]
    publish(stack, *((b.key, b.value, b.headers) for b in bad), good(900, extra="stays here"))

    ended = await_results(stack, len(bad) + 1)

    by_status = Counter(data["status"] for data in ended)
    assert by_status == {"REJECTED": len(bad), "SUCCEEDED": 1}
    assert len({(d["change"]["partition"], d["change"]["offset"]) for d in ended}) == len(bad) + 1
    for data in ended:
        if data["status"] == "REJECTED":
            assert data["error"]["code"].startswith("COURSESYNC.")
            assert len(data["error"]["message"]) > 20
    at = stack.addresses
    letters = list(read_topic(at.connection, at.topics.dead_letters))
    assert len(letters) == len(bad)
    originals = Counter((b.key, b.value or b"") for b in bad if len(b.value or b"") < 1_000_000)
    kept = Counter((r.key, r.value or b"") for r in letters if header(r, "coursesync-value-size") is None)
    assert originals == kept
    [cut] = [r for r in letters if header(r, "coursesync-value-size") is not None]
    whole = next(b.value for b in bad if len(b.value or b"") >= 1_000_000)
    assert whole is not None
    assert header(cut, "coursesync-value-size") == str(len(whole)).encode()
    assert whole.startswith(cut.value or b"?")
    assert all(header(r, "coursesync-reason") for r in letters)
    assert metric(stack, "coursesync_changes_rejected_total") == len(bad)
    assert metric(stack, "coursesync_results_total") == len(bad) + 1
    [task] = tasks(stack)
    assert "extra" not in json.dumps(task["items"])


def header(record: PlainRecord, name: str) -> bytes | None:
    return dict(record.headers).get(name)


def tasks(stack: Stack) -> list[dict[str, Any]]:
    return [json.loads(line) for line in get(f"{stack.addresses.simulator.url}/_sim/tasks").splitlines()]


def test_a_refused_key_ends_no_change_and_the_right_one_in_the_file_goes_on(stack: Stack) -> None:
    stack.tell_simulator("key", b'{"api_key": "the-right-key-1234"}')
    stack.start_daemon()
    stack.await_ready()
    publish(stack, *(good(number) for number in range(5)))
    admin = stack.addresses.admin_url

    wait_until(lambda: probe(admin, "readyz")[0] == 503, "not ready")
    reasons = probe(admin, "readyz")[1]["reasons"]
    assert any("PLATFORM.AUTHENTICATION_INVALID" in reason for reason in reasons)
    assert probe(admin, "livez")[0] == 200
    assert any(line["event"] == "api.halted" for line in log_lines(stack))
    assert results(stack) == []

    stack.api_key_file.write_text("the-right-key-1234\n")

    assert {data["status"] for data in await_results(stack, 5)} == {"SUCCEEDED"}
    assert wait_until(lambda: probe(admin, "readyz")[0] == 200, "ready again")
    shown = stack.daemon.log.read_text() + get(f"{admin}/metrics").decode() + get(f"{admin}/state").decode()
    assert "the-right-key-1234" not in shown


def log_lines(stack: Stack) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stack.daemon.log.read_text().splitlines() if line.startswith("{")]


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
                wait_until(
                    lambda share=share: view.poll(0.1) >= 0 and len(view.resolved) >= share * count, "results"
                )
                if number == 1:
                    stack.drain_daemon()
                else:
                    stack.kill_daemon()
                stack.start_daemon()
            wait_until(lambda: publishing.done, "everything published")
            wait_until(lambda: view.poll(0.1) >= 0 and len(view.resolved) >= count, "all results")
        stack.drain_daemon()

        verdict = check_run(
            at.connection, at.topics.changes, at.topics.results, at.simulator.url, check_limits()
        )
        assert verdict.ok, [violation.line for violation in verdict.first(10)]
        assert verdict.changes == count


def test_a_second_signal_ends_at_once(stack: Stack) -> None:
    """The first one drains, which a hanging call holds up."""
    stack.tell_simulator(
        "faults", b'{"rules": [{"fault": "answer_lost", "how": "hang", "hang_seconds": 60}]}'
    )
    stack.start_daemon()
    stack.await_ready()
    publish(stack, good(1))
    wait_until(lambda: tasks(stack), "the POST has arrived")
    process = stack.daemon.process

    os.kill(process.pid, 15)
    wait_until(lambda: "drain.started" in stack.daemon.log.read_text(), "drain begun")
    os.kill(process.pid, 15)

    wait_until(lambda: not stack.daemon.running, "the end")
    assert process.exit_code == 1
    assert "drain.finished" not in stack.daemon.log.read_text()


def test_topics_that_are_missing_are_named_with_the_command_that_makes_them(
    stack: Stack, tmp_path: Path
) -> None:
    environment = stack.environment | {
        f"COURSESYNC_TOPICS_{name}": f"{tmp_path.name.replace('_', '-')}-{name.lower()}"
        for name in ("CHANGES", "JOURNAL", "RESULTS", "DEAD_LETTERS")
    }
    log = tmp_path / "missing.log"
    child = Child.start("missing", [COURSESYNCD, "run"], log=log, env=environment)
    try:
        wait_until(lambda: "coursesyncd topics create" in log.read_text(), "the line with the command")
        assert probe(stack.addresses.admin_url, "readyz")[0] == 503
        assert probe(stack.addresses.admin_url, "startupz")[0] == 200

        made = subprocess.run(
            [COURSESYNCD, "topics", "create", "--partitions", "2"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )

        assert made.returncode == 0, made.stdout + made.stderr
        wait_until(lambda: probe(stack.addresses.admin_url, "readyz")[0] == 200, "ready by itself")
    finally:
        assert child.stop(grace=20.0) == 0


def test_a_broker_that_is_away_at_the_start_is_waited_for(own_broker: Broker, tmp_path: Path) -> None:
    with Stack(
        tmp_path, faults="none", seed=1, say=print, kafka=own_broker.bootstrap, task_seconds=0.2
    ) as stack:
        own_broker.stop()
        stack.start_daemon()
        admin = stack.addresses.admin_url
        wait_until(lambda: probe(admin, "startupz")[0] == 200, "started")
        assert probe(admin, "livez")[0] == 200
        assert probe(admin, "readyz")[0] == 503
        wait_until(lambda: "kafka.unavailable" in stack.daemon.log.read_text(), "a clear line")

        own_broker.start()

        stack.await_ready()
        publish(stack, good(1))
        assert await_results(stack, 1)[0]["status"] == "SUCCEEDED"


def test_every_mistake_of_the_configuration_in_one_message() -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "COURSESYNC_BATCH_LINGER": "soon",
        "COURSESYNC_BATCH_ITEM_MAX": "7",
        "COURSESYNC_FENCE_LEASE": "50s",
    }
    ended = subprocess.run(
        [COURSESYNCD, "run"], env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert ended.returncode == 2
    for part in (
        "batch.linger",
        "COURSESYNC_BATCH_ITEMS_MAX",
        "fence.lease",
        "kafka.bootstrap_servers",
        "kombo.api_key_file",
    ):
        assert part in ended.stderr


def test_two_replicas_share_the_partitions_and_one_takes_over(stack: Stack) -> None:
    other = stack.add_replica()
    stack.start_daemon()
    other.start()
    stack.await_ready()
    other.await_ready()

    def held() -> list[set[int]]:
        return [
            {number for number, state in (replica.partitions(2.0) or {}).items() if state == "running"}
            for replica in (stack.daemon, other)
        ]

    wait_until(lambda: all(held()) and not set.intersection(*held()), "both hold some partitions")
    everything = set.union(*held())

    stack.kill_daemon()

    wait_until(lambda: held()[1] == everything, "the other one holds all of them")
    publish(stack, *(good(number, integration_id=f"tool:{number}") for number in range(12)))
    assert {data["status"] for data in await_results(stack, 12)} == {"SUCCEEDED"}
