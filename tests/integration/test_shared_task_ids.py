"""The API gives several submissions the id of one task: no correction is lost, and no course stays busy."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.log.topic_access import read_topic
from tests.integration.daemon_world import (
    UNHURRIED,
    await_metric,
    await_results,
    good,
    log_lines,
    publish,
    wait_until,
)
from tests.sandbox.stack import Stack

pytestmark = [pytest.mark.endurance, pytest.mark.kafka]

COUNT = 3
SETTINGS = {
    **UNHURRIED,
    "http.deadline": "5s",
    "task.timeout": "6s",
    "task.watch_after_timeout": "5m",
    "batch.items_max": "1",
    "window.batches_max": "8",
    "poll.first_after": "200ms",
    "poll.interval_max": "1s",
}


@pytest.fixture
def stack(tmp_path: Path, kafka_bootstrap: str) -> Iterator[Stack]:
    with Stack(
        tmp_path, faults="none", seed=1, say=print, kafka=kafka_bootstrap, task_seconds=0.2, settings=SETTINGS
    ) as stack:
        yield stack


def corrections(stack: Stack) -> dict[str, str]:
    at = stack.addresses
    events = [json.loads(record.value or b"") for record in read_topic(at.connection, at.topics.results)]
    return {
        event["data"]["origin_id"]: event["data"]["status"]
        for event in events
        if event["type"] == "course.sync.corrected"
    }


def test_three_batches_with_one_task_id_time_out_and_end_late(stack: Stack) -> None:
    rules = [{"fault": "task_slow", "seconds_min": 20, "seconds_max": 20}, {"fault": "task_id_shared"}]
    stack.tell_simulator("faults", json.dumps({"rules": rules}).encode())
    stack.start_daemon()
    stack.await_ready()
    publish(stack, *(good(number) for number in range(COUNT)))
    assert {data["status"] for data in await_results(stack, COUNT)} == {"TIMED_OUT"}
    await_metric(stack, COUNT - 1, "coursesync_task_ids_shared_total")
    assert len(log_lines(stack, "task.id_shared")) == COUNT - 1
    stack.tell_simulator("faults", b"none")

    told = wait_until(lambda: found if len(found := corrections(stack)) == COUNT else None, "corrections")
    assert sorted(told.values()) == ["FAILED", "FAILED", "SUCCEEDED"], "the task knows only the first of them"

    publish(stack, *(good(number) for number in range(COUNT)))
    ended = await_results(stack, 2 * COUNT)
    assert Counter(data["status"] for data in ended) == {
        "TIMED_OUT": COUNT,
        "UNCHANGED": 1,  # the one whose late end was a success
        "SUCCEEDED": COUNT - 1,
    }
