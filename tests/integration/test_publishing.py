"""Publishers of other clients: the examples of docs/publishing.md as they stand there, and clients that disagree about the
partition of a key.
"""

from __future__ import annotations

import json
import subprocess
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer
from kafka import KafkaConsumer, KafkaProducer

from daemon.core.placement import place
from daemon.log.topic_access import read_topic
from tests.integration.daemon_world import (
    UNHURRIED,
    await_metric,
    await_results,
    change,
    good,
    log_lines,
    metric,
    publish,
    results,
)
from tests.sandbox.checker.readers import check_run
from tests.sandbox.profile import PARTITIONS, check_limits
from tests.sandbox.stack import Stack
from tests.unit.test_readme import fenced

pytestmark = pytest.mark.kafka

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "publishing.md"
KAFKA_PYTHON, CONFLUENT = "from kafka import", "from confluent_kafka import"
INTEGRATIONS = [f"tool:{number}" for number in range(12)]
MISPLACED = "coursesync_input_misplaced_records_total"


CLIENTS: list[KafkaProducer | KafkaConsumer | Consumer] = []
"""Those of the guide's examples, which keep them for as long as their process lives."""


@pytest.fixture(autouse=True)
def clients_are_closed() -> Iterator[None]:
    """Or they would complain into the tests that follow."""
    yield
    while CLIENTS:
        CLIENTS.pop().close()


@contextmanager
def running(directory: Path, kafka: str, settings: Mapping[str, str] = {}) -> Iterator[Stack]:
    """A daemon that is ready."""
    with Stack(
        directory,
        faults="none",
        seed=1,
        say=print,
        kafka=kafka,
        task_seconds=0.2,
        settings={**UNHURRIED, **settings},
    ) as stack:
        stack.start_daemon()
        stack.await_ready()
        yield stack


def example(stack: Stack, client: str, function: str) -> Any:
    """The function that the guide's example for this client defines, with the addresses of this stack."""
    (source,) = (
        block
        for block in fenced(GUIDE.read_text(encoding="utf-8"), "python")
        if client in block and f"def {function}(" in block
    )
    at = stack.addresses
    for theirs, ours in (
        ("localhost:9092", at.bootstrap),
        ("course-changes", at.topics.changes),
        ("course-sync-results", at.topics.results),
        ("catalogue-service", f"{at.group}-{client.split()[1]}"),
    ):
        source = source.replace(f'"{theirs}"', f'"{ours}"')
    namespace: dict[str, Any] = {}
    exec(compile(source, str(GUIDE), "exec"), namespace)
    CLIENTS.extend(
        found for found in namespace.values() if isinstance(found, (KafkaProducer, KafkaConsumer, Consumer))
    )
    return namespace[function]


def courses(title: str, first: int = 0) -> list[dict[str, Any]]:
    """One change of one course of each integration."""
    return [
        change(
            first + number,
            integration_id=integration_id,
            origin_id="course",
            course={"type": "EXTERNAL", "title": title, "course_url": "https://example.com/c"},
        )
        for number, integration_id in enumerate(INTEGRATIONS)
    ]


def publish_with_librdkafka(
    stack: Stack,
    changes: list[dict[str, Any]],
    key: Callable[[dict[str, Any]], bytes | None],
    **settings: str,
) -> None:
    """Another partitioner than that of the guide: by default librdkafka's own."""
    producer = Producer(
        {"bootstrap.servers": stack.addresses.bootstrap, "enable.idempotence": True, **settings}
    )
    for each in changes:
        producer.produce(stack.addresses.topics.changes, key=key(each), value=json.dumps(each).encode())
    assert producer.flush(60) == 0


def by_integration(each: dict[str, Any]) -> bytes:
    return str(each["integration_id"]).encode()


