"""`coursesyncd inspect` beside a daemon that is at work, as an operator types it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.daemon_world import DEADLINE, good, publish, wait_until
from tests.sandbox.stack import Stack

pytestmark = pytest.mark.kafka

COURSESYNCD = str(Path(sys.executable).with_name("coursesyncd"))
FAULTS = """
[[rules]]
fault = "task_endless"
integrations = ["endless:1"]

[[rules]]
fault = "submit_refused"
integrations = ["refused:1"]

[[rules]]
fault = "task_fails"
integrations = ["parked:1"]
codes = ["INTEGRATION.AUTHENTICATION_INVALID"]
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, kafka_bootstrap: str) -> Iterator[Stack]:
    """Nothing times out while it is looked at."""
    folder = tmp_path_factory.mktemp("inspect")
    faults = folder / "faults.toml"
    faults.write_text(FAULTS)
    settings = {"task.timeout": "1h", "wait.age_max": "1h"}
    with Stack(
        folder, faults=str(faults), seed=1, say=print, kafka=kafka_bootstrap, settings=settings
    ) as stack:
        stack.start_daemon()
        stack.await_ready()
        for integration in ("endless:1", "refused:1", "parked:1"):
            publish(stack, good(1, integration_id=integration))
        wait_until(lambda: rows(stack, "submissions", "--integration", "endless:1"), "a submission")
        publish(stack, good(1, integration_id="endless:1", id="newer"))
        yield stack


def inspect(stack: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [COURSESYNCD, "inspect", *arguments]
    return subprocess.run(
        command, env=stack.environment, capture_output=True, text=True, timeout=DEADLINE, check=False
    )


def rows(stack: Stack, *arguments: str) -> list[dict[str, Any]]:
    told = inspect(stack, *arguments, "--json")
    assert told.returncode == 0, told.stderr
    return [json.loads(line) for line in told.stdout.splitlines()]


def test_submissions_that_have_not_ended(stack: Stack) -> None:
    def both() -> list[dict[str, Any]] | None:
        found = {row["integration_id"]: row for row in rows(stack, "submissions")}
        states = {name: row["state"] for name, row in found.items() if name != "parked:1"}
        return [*found.values()] if states == {"endless:1": "pending", "refused:1": "sealed"} else None

    found = {row["integration_id"]: row for row in wait_until(both, "one pending and one refused submission")}
    assert found["endless:1"]["task_id"]
    assert found["refused:1"]["task_id"] is None


def test_what_waits_and_why(stack: Stack) -> None:
    def both() -> dict[str, Any] | None:
        found = {row["integration_id"]: row for row in rows(stack, "waiting")}
        return found if {"endless:1", "parked:1"} <= found.keys() else None

    found = wait_until(both, "a change behind an open task, and one of a parked integration")
    assert (found["endless:1"]["retries"], found["endless:1"]["last_error"]) == (0, None)
    assert found["parked:1"]["retries"] == 1
    assert found["parked:1"]["last_error"]["code"] == "INTEGRATION.AUTHENTICATION_INVALID"


def test_a_course(stack: Stack) -> None:
    def both() -> list[dict[str, Any]] | None:
        found = rows(stack, "course", "endless:1", "course-1")
        return found if len(found) == 2 else None

    sent, waiting = wait_until(both, "both changes of the course")
    assert (sent["change_id"], sent["state"]) == ("chg-1", "pending")
    assert (waiting["change_id"], waiting["state"]) == ("newer", "waiting")
    assert sent["offset"] < waiting["offset"]


def test_partitions_add_up(stack: Stack) -> None:
    def all_there() -> bool:
        found = rows(stack, "partitions")
        return sum(int(row["waiting"] + row["pending"] + row["sealed"]) for row in found) >= 4

    wait_until(all_there, "four changes under way")


def test_for_people(stack: Stack) -> None:
    told = inspect(stack, "course", "endless:1", "course-1")
    assert told.returncode == 0
    known, empty, heading, first, *_ = told.stdout.splitlines()
    assert (known, empty) == ("Nothing is known of this course.", "")
    assert heading.split()[:3] == ["CHANGE", "ID", "AGE"]
    assert "pending" in first
    assert inspect(stack, "course", "endless:1", "unknown").stdout == (
        "Nothing is known of this course.\n\nNo open changes.\n"
    )


def test_a_partition_that_is_not_there(stack: Stack) -> None:
    told = inspect(stack, "partitions", "--partition", "0", "--partition", "99")
    assert told.returncode == 1
    assert len(told.stdout.splitlines()) == 2
    assert "there is no 99" in told.stderr
