"""Times of the API that cannot be true, each for an integration of its own: it waits, the others notice nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.daemon_world import (
    UNHURRIED,
    await_metric,
    await_results,
    good,
    log_lines,
    metric,
    probe,
    publish,
    results,
    wait_until,
)
from tests.sandbox.stack import Stack

pytestmark = [pytest.mark.endurance, pytest.mark.kafka]

HOUR = 3600.0

ABSURD = {
    "year-1": {"created_at": "0001-01-01T00:00:00Z"},
    "year-1-east": {"created_at": "0001-01-01T00:00:00+14:00"},
    "year-9999": {"created_at": "9999-12-31T23:59:59.999Z"},
    "year-10000": {"completed_at": "9999-12-31T23:59:59-14:00"},
    "year-10000-date": {"date": "Fri, 31 Dec 9999 23:59:59 -1400", "created_at": "9999-12-31T23:59:59-14:00"},
    "year-1969": {"created_at": "1969-12-31T23:59:59Z"},
}
"""An answer to a poll says so, whatever the task's state."""
AHEAD = {"east": 14 * HOUR, "six-minutes": 360.0}
"""Seconds by which the `created_at` in the answer is ahead."""
UNDERSTOOD = {"year-9999-date": {"date": "Fri, 31 Dec 9999 23:59:59 GMT"}, "garbled-date": {"date": "soon"}}
"""A `Date` that is ignored: nothing times out by it, and the task's own times are right."""
SKEWED = "quarter-minute"
"""`created_at` is ahead by less than the tolerance: the next submission waits for so long."""
SKEW_SECONDS = 15.0
GOOD = ("good-1", "good-2", "good-3")


@pytest.fixture
def stack(tmp_path: Path, kafka_bootstrap: str) -> Iterator[Stack]:
    with Stack(
        tmp_path,
        faults="none",
        seed=1,
        say=print,
        kafka=kafka_bootstrap,
        task_seconds=0.2,
        settings=UNHURRIED,
    ) as stack:
        yield stack


def distort(stack: Stack) -> None:
    ahead = {
        name: {"created_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))}
        for name, seconds in AHEAD.items()
    }
    rules: list[dict[str, Any]] = [
        {"fault": "times_absurd", "integrations": [name], **times}
        for name, times in {**ABSURD, **UNDERSTOOD, **ahead}.items()
    ]
    rules.append({"fault": "clock_skewed", "integrations": [SKEWED], "seconds": SKEW_SECONDS, "date": False})
    stack.tell_simulator("faults", json.dumps({"rules": rules}).encode())


def test_no_time_of_an_answer_stops_the_process_or_another_integration(stack: Stack) -> None:
    distort(stack)
    blind = {*ABSURD, *AHEAD}
    stack.start_daemon()
    stack.await_ready()
    names = [*blind, *UNDERSTOOD, SKEWED, *GOOD]
    publish(stack, *(good(n, integration_id=name) for n, name in enumerate(names)))
    well = len(names) - len(blind)
    ended = await_results(stack, well)
    assert {data["integration_id"]: data["status"] for data in ended} == dict.fromkeys(
        {*UNDERSTOOD, SKEWED, *GOOD}, "SUCCEEDED"
    )

    # The others go on beside them, in their partitions too; nothing of theirs is stale.
    for number in range(100, 103):
        publish(stack, *(good(number, integration_id=name) for name in GOOD))
    publish(stack, good(200, integration_id=SKEWED))
    ended = await_results(stack, well + 9)
    assert {data["status"] for data in ended} == {"SUCCEEDED"}
    assert {data["attempts"] for data in ended} == {1}

    # What waits is told, and nothing has died.
    await_metric(stack, len(blind), "coursesync_poll_blind_tasks")
    [waits] = wait_until(lambda: log_lines(stack, "batch.waits_for_api_clock"), "the wait")
    assert waits["integration"] == SKEWED
    told = {line["answer"] for line in log_lines(stack, "task.poll_failed")}
    for name in ("created_at", "completed_at"):
        assert any(f"{name} " in text and "not in the years 2000 to 2099" in text for text in told)
    assert any("s ahead of the API's clock" in text for text in told)
    admin = stack.addresses.admin_url
    for page in ("state", "livez", "readyz"):
        assert probe(admin, page)[0] == 200
    assert metric(stack, "coursesync_partitions_blocked") == 0
    assert len(results(stack)) < len(names) + 10

    # With right times each of them ends well, that of the skewed clock when the API's clock has passed its floor.
    stack.tell_simulator("faults", b"none")
    ended = await_results(stack, len(names) + 10)
    assert {data["status"] for data in ended} == {"SUCCEEDED"}
    assert stack.daemon_running
    assert not log_lines(stack, "daemon.died")
