"""The daemon obeys what operators decide with the commands, on a real Kafka."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.daemon_world import (
    DEADLINE,
    UNHURRIED,
    await_results,
    good,
    publish,
    results,
    wait_until,
)
from tests.sandbox.stack import Stack

pytestmark = [pytest.mark.endurance, pytest.mark.kafka]

COURSESYNCD = str(Path(sys.executable).with_name("coursesyncd"))
FAULTS = """
[[rules]]
fault = "task_endless"
integrations = ["endless:1"]

[[rules]]
fault = "task_fails"
integrations = ["parked:1"]
codes = ["INTEGRATION.AUTHENTICATION_INVALID"]
"""


@pytest.fixture
def stack(tmp_path: Path, kafka_bootstrap: str) -> Iterator[Stack]:
    faults = tmp_path / "faults.toml"
    faults.write_text(FAULTS)
    settings = {**UNHURRIED, "task.timeout": "1h", "wait.age_max": "2h"}
    with Stack(
        tmp_path, faults=str(faults), seed=1, say=print, kafka=kafka_bootstrap, settings=settings
    ) as stack:
        yield stack


def does(stack: Stack, *arguments: str) -> str:
    done = subprocess.run(
        [COURSESYNCD, *arguments],
        env=stack.environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def row(stack: Stack, integration: str) -> dict[str, Any]:
    """Empty if there is none."""
    lines = does(stack, "integrations", integration, "--json").splitlines()
    found: dict[str, dict[str, Any]] = {each["integration"]: each for each in map(json.loads, lines)}
    return found.get(integration, {})


def ends(stack: Stack) -> dict[str, tuple[str, str | None]]:
    """Status and error code of each change that has ended, by its id."""
    return {
        data["change_id"]: (data["status"], data["error"] and data["error"]["code"])
        for data in results(stack)
    }


def test_what_is_paused_waits_until_it_is_resumed(stack: Stack) -> None:
    does(stack, "pause", "tool:*", "--by", "ann")
    does(stack, "resume", "tool:2")
    publish(stack, *(good(1, integration_id=f"tool:{number}", id=f"of-{number}") for number in (1, 2)))
    stack.start_daemon()
    await_results(stack, 1)
    assert ends(stack) == {"of-2": ("SUCCEEDED", None)}
    wait_until(lambda: row(stack, "tool:1").get("waiting") == 1, "the change of tool:1 in the journal")
    assert row(stack, "tool:1")["state"] == "paused"

    does(stack, "resume", "tool:*")
    await_results(stack, 2)
    assert ends(stack)["of-1"] == ("SUCCEEDED", None)


def test_what_is_given_up_ends_and_what_comes_later_does_not(stack: Stack) -> None:
    stack.start_daemon()
    for integration in ("parked:1", "endless:1"):
        publish(stack, good(1, integration_id=integration, id=f"{integration}-first"))
    wait_until(lambda: row(stack, "endless:1").get("open_tasks") == 1, "an open task")
    publish(stack, good(1, integration_id="endless:1", id="endless:1-second"))
    wait_until(lambda: row(stack, "endless:1").get("waiting") == 1, "a change that waits for the task")
    does(stack, "give-up", "parked:1", "--yes", "--by", "ann", "--reason", "has left")
    does(stack, "give-up", "endless:1", "--yes", "--open-tasks")
    await_results(stack, 3)
    assert ends(stack) == {
        "parked:1-first": ("FAILED", "COURSESYNC.GIVEN_UP"),
        "endless:1-first": ("TIMED_OUT", "COURSESYNC.GIVEN_UP"),
        "endless:1-second": ("FAILED", "COURSESYNC.GIVEN_UP"),
    }
    (message,) = {data["error"]["message"] for data in results(stack) if data["integration_id"] == "parked:1"}
    assert "ann has given up this change: has left" in message

    publish(stack, good(2, integration_id="parked:1", id="later"))
    wait_until(
        lambda: row(stack, "parked:1").get("state") == "waits for customer", "the later change to wait"
    )
    assert "later" not in ends(stack)