def checked(stack: Stack) -> str:
    """What `coursesyncd check` says. It may find other things to be advised."""
    found = subprocess.run(
        [ROOT / ".venv" / "bin" / "coursesyncd", "check"],
        env=stack.environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout


class EnoughError(Exception):
    """Ends the endless loop of a consumer."""


def read_with(follow: Any, count: int) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []

    def handle(event: dict[str, Any]) -> None:
        events.append(event)
        if len(events) == count:
            raise EnoughError

    with pytest.raises(EnoughError):
        follow(handle)
    return events


def test_the_publishers_of_the_guide_agree_and_its_readers_read_all_results(
    tmp_path: Path, kafka_bootstrap: str
) -> None:
    """OLD by one client, NEW by the other, and the other way round: every course ends NEW."""
    with running(tmp_path, kafka_bootstrap) as stack:
        at = stack.addresses
        first, second = (example(stack, client, "publish") for client in (KAFKA_PYTHON, CONFLUENT))
        half = len(INTEGRATIONS) // 2
        old, new = courses("OLD"), courses("NEW", 100)
        first(old[:half])
        second(old[half:])
        second(new[:half])
        first(new[half:])
        await_results(stack, 2 * len(INTEGRATIONS))
        verdict = check_run(
            at.connection, at.topics.changes, at.topics.results, at.simulator.url, check_limits()
        )
        assert verdict.ok, [violation.line for violation in verdict.first(10)]
        assert verdict.spread_courses == 0
        assert metric(stack, MISPLACED) == 0
        assert (
            f"{at.topics.changes}: the last {2 * len(INTEGRATIONS)} changes are in their partitions"
            in checked(stack)
        )
        events = [
            read_with(example(stack, client, "follow"), 2 * len(INTEGRATIONS))
            for client in (KAFKA_PYTHON, CONFLUENT)
        ]
        ids = [sorted(event["id"] for event in each) for each in events]
        assert ids[0] == ids[1]
        assert len(set(ids[0])) == 2 * len(INTEGRATIONS)


def test_a_second_partitioner_is_noticed(tmp_path: Path, kafka_bootstrap: str) -> None:
    moved = [
        each
        for each in INTEGRATIONS
        if place(each.encode(), PARTITIONS) != zlib.crc32(each.encode()) % PARTITIONS
    ]
    assert len(moved) > 5
    with running(tmp_path, kafka_bootstrap) as stack:
        example(stack, KAFKA_PYTHON, "publish")(courses("OLD"))
        await_results(stack, len(INTEGRATIONS))
        assert metric(stack, MISPLACED) == 0
        publish_with_librdkafka(stack, courses("NEW", 100), by_integration)
        await_results(stack, 2 * len(INTEGRATIONS))
        await_metric(stack, len(moved), MISPLACED, reason="other_partition")
        assert metric(stack, MISPLACED, reason="no_key") == 0
        lines = log_lines(stack, "input.misplaced")
        assert len({line["partition"] for line in lines}) == len(lines), "once for each partition"
        records = {
            (record.partition, record.offset): record.key
            for record in read_topic(stack.addresses.connection, stack.addresses.topics.changes)
        }
        for line in lines:
            key = records[line["partition"], line["offset"]]
            assert key is not None
            assert line["expected_partition"] == place(key, PARTITIONS) != line["partition"]
        said = checked(stack)
        assert f"{len(moved)} courses have changes in several partitions" in said
        assert f"course of {moved[0]} in " in said
        assert "not in the partition that murmur2 gives to their key" in said
        assert "partitioner=murmur2_random" in said


def test_records_without_a_key_are_noticed(tmp_path: Path, kafka_bootstrap: str) -> None:
    with running(tmp_path, kafka_bootstrap) as stack:
        publish_with_librdkafka(stack, courses("A"), lambda _: None, partitioner="murmur2_random")
        await_results(stack, len(INTEGRATIONS))
        await_metric(stack, len(INTEGRATIONS), MISPLACED, reason="no_key")
        assert metric(stack, MISPLACED, reason="other_partition") == 0
        assert f"{len(INTEGRATIONS)} of the last {len(INTEGRATIONS)} changes have no key" in checked(stack)


def test_keys_that_differ_between_the_changes_of_a_course_are_noticed_by_check(
    tmp_path: Path, kafka_bootstrap: str
) -> None:
    """Each record is where its key belongs. Only together they are wrong."""
    with running(tmp_path, kafka_bootstrap) as stack:
        changes = [change(number, origin_id="course") for number in range(30)]
        publish_with_librdkafka(
            stack, changes, lambda each: each["id"].encode(), partitioner="murmur2_random"
        )
        await_results(stack, 30)
        assert metric(stack, MISPLACED) == 0
        said = checked(stack)
        assert (
            "1 course has changes in several partitions (of the last 30 changes): course of tool:1 in 0, 1, 2"
            in said
        )


def test_crc32_for_all_is_as_good(tmp_path: Path, kafka_bootstrap: str) -> None:
    """`coursesyncd publish` follows the setting."""
    with running(tmp_path, kafka_bootstrap, {"input.partitioner": "crc32"}) as stack:
        at = stack.addresses
        publish_with_librdkafka(stack, courses("OLD"), by_integration)
        lines = "".join(json.dumps(each) + "\n" for each in courses("NEW", 100))
        subprocess.run(
            [ROOT / ".venv" / "bin" / "coursesyncd", "publish"],
            env=stack.environment,
            input=lines,
            text=True,
            timeout=120,
            check=True,
        )
        await_results(stack, 2 * len(INTEGRATIONS))
        assert metric(stack, MISPLACED) == 0
        verdict = check_run(
            at.connection, at.topics.changes, at.topics.results, at.simulator.url, check_limits()
        )
        assert verdict.ok
        assert verdict.spread_courses == 0
        assert "are in their partitions" in checked(stack)
        # One that follows the guide would now be the second.
        example(stack, CONFLUENT, "publish")(courses("NEWER", 200))
        await_results(stack, 3 * len(INTEGRATIONS))
        assert metric(stack, MISPLACED, reason="other_partition") > 5


def test_crc32_for_all_and_not_set_is_advised_to_be_set(tmp_path: Path, kafka_bootstrap: str) -> None:
    with running(tmp_path, kafka_bootstrap) as stack:
        publish_with_librdkafka(stack, courses("A"), by_integration)
        await_results(stack, len(INTEGRATIONS))
        said = checked(stack)
        assert "all of them fit crc32: set input.partitioner=crc32" in said
        assert "courses have" not in said


def test_partitions_of_ones_own_raise_no_alarm_with_any(tmp_path: Path, kafka_bootstrap: str) -> None:
    with running(tmp_path, kafka_bootstrap, {"input.partitioner": "any"}) as stack:
        publish_with_librdkafka(stack, courses("A"), by_integration, partitioner="fnv1a_random")
        await_results(stack, len(INTEGRATIONS))
        assert metric(stack, MISPLACED) == 0
        assert log_lines(stack, "input.misplaced") == []
        assert "are in their partitions" in checked(stack)


def test_an_invalid_record_without_a_key_is_rejected_and_not_misplaced(
    tmp_path: Path, kafka_bootstrap: str
) -> None:
    with running(tmp_path, kafka_bootstrap) as stack:
        publish(stack, good(1)._replace(key=None, value=b"{}"))
        assert [each["status"] for each in await_results(stack, 1)] == ["REJECTED"]
        assert metric(stack, MISPLACED) == 0
        assert len(results(stack)) == 1
