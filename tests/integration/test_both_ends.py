"""Publishing, results, generator and checker on a real broker and a real simulator."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path

import click
import httpx
import msgspec
import pytest
from click.testing import CliRunner
from click.testing import Result as Run
from kafka import KafkaProducer

from daemon.codec.result import encode_result
from daemon.commands.publish import publish
from daemon.commands.results import results
from daemon.core.model import Error, Result, Status
from daemon.log.errors import LogError
from daemon.log.kafka.admin import NewTopic, create_topics
from daemon.log.kafka.clients import Clients, KafkaConnection
from daemon.log.port import Topics
from daemon.log.topic_access import Publisher, Since, read_topic
from tests.integration.daemon_world import DEADLINE, wait_until
from tests.sandbox.checker import EvidenceError, TaskStatus, content_digest
from tests.sandbox.checker.command import check
from tests.sandbox.checker.readers import read_lms, read_tasks
from tests.sandbox.generator import Plan, generate_records, publish_records, publisher
from tests.sandbox.generator.command import generate
from tests.sandbox.simulator.faults import NONE
from tests.sandbox.simulator.server import listening
from tests.sandbox.simulator.state import Simulator

pytestmark = pytest.mark.kafka

PARTITIONS = 3


@pytest.fixture
def connection(kafka_bootstrap: str) -> KafkaConnection:
    return KafkaConnection((kafka_bootstrap,))


@pytest.fixture
def topics(connection: KafkaConnection, topic_names: Topics) -> Topics:
    names = (topic_names.changes, topic_names.journal, topic_names.results)
    with Clients(connection).admin() as admin:
        create_topics(admin, [NewTopic(name, PARTITIONS, 1) for name in names])
    return topic_names


def run(command: click.Command, *arguments: str, stdin: bytes | None = None) -> Run:
    return CliRunner().invoke(command, arguments, input=stdin, env={"COURSESYNC_CONFIG": None})


def change_line(number: int, integration_id: str = "workday:a") -> bytes:
    course = {"type": "EXTERNAL", "title": f"Title {number}", "course_url": "https://example.com"}
    change = {
        "id": f"chg-{number}",
        "type": "course.upserted",
        "integration_id": integration_id,
        "origin_id": f"c{number}",
        "course": course,
    }
    return json.dumps(change).encode()


def result_of(offset: int, status: Status, integration_id: str = "workday:a", **more: object) -> Result:
    return Result(
        offset=offset,
        status=status,
        integration_id=integration_id,
        origin_id=f"c{offset}",
        change_id=f"chg-{offset}",
        consumed_at=1_700_000_000_000,
        resolved_at=1_700_000_001_000,
        change_type=None if status is Status.REJECTED else "course.upserted",
        **more,  # type: ignore[arg-type]
    )


def write_results(connection: KafkaConnection, topics: Topics, *ended: Result, partition: int = 0) -> None:
    with Publisher(connection, topics.results) as publisher:
        for result in ended:
            publisher.send(
                *encode_result(result, partition, changes_topic=topics.changes, journal_topic=topics.journal)
            )


# --- publish --------------------------------------------------------------------------------------


def test_publish_sends_lines_as_they_are_and_keeps_an_integration_in_order(
    connection: KafkaConnection, topics: Topics, kafka_bootstrap: str, tmp_path: Path
) -> None:
    lines = [change_line(n, f"workday:{n % 4}") for n in range(200)]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines[:100]) + b"\n\n")
    (tmp_path / "b.jsonl").write_bytes(b"\r\n".join(lines[100:]))
    files = [str(tmp_path / name) for name in ("a.jsonl", "b.jsonl")]
    done = run(publish, *files, "--bootstrap-servers", kafka_bootstrap, "--topic", topics.changes)
    assert done.exit_code == 0, done.output
    assert "200 changes published" in done.stdout
    records = list(read_topic(connection, topics.changes))
    assert sorted(record.value or b"" for record in records) == sorted(lines)
    for integration in range(4):
        key = f"workday:{integration}".encode()
        of_key = [record for record in records if record.key == key]
        assert len({record.partition for record in of_key}) == 1
        assert [record.value for record in of_key] == lines[integration::4]


def test_publish_without_the_topic_says_how_to_make_it(kafka_bootstrap: str) -> None:
    done = run(publish, "--bootstrap-servers", kafka_bootstrap, "--topic", "not-there", stdin=change_line(0))
    assert done.exit_code == 1
    assert "no topic not-there" in done.stderr
    assert "coursesyncd topics create" in done.stderr


def test_a_record_that_the_topic_refuses_is_an_error(connection: KafkaConnection, topics: Topics) -> None:
    def send_both() -> None:
        with Publisher(connection, topics.changes) as publisher:
            publisher.send(b"k", b"fits")
            publisher.send(b"k", random.Random(1).randbytes(3_000_000))

    with pytest.raises(LogError, match="did not take a record"):
        send_both()
    assert [record.value for record in read_topic(connection, topics.changes)] == [b"fits"]


# --- results --------------------------------------------------------------------------------------


@pytest.fixture
def some_results(connection: KafkaConnection, topics: Topics) -> Topics:
    write_results(
        connection,
        topics,
        result_of(0, Status.SUCCEEDED, task_id="T", course_id="K1"),
        result_of(1, Status.FAILED, "workday:b", error=Error("LMS.NO", "two\nlines \x1b[2J")),
        result_of(2, Status.SUPERSEDED, superseded_by=3),
    )
    return topics


def test_results_as_a_table(some_results: Topics, kafka_bootstrap: str) -> None:
    done = run(results, "--bootstrap-servers", kafka_bootstrap, "--topic", some_results.results)
    assert done.exit_code == 0, done.output
    heading, *rows, summary = done.stdout.splitlines()
    assert heading.split() == [
        *("RESOLVED", "(UTC)", "STATUS", "CHANGE", "CHANGE", "ID", "INTEGRATION", "COURSE", "DETAIL")
    ]
    assert len(rows) == 3
    assert [row.split()[:7] for row in sorted(rows, key=lambda row: row.split()[3])] == [
        ["2023-11-14", "22:13:21", "SUCCEEDED", "0/0", "chg-0", "workday:a", "c0"],
        ["2023-11-14", "22:13:21", "FAILED", "0/1", "chg-1", "workday:b", "c1"],
        ["2023-11-14", "22:13:21", "SUPERSEDED", "0/2", "chg-2", "workday:a", "c2"],
    ]
    assert "LMS.NO: two lines" in done.stdout
    assert "by 0/3" in done.stdout
    assert "\x1b" not in done.stdout
    assert summary == "3 results: 1 SUCCEEDED, 1 FAILED, 1 SUPERSEDED."


def test_results_as_json_and_filtered(some_results: Topics, kafka_bootstrap: str) -> None:
    def shown(*options: str) -> set[int]:
        arguments = ("--bootstrap-servers", kafka_bootstrap, "--topic", some_results.results, "--json")
        done = run(results, *arguments, *options)
        assert done.exit_code == 0, done.output
        return {json.loads(line)["data"]["change"]["offset"] for line in done.stdout.splitlines()}

    assert shown() == {0, 1, 2}
    assert shown("--status", "failed", "--status", "SUPERSEDED") == {1, 2}
    assert shown("--integration", "workday:a") == {0, 2}
    assert shown("--integration", "workday:a", "--status", "FAILED") == set()
    assert shown("--integration", "workday:*", "--code", "LMS.*") == {1}
    assert shown("--course", "c2", "--course", "c0") == {0, 2}
    assert shown("--change-id", "chg-1") == {1}
    assert shown("--since", "2023-11-14T22:13:21Z") == {0, 1, 2}
    assert shown("--since", "2023-11-14T23:13:21+01:00", "--status", "failed") == {1}
    assert shown("--since", "2023-11-14T22:13:21.001Z") == set()


def test_since_begins_at_the_first_record_of_that_time(
    connection: KafkaConnection, some_results: Topics, kafka_bootstrap: str
) -> None:
    """What was stamped before is not even read."""
    last = max(read_topic(connection, some_results.results), key=lambda record: record.timestamp)
    read = list(read_topic(connection, some_results.results, start=Since(last.timestamp)))
    assert last in read
    assert all(record.timestamp >= last.timestamp for record in read)
    assert list(read_topic(connection, some_results.results, start=Since(last.timestamp + 3_600_000))) == []
    for wrong, why in (("yesterday", "neither a duration"), ("2027-01-15T08:00", "no time zone")):
        done = run(results, "--bootstrap-servers", kafka_bootstrap, "--since", wrong)
        assert done.exit_code == 2
        assert why in done.stderr


def test_what_is_null_is_a_dash(connection: KafkaConnection, topics: Topics, kafka_bootstrap: str) -> None:
    write_results(
        connection,
        topics,
        msgspec.structs.replace(
            result_of(5, Status.REJECTED, error=Error(None, "no JSON")),
            integration_id=None,
            origin_id=None,
            change_id=None,
        ),
        result_of(6, Status.UNCHANGED),
    )
    done = run(results, "--bootstrap-servers", kafka_bootstrap, "--topic", topics.results)
    rejected, unchanged = sorted(row.split() for row in done.stdout.splitlines()[1:-1])
    assert rejected[3:] == ["0/5", "-", "-", "-", "no", "code:", "no", "JSON"]
    assert unchanged[-1] == "-"


def test_results_are_read_committed(
    connection: KafkaConnection, some_results: Topics, kafka_bootstrap: str
) -> None:
    """A result of an aborted transaction never was; one after it is still shown."""
    producer: KafkaProducer = Clients(connection).producer(some_results.journal)
    try:
        producer.init_transactions()
        for offset, commit in ((7, False), (8, True)):
            producer.begin_transaction()
            key, value, headers = encode_result(
                result_of(offset, Status.SUCCEEDED), 0, changes_topic="c", journal_topic="j"
            )
            producer.send(some_results.results, key=key, value=value, headers=list(headers)).get(DEADLINE)
            producer.commit_transaction() if commit else producer.abort_transaction()
    finally:
        producer.close(timeout=5)

    def shown() -> Run:
        return run(results, "--bootstrap-servers", kafka_bootstrap, "--topic", some_results.results)

    def with_the_result() -> Run | None:
        done = shown()
        return done if "0/8" in done.stdout else None

    # The broker answers a commit before readers can see it.
    done = wait_until(with_the_result, "the result")
    assert done.exit_code == 0
    assert "0/7" not in done.stdout
    assert "4 results" in done.stdout


def test_results_tells_a_foreign_record_and_goes_on(
    connection: KafkaConnection, some_results: Topics, kafka_bootstrap: str
) -> None:
    with Publisher(connection, some_results.results) as publisher:
        publisher.send(None, b"hello")
    done = run(results, "--bootstrap-servers", kafka_bootstrap, "--topic", some_results.results)
    assert done.exit_code == 0
    assert "is not a result" in done.stderr
    assert "3 results" in done.stdout


def test_follow_shows_what_comes_later(connection: KafkaConnection, some_results: Topics) -> None:
    old_and_new = read_topic(connection, some_results.results, follow=True)
    assert {next(old_and_new).value for _ in range(3)} == {
        record.value for record in read_topic(connection, some_results.results)
    }
    write_results(connection, some_results, result_of(9, Status.FAILED))
    assert json.loads(next(old_and_new).value or b"")["data"]["change"]["offset"] == 9
    old_and_new.close()


def test_from_the_end_needs_follow(kafka_bootstrap: str) -> None:
    done = run(results, "--bootstrap-servers", kafka_bootstrap, "--from", "end")
    assert done.exit_code == 2
    assert "--follow" in done.stderr


# --- generator and checker ------------------------------------------------------------------------


def test_generated_records_reach_the_topic_the_oversized_ones_too(
    connection: KafkaConnection, topics: Topics, kafka_bootstrap: str
) -> None:
    done = run(
        generate,
        *("--bootstrap-servers", kafka_bootstrap, "--topic", topics.changes),
        *("--changes", "400", "--invalid", "0.2", "--seed", "5"),
    )
    assert done.exit_code == 0, done.output
    assert "400 records sent" in done.stdout
    assert "oversized" in done.stdout
    expected = list(generate_records(Plan(changes=400, invalid_share=0.2, seed=5)))
    records = list(read_topic(connection, topics.changes))
    assert len(records) == 400
    assert max(len(record.value or b"") for record in records) > 5_000_000
    assert {record.key for record in records} == {record.key for record in expected}
    for key in {record.key for record in records}:
        assert len({record.partition for record in records if record.key == key}) == 1


class Sleeping:
    """A clock on which nothing takes time but to sleep."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_the_rate_is_kept(
    connection: KafkaConnection, topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last record is due 0.5 s after the first."""
    told: list[int] = []
    clock = Sleeping()
    monkeypatch.setattr(publisher, "time", clock)
    plan = Plan(changes=101, invalid_share=0)
    sent = publish_records(
        generate_records(plan), connection, topics.changes, rate=200.0, on_sent=told.append
    )
    assert clock.now == pytest.approx(1000.5, abs=0.01)
    assert sent == told[-1] == 101
    assert told == sorted(told)
    assert len(told) > 10


@pytest.fixture
async def simulator() -> AsyncIterator[str]:
    state = Simulator(
        rng=random.Random(1), now=time.time_ns() // 1_000_000, api_key="k", plan=NONE, task_seconds=0
    )
    async with listening(state) as url:
        yield url


async def submit(url: str, *lines: bytes) -> str:
    """The task of these changes, submitted as one batch."""
    items = [
        {"origin_id": change["origin_id"], "course": change["course"]} for change in map(json.loads, lines)
    ]
    headers = {"Authorization": "Bearer k", "X-Integration-Id": "workday:a"}
    async with httpx.AsyncClient(headers=headers) as client:
        answer = await client.post(f"{url}/v1/lms/courses/bulk", json={"items": items})
        task_id: str = answer.json()["data"]["task_id"]
        await client.get(f"{url}/v1/lms/courses/bulk/{task_id}")
    return task_id


async def test_the_simulators_account_is_read(simulator: str) -> None:
    task_id = await submit(simulator, change_line(0), change_line(1))
    (task,) = await asyncio.to_thread(lambda: list(read_tasks(simulator)))
    assert task.task_id == task_id
    assert task.status is TaskStatus.COMPLETED
    assert task.completed_at is not None
    assert [(item.origin_id, item.succeeded, item.applied) for item in task.items] == [
        ("c0", True, True),
        ("c1", True, True),
    ]
    held = await asyncio.to_thread(lambda: list(read_lms(simulator)))
    course = json.loads(change_line(1))["course"]
    found = {(each.integration_id, each.origin_id): each for each in held}["workday:a", "c1"]
    assert (found.digest, found.task_id, found.is_active) == (content_digest(course), task_id, True)


async def test_check_passes_a_good_run_and_catches_what_is_missing_or_wrong(
    connection: KafkaConnection, topics: Topics, kafka_bootstrap: str, simulator: str
) -> None:
    def checked(*options: str) -> Run:
        return run(
            check,
            *("--bootstrap-servers", kafka_bootstrap, "--simulator", simulator),
            *("--changes-topic", topics.changes, "--results-topic", topics.results, *options),
        )

    lines = [change_line(n) for n in range(2)]
    task_id = await submit(simulator, *lines)

    def publish_all() -> int:
        with Publisher(connection, topics.changes) as publisher:
            for line in lines:
                publisher.send(b"workday:a", line)
        return next(read_topic(connection, topics.changes)).partition

    partition = await asyncio.to_thread(publish_all)
    good = [result_of(n, Status.SUCCEEDED, task_id=task_id, attempts=1) for n in range(2)]
    await asyncio.to_thread(lambda: write_results(connection, topics, good[0], partition=partition))
    done = await asyncio.to_thread(checked, "--json")
    assert done.exit_code == 1
    told = json.loads(done.stdout)
    assert (told["changes"], told["lost"], told["ok"]) == (2, 1, False)
    assert told["violations"] == [f"lost: {topics.changes}/{partition}/1 has no result"]

    await asyncio.to_thread(lambda: write_results(connection, topics, good[1], partition=partition))
    done = await asyncio.to_thread(checked)
    assert done.exit_code == 0, done.output
    assert "The contract was kept." in done.stdout

    await submit(
        simulator, json.dumps(json.loads(lines[1]) | {"course": json.loads(lines[0])["course"]}).encode()
    )
    done = await asyncio.to_thread(checked)
    assert done.exit_code == 1
    assert "unconverged: " in done.stdout
    assert "unasked: " in done.stdout
    assert "The contract was broken." in done.stdout


def test_check_without_simulator_or_broker_is_no_verdict(kafka_bootstrap: str, topics: Topics) -> None:
    nobody = "http://127.0.0.1:1"
    with pytest.raises(EvidenceError, match="cannot be asked"):
        list(read_tasks(nobody))
    done = run(
        check,
        *("--bootstrap-servers", kafka_bootstrap, "--simulator", nobody),
        *("--changes-topic", topics.changes, "--results-topic", topics.results),
    )
    assert done.exit_code == 3
    assert "simulator cannot be asked" in done.stderr
