"""A publisher's deploy writes something else: the whole daemon on a real broker stops, is killed, and is told to go on."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from daemon.config import InputSettings
from daemon.core.placement import place
from tests.integration.daemon_world import (
    DEADLINE,
    UNHURRIED,
    Published,
    await_metric,
    await_results,
    dead_letters,
    good,
    log_lines,
    probe,
    publish,
    wait_until,
)
from tests.sandbox.checker import Limits, check_run
from tests.sandbox.profile import PARTITIONS
from tests.sandbox.stack import Stack

pytestmark = [pytest.mark.endurance, pytest.mark.kafka]

COURSESYNCD = str(Path(sys.executable).with_name("coursesyncd"))
LIMIT = InputSettings().rejected_max
WRONG = 3 * LIMIT


def avro(number: int) -> Published:
    """As the serializer of a schema registry writes it."""
    key, value, headers = good(number)
    return Published(key, b"\0\0\0\0\x07" + (value or b""), headers)


def coursesyncd(stack: Stack, *words: str) -> str:
    done = subprocess.run(
        [COURSESYNCD, *words],
        env=stack.environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def blocked(stack: Stack, partition: int) -> str:
    def reason() -> str | None:
        _, state = probe(stack.addresses.admin_url, "state")
        held = state.get("partitions", {}).get(str(partition), {})
        return held.get("reason") if held.get("state") == "blocked" else None

    return wait_until(reason, f"partition {partition} is blocked")


def test_a_topic_in_another_format_is_not_emptied_into_the_dead_letters(
    tmp_path: Path, kafka_bootstrap: str
) -> None:
    partition = place(b"tool:1", PARTITIONS)
    other = next(f"tool:{n}" for n in range(2, 50) if place(f"tool:{n}".encode(), PARTITIONS) != partition)
    with Stack(
        tmp_path,
        faults="none",
        seed=1,
        say=print,
        kafka=kafka_bootstrap,
        task_seconds=0.2,
        settings=UNHURRIED,
    ) as stack:
        stack.start_daemon()
        stack.await_ready()
        publish(stack, *map(good, range(3)), *map(avro, range(3, 3 + WRONG)), *map(good, range(5000, 5005)))
        sentence = blocked(stack, partition)
        assert f"{LIMIT} of the {LIMIT} records" in sentence
        assert "COURSESYNC.RECORD_MALFORMED" in sentence
        await_metric(stack, 1, "coursesync_partitions_stopped")
        await_metric(stack, 1, "coursesync_partitions_blocked")
        publish(stack, good(1, integration_id=other))
        assert Counter(data["status"] for data in await_results(stack, 3 + LIMIT + 1)) == {
            "SUCCEEDED": 4,
            "REJECTED": LIMIT,
        }

        for _ in range(2):
            stack.kill_daemon()
            stack.start_daemon()
            stack.await_ready()
            assert blocked(stack, partition) == sentence
        assert len(dead_letters(stack)) == LIMIT, "no restart has rejected any more of them"
        assert len(log_lines(stack, "partition.blocked")) == 3

        (command,) = re.findall(r"`coursesyncd (reject [^`]*)`", sentence)
        shown = coursesyncd(stack, *command.split(), "--dry-run")
        assert f"allow     up to {2 * LIMIT + 5} records" in shown
        assert "Nothing was changed" in shown
        assert "Done: " in coursesyncd(stack, *command.split(), "--yes")
        ended = await_results(stack, 3 + WRONG + 5 + 1)
        assert Counter(data["status"] for data in ended) == {"SUCCEEDED": 9, "REJECTED": WRONG}
        assert len(dead_letters(stack)) == WRONG
        await_metric(stack, 0, "coursesync_partitions_stopped")
        await_metric(stack, 0, "coursesync_partitions_blocked")
        at = stack.addresses
        verdict = check_run(at.connection, at.topics.changes, at.topics.results, at.simulator.url, Limits())
        assert verdict.ok, verdict.violations
