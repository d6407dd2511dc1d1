"""``coursesyncd results`` on terminals of every kind, and with a reader that goes away, on a real broker."""

from __future__ import annotations

import json
import subprocess

import pytest

from daemon.codec.result import encode_result
from daemon.core.model import Error, Result, Status
from daemon.log.port import Topics
from daemon.log.topic_access import Publisher, read_topic
from tests.integration.command_world import World
from tests.integration.daemon_world import DEADLINE

pytestmark = pytest.mark.kafka

HOSTILE = "c\x9b31m\u202e\u2066-課程-ü"


@pytest.fixture
def shown(kafka_bootstrap: str, topic_names: Topics) -> World:
    """The topic has results with letters that not every terminal has, and with characters that terminals obey."""
    world = World("results", kafka_bootstrap, topic_names.results)
    with Publisher(world.connection, world.topic) as publisher:
        for offset in range(200):
            result = Result(
                offset,
                Status.FAILED,
                "workday:a",
                HOSTILE,
                "chg",
                1,
                1,
                error=Error("LMS.NO", f"größer {HOSTILE}"),
            )
            key, value, _ = encode_result(result, 0, changes_topic="c", journal_topic="j")
            publisher.send(key, value)
    return world


@pytest.mark.parametrize("encoding", ["ascii", "ascii:strict", "latin-1", "utf-8"])
@pytest.mark.parametrize("columns", ["1", "80"])
def test_results_on_every_terminal(shown: World, encoding: str, columns: str) -> None:
    environment = shown.environment | {"PYTHONIOENCODING": encoding, "COLUMNS": columns}
    for option in ("--json", None):
        done = subprocess.run(
            [*shown.arguments, *([option] if option else [])],
            env=environment,
            capture_output=True,
            timeout=DEADLINE,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, b"")
        text = done.stdout.decode("utf-8" if option else encoding.partition(":")[0])
        assert all(row.isprintable() for row in text.splitlines())
        if option:
            origins = {json.loads(row)["data"]["origin_id"] for row in text.splitlines()}
            assert origins == {HOSTILE}
        else:
            assert "200 results: 200 FAILED." in text


@pytest.mark.parametrize("option", ["--json", "--follow"])
def test_a_reader_of_results_that_has_enough(shown: World, option: str) -> None:
    with subprocess.Popen(
        [*shown.arguments, option], env=shown.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        process.stdout.close()
        if option == "--follow":  # it notices with the next result
            with Publisher(shown.connection, shown.topic) as publisher:
                for record in list(read_topic(shown.connection, shown.topic)):
                    publisher.send(record.key, record.value)
        assert process.stderr is not None
        assert process.stderr.read() == b""
        assert process.wait(DEADLINE) == 1
