"""The whole daemon at a full backlog on a real broker: it pauses and goes on, or rejects and keeps."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from daemon.core.placement import place
from daemon.log.topic_access import read_topic
from daemon.runtime.intake import INTAKE_RECORDS_MAX
from tests.integration.daemon_world import (
    UNHURRIED,
    Published,
    await_dead_letters,
    await_metric,
    await_results,
    change,
    dead_letters,
    good,
    metric,
    publish,
    results,
    wait_until,
)
from tests.sandbox.checker import Limits, check_run
from tests.sandbox.local_http import get
from tests.sandbox.profile import PARTITIONS
from tests.sandbox.stack import Stack

pytestmark = [pytest.mark.endurance, pytest.mark.kafka]


@contextmanager
def away(tmp_path: Path, kafka: str, settings: Mapping[str, str]) -> Iterator[Stack]:
    """A stack whose API answers nothing useful until `come_back`; the daemon is not yet started."""
    with Stack(
        tmp_path,
        faults="none",
        seed=1,
        say=print,
        kafka=kafka,
        task_seconds=0.1,
        settings={**UNHURRIED, **settings},
    ) as stack:
        stack.tell_simulator("outage", b'{"seconds": 3600, "kind": "error"}')
        yield stack


def come_back(stack: Stack) -> None:
    stack.tell_simulator("outage", b'{"seconds": 0, "kind": "error"}')


def partition_of(integration_id: str) -> int:
    return place(integration_id.encode(), PARTITIONS)


def test_a_partition_pauses_at_a_full_backlog_and_goes_on_when_there_is_room(
    tmp_path: Path, kafka_bootstrap: str
) -> None:
    settings = {
        "batch.items_max": "50",
        "window.batches_max": "1",
        "backlog.courses_max": "100",
        "backlog.courses_max_per_integration": "100",
    }
    slow, count = "tool:1", INTAKE_RECORDS_MAX + 5_000
    other = next(f"tool:{n}" for n in range(2, 50) if partition_of(f"tool:{n}") != partition_of(slow))
    with away(tmp_path, kafka_bootstrap, settings) as stack:
        publish(stack, *(good(number, origin_id=f"course-{number % 200}") for number in range(count)))
        stack.start_daemon()
        stack.await_ready()
        wait_until(lambda: metric(stack, "coursesync_changes_waiting") >= 100, "a full backlog")

        # What is published now to another partition is read after whatever else would be.
        publish(stack, good(count, integration_id=other))
        read = f'coursesync_kafka_consumer_lag_records{{partition="{partition_of(other)}"'
        wait_until(
            lambda: read in get(f"{stack.addresses.admin_url}/metrics").decode(),
            "the other partition is read",
        )
        await_metric(stack, 1, "coursesync_partitions_paused")
        assert metric(stack, "coursesync_changes_consumed_total") < count

        come_back(stack)
        ended = await_results(stack, count + 1)
        assert len(ended) == count + 1
        statuses = Counter(data["status"] for data in ended)
        assert statuses.keys() == {"SUCCEEDED", "SUPERSEDED"}
        assert statuses["SUCCEEDED"] >= 201
        assert dead_letters(stack) == []


def test_a_change_without_room_is_rejected_and_kept_as_it_came(tmp_path: Path, kafka_bootstrap: str) -> None:
    settings = {
        "batch.items_max": "5",
        "window.batches_max": "1",
        "backlog.courses_max": "8",
        "backlog.courses_max_per_integration": "5",
        "backlog.on_full": "reject",
    }
    count, room = 60, 5 + 5
    with away(tmp_path, kafka_bootstrap, settings) as stack:
        stack.start_daemon()
        stack.await_ready()
        records = [
            Published(
                b"key of the publisher",
                json.dumps(change(number), indent=3).encode(),
                (("traceparent", b"00-%d" % number), ("note", b""), ("note", b"twice")),
            )
            for number in range(count)
        ]
        publish(stack, *records)
        await_metric(stack, count, "coursesync_changes_consumed_total")

        def end_of_the_last() -> bool:
            """Of those that are rejected, which are told in their order."""
            ended = results(stack)
            told = metric(stack, "coursesync_changes_rejected_total", reason="backlog")
            return len(ended) == told and f"chg-{count - 1}" in {data["change_id"] for data in ended}

        wait_until(end_of_the_last, "the last one is rejected")
        rejected = results(stack)
        assert {data["status"] for data in rejected} == {"REJECTED"}
        assert count - room <= len(rejected) < count

        at = stack.addresses
        by_offset = {
            (record.partition, record.offset): record
            for record in read_topic(at.connection, at.topics.changes)
        }
        letters = {
            (dict(letter.headers)["coursesync-source"] or b"").decode(): letter
            for letter in await_dead_letters(stack, len(rejected))
        }
        assert len(letters) == len(dead_letters(stack)) == len(rejected)
        for data in rejected:
            source = data["change"]
            record = by_offset[source["partition"], source["offset"]]
            sent = json.loads(record.value or b"")
            assert (data["integration_id"], data["origin_id"], data["change_id"]) == (
                sent["integration_id"],
                sent["origin_id"],
                sent["id"],
            )
            assert data["error"]["code"] == "COURSESYNC.BACKLOG_FULL"
            letter = letters[f"{source['topic']}/{source['partition']}/{source['offset']}"]
            assert (letter.key, letter.value) == (record.key, record.value)
            assert letter.headers[-3:] == record.headers
            assert dict(letter.headers)["coursesync-reason"] == b"backlog"

        come_back(stack)
        ended = await_results(stack, count)
        assert Counter(data["status"] for data in ended) == {
            "REJECTED": len(rejected),
            "SUCCEEDED": count - len(rejected),
        }
        verdict = check_run(
            at.connection,
            at.topics.changes,
            at.topics.results,
            at.simulator.url,
            Limits(backlog_rejects=True),
        )
        assert verdict.ok, verdict.violations
