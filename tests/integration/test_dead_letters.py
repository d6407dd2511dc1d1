"""`coursesyncd dead-letters` on a real Kafka: the list, one of them, and its original bytes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

import pytest

from daemon.codec.dead_letter import encode_dead_letter
from daemon.core.model import Error, Rejection, RejectReason
from daemon.log.kafka.admin import NewTopic, create_topics
from daemon.log.kafka.clients import Clients, KafkaConnection
from daemon.log.port import Topics
from daemon.log.topic_access import Publisher, Since, read_topic
from tests.integration.command_world import COMMAND
from tests.integration.daemon_world import DEADLINE

pytestmark = pytest.mark.kafka

BYTES = b'{"id": "chg-\xff\x1b[2J'
Run = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture
def run(kafka_bootstrap: str, topic_names: Topics) -> Run:
    connection = KafkaConnection((kafka_bootstrap,))
    with Clients(connection).admin() as admin:
        create_topics(admin, [NewTopic(topic_names.dead_letters, 1, 1)])
    made = [
        (RejectReason.MALFORMED, BYTES, "the record is not JSON"),
        (RejectReason.TOMBSTONE, None, "the record has no value"),
        (RejectReason.OVERSIZED, b"x" * 30_000, "it is too large"),
    ]
    with Publisher(connection, topic_names.dead_letters) as publisher:
        for offset, (reason, value, message) in enumerate(made):
            rejection = Rejection(
                offset,
                reason,
                Error("COURSESYNC.X", message),
                None,
                None,
                None,
                1,
                b"key\n",
                value,
                (("n", b"1"),),
            )
            letter = encode_dead_letter(rejection, 3, changes_topic="course-changes", max_bytes=16 * 1024)
            publisher.send(*letter)

    def run(*arguments: str) -> subprocess.CompletedProcess[bytes]:
        named = ["--bootstrap-servers", kafka_bootstrap, "--topic", topic_names.dead_letters]
        return subprocess.run(
            [COMMAND, "dead-letters", *arguments, *named], capture_output=True, timeout=DEADLINE, check=False
        )

    return run


def test_the_list(run: Run) -> None:
    done = run("list")
    assert (done.returncode, done.stderr) == (0, b"")
    heading, *rows, end = done.stdout.decode().splitlines()
    assert heading.split() == ["REJECTED", "(UTC)", "SOURCE", "REASON", "BYTES", "ERROR"]
    assert [row.split()[2:5] for row in rows] == [
        ["course-changes/3/0", "malformed", str(len(BYTES))],
        ["course-changes/3/1", "tombstone", "-"],
        ["course-changes/3/2", "oversized", "30,000"],
    ]
    assert rows[0].endswith("COURSESYNC.X: the record is not JSON")
    assert end == "3 dead letters."


def test_the_list_as_json_and_chosen(run: Run) -> None:
    rows = [json.loads(line) for line in run("list", "--json", "--since", "1h").stdout.splitlines()]
    assert [row["bytes"] for row in rows] == [len(BYTES), None, 30_000]
    assert rows[1]["error_message"] == "the record has no value"
    (row,) = run("list", "--json", "--reason", "oversized").stdout.splitlines()
    assert json.loads(row)["source"] == "course-changes/3/2"


def test_one_of_them(run: Run) -> None:
    done = run("show", "course-changes/3/0")
    text = done.stdout.decode()
    assert all(line.isprintable() for line in text.splitlines())
    for line in (
        "source        course-changes/3/0",
        "header        n: 1",
        "key           key ",
        f"value         {len(BYTES)} bytes",
    ):
        assert line in text.splitlines()
    assert "value-size    30000" in run("show", "course-changes/3/2").stdout.decode()
    assert "value         -" in run("show", "course-changes/3/1").stdout.decode()


def test_its_original_bytes(run: Run) -> None:
    assert run("show", "course-changes/3/0", "--raw").stdout == BYTES
    assert run("show", "course-changes/3/1", "--raw").stdout == b""


def test_one_that_is_not_there(run: Run) -> None:
    done = run("show", "course-changes/3/99")
    assert done.returncode == 1
    assert b"has no dead letter of course-changes/3/99" in done.stderr


def test_a_time_beyond_the_end_begins_at_the_end(kafka_bootstrap: str, run: Run, topic_names: Topics) -> None:
    connection = KafkaConnection((kafka_bootstrap,))
    assert list(read_topic(connection, topic_names.dead_letters, start=Since(4_000_000_000_000))) == []
    assert b"0 dead letters." in run("list", "--since", "1ms").stdout
