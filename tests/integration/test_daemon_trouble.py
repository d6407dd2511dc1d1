"""Bad input and trouble around the daemon: what a user sees, and how it goes on."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from kafka import KafkaAdminClient

from daemon.log.kafka.admin import partition_count
from daemon.log.kafka.clients import Clients
from daemon.log.port import Topics
from daemon.log.topic_access import read_topic
from tests.integration.daemon_world import (
    DEADLINE,
    UNHURRIED,
    Published,
    await_dead_letters,
    await_metric,
    await_results,
    change,
    dead_letters,
    good,
    log_lines,
    metric,
    probe,
    publish,
    results,
    tasks,
    wait_until,
)
from tests.sandbox.broker import Broker
from tests.sandbox.generator.invalid import InvalidKind, spoil
from tests.sandbox.local_http import get
from tests.sandbox.profile import PARTITIONS
from tests.sandbox.stack import API_KEY, Stack

COURSESYNCD = str(Path(sys.executable).with_name("coursesyncd"))

pytestmark = [pytest.mark.endurance, pytest.mark.kafka]


@pytest.fixture
def stack(tmp_path: Path, kafka_bootstrap: str) -> Iterator[Stack]:
    """Topics of its own, a well-behaved API, and a daemon that is not yet started."""
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


def coursesyncd(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COURSESYNCD, *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )


# --- bad input ------------------------------------------------------------------------------------

TOLD = {
    InvalidKind.TRUNCATED_JSON: "not JSON",
    InvalidKind.NOT_JSON: "not JSON",
    InvalidKind.CONFLUENT_FRAMED: "Confluent",
    InvalidKind.INVALID_UTF8: "not valid UTF-8",
    InvalidKind.DEEP_NESTING: "nested too deep",
    InvalidKind.TOMBSTONE: "tombstone",
    InvalidKind.EMPTY_VALUE: "empty",
    InvalidKind.OVERSIZED: "batch.bytes_max",
    InvalidKind.MISSING_ID: "id: missing",
    InvalidKind.EMPTY_ORIGIN: "origin_id",
    InvalidKind.INTEGRATION_NEWLINE: "no spaces",
    InvalidKind.TITLE_TWICE: "course.title: occurs more than once",
    InvalidKind.TITLE_NUMBER: "course.title: found 7",
    InvalidKind.DURATION_ZERO: "course.duration: found 0",
    InvalidKind.COURSE_ID_EMPTY: 'course_id: found ""',
}
"""Part of what is said about it; of all others, what was expected. The words are tested with the decoder."""


def test_each_kind_of_bad_record_is_rejected_once_and_kept_and_the_next_change_succeeds(stack: Stack) -> None:
    stack.start_daemon()
    stack.await_ready()
    bad = {kind: Published(*spoil(kind, change(n))) for n, kind in enumerate(InvalidKind)}
    publish(stack, *bad.values(), good(900))

    ended = await_results(stack, len(bad) + 1)

    assert len(ended) == len(bad) + 1
    at = stack.addresses
    offsets = {
        (record.key, record.value, record.headers): record.offset
        for record in read_topic(at.connection, at.topics.changes)
    }
    by_offset = {data["change"]["offset"]: data for data in ended}
    last = by_offset.pop(max(by_offset))
    assert (last["status"], last["change_id"]) == ("SUCCEEDED", "chg-900")
    letters = {letter.headers[0]: letter for letter in await_dead_letters(stack, len(bad))}
    assert len(letters) == len(dead_letters(stack)) == len(bad)
    for kind, record in bad.items():
        offset = offsets[record]
        told = by_offset.pop(offset)
        assert told["status"] == "REJECTED"
        assert told["error"]["code"].startswith("COURSESYNC.")
        assert TOLD.get(kind, "expected") in told["error"]["message"]
        letter = letters[
            "coursesync-source", f"{at.topics.changes}/{told['change']['partition']}/{offset}".encode()
        ]
        headers = {name: content or b"" for name, content in letter.headers}
        assert headers["coursesync-error-message"].decode() == told["error"]["message"]
        assert headers["coursesync-error-code"].decode() == told["error"]["code"]
        assert headers["coursesync-reason"]
        assert letter.key == record.key
        assert letter.headers[len(letter.headers) - len(record.headers) :] == record.headers
        if kind is not InvalidKind.OVERSIZED:
            assert letter.value == record.value
            continue
        assert letter.value
        assert record.value
        assert len(record.value) > 5_000_000
        assert len(letter.value) < 1_000_000
        assert record.value.startswith(letter.value)
        assert headers["coursesync-value-size"] == str(len(record.value)).encode()
        assert headers["coursesync-value-sha256"] == hashlib.sha256(record.value).hexdigest().encode()
    assert by_offset == {}
    await_metric(stack, len(bad), "coursesync_changes_rejected_total")
    await_metric(stack, 1, "coursesync_changes_rejected_total", reason="oversized")
    await_metric(stack, len(bad) + 1, "coursesync_changes_consumed_total")
    await_metric(stack, len(bad), "coursesync_results_total", status="REJECTED")
    assert len(tasks(stack)) == 1


def test_unknown_fields_are_allowed_and_stay_out_of_the_call(stack: Stack) -> None:
    stack.start_daemon()
    stack.await_ready()
    sent = change(1, urgency="high", tags=["a"])
    course: dict[str, Any] = sent["course"] | {"internal_note": "not for the API", "skills": [{"id": 1}]}
    publish(stack, good(1, urgency="high", tags=["a"], course=course))

    assert [data["status"] for data in await_results(stack, 1)] == ["SUCCEEDED"]
    [task] = tasks(stack)
    [item] = task["items"]
    assert item["origin_id"] == "course-1"
    assert {name: value for name, value in item["course"].items() if value is not None} == sent["course"]


# --- the key --------------------------------------------------------------------------------------


def test_a_refused_key_ends_no_change_and_the_right_one_in_the_file_goes_on(stack: Stack) -> None:
    stack.tell_simulator("key", b'{"api_key": "the-right-key-1234"}')
    stack.start_daemon()
    stack.await_ready()
    publish(stack, *(good(number) for number in range(5)))
    admin = stack.addresses.admin_url

    wait_until(
        lambda: "PLATFORM.AUTHENTICATION_INVALID" in str(probe(admin, "readyz")[1].get("reasons")),
        "the reason",
    )
    assert probe(admin, "readyz")[0] == 503
    assert probe(admin, "livez")[0] == 200
    assert probe(admin, "startupz")[0] == 200
    [halted] = log_lines(stack, "api.halted")
    assert halted["level"] == "error"
    assert "the right API key" in halted["action"]
    assert metric(stack, "coursesync_lifecycle_state", state="halted") == 1

    stack.api_key_file.write_text("two words\n")
    wait_until(lambda: log_lines(stack, "api.key_unusable"), "what is wrong with the file")
    assert results(stack) == []

    stack.api_key_file.write_text("the-right-key-1234\n")

    ended = await_results(stack, 5)
    assert [data["status"] for data in ended] == ["SUCCEEDED"] * 5
    assert wait_until(lambda: probe(admin, "readyz")[0] == 200, "ready again")
    assert log_lines(stack, "api.resumed")
    shown = stack.daemon.log.read_text() + get(f"{admin}/metrics").decode() + get(f"{admin}/state").decode()
    for secret in ("the-right-key-1234", "two words", API_KEY):
        assert secret not in shown


# --- Kafka ----------------------------------------------------------------------------------------


def test_a_broker_that_is_away_is_waited_for_and_holds_up_no_end(own_broker: Broker, tmp_path: Path) -> None:
    with Stack(
        tmp_path, faults="none", seed=1, say=print, kafka=own_broker.bootstrap, task_seconds=0.2
    ) as stack:
        own_broker.stop()
        stack.start_daemon()
        admin = stack.addresses.admin_url
        unavailable = wait_until(lambda: log_lines(stack, "kafka.unavailable"), "a clear line")[0]
        assert "Kafka" in unavailable["error"]
        assert unavailable["retry_in_s"] > 0
        assert probe(admin, "startupz")[0] == 200
        assert probe(admin, "livez")[0] == 200
        assert probe(admin, "readyz")[0] == 503

        own_broker.start()

        stack.await_ready()
        publish(stack, good(1))
        assert await_results(stack, 1)[0]["status"] == "SUCCEEDED"

        own_broker.kill()
        stack.daemon.process.terminate()
        assert stack.daemon.process.wait(DEADLINE) == 0
        own_broker.start()  # the topics are deleted in the end


class Repair(NamedTuple):
    """What is wrong with the topics, and the command that is said to make them right."""

    spoil: Callable[[KafkaAdminClient, Topics], Any]
    command: tuple[str, ...]
    """As the log line has it."""
    partitions: tuple[int | None, int | None]
    """Of the input and of the journal, when something is wrong with them."""
    answers: tuple[str, ...] = ()
    """Options that spare the question, or say what the line leaves open."""


REPAIRS = {
    "none of them exists": Repair(
        lambda admin, topics: admin.delete_topics(list(topics.names)),
        ("topics", "create"),
        (None, None),
    ),
    "the journal has more partitions": Repair(
        lambda admin, topics: admin.create_partitions({topics.journal: PARTITIONS + 1}),
        ("topics", "grow"),
        (PARTITIONS, PARTITIONS + 1),
        ("--partitions", str(PARTITIONS + 1), "--yes"),
    ),
    "the input has more partitions": Repair(
        lambda admin, topics: admin.create_partitions({topics.changes: PARTITIONS + 1}),
        ("topics", "grow", "--partitions", str(PARTITIONS + 1)),
        (PARTITIONS + 1, PARTITIONS),
        ("--yes",),
    ),
}


@pytest.mark.parametrize("repair", REPAIRS.values(), ids=REPAIRS.keys())
def test_topics_that_are_not_right_are_told_with_the_command_and_waited_for(
    stack: Stack, repair: Repair
) -> None:
    with Clients(stack.addresses.connection).admin() as admin_client:
        topics = stack.addresses.topics
        repair.spoil(admin_client, topics)
        wait_until(
            lambda: (
                tuple(partition_count(admin_client, name) for name in (topics.changes, topics.journal))
                == repair.partitions
            ),
            "what is wrong",
        )
    stack.start_daemon()
    admin = stack.addresses.admin_url
    said = " ".join(("`coursesyncd", *repair.command))

    wait_until(
        lambda: any(said in json.dumps(line) for line in log_lines(stack) if line["level"] == "error"), said
    )
    assert probe(admin, "startupz")[0] == 200
    assert probe(admin, "livez")[0] == 200
    assert probe(admin, "readyz")[0] == 503

    def repaired() -> bool:
        done = coursesyncd(stack.environment, *repair.command, *repair.answers)
        # The replica opens its partitions anew all the time, and may be quicker than the command.
        assert done.returncode == 0 or "Run the command again" in done.stderr, done.stdout + done.stderr
        return done.returncode == 0

    wait_until(repaired, "what the command says it does")
    stack.await_ready()
    publish(stack, *(good(number, integration_id=f"tool:{number}") for number in range(30)))
    assert {data["status"] for data in await_results(stack, 30)} == {"SUCCEEDED"}


# --- the configuration ----------------------------------------------------------------------------


def test_every_mistake_of_the_configuration_in_one_message() -> None:
    ended = coursesyncd(
        {
            "PATH": os.environ["PATH"],
            "COURSESYNC_BATCH_LINGER": "soon",
            "COURSESYNC_BATCH_ITEM_MAX": "7",
            "COURSESYNC_FENCE_LEASE": "50s",
        },
        "run",
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


def test_a_key_file_that_is_not_there_is_a_mistake_of_the_configuration(tmp_path: Path) -> None:
    missing = tmp_path / "no-key"
    ended = coursesyncd(
        {
            "PATH": os.environ["PATH"],
            "COURSESYNC_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9",
            "COURSESYNC_KOMBO_API_KEY_FILE": str(missing),
        },
        "run",
    )
    assert ended.returncode == 2
    assert str(missing) in ended.stderr
    assert "Traceback" not in ended.stderr
