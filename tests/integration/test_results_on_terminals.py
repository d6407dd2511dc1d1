"""``coursesyncd results`` on terminals of every kind, and with a reader that goes away, on a real broker."""

from __future__ import annotations

import contextlib
import json
import os
import pty
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
        assert process.wait(DEADLINE) == 0


def test_an_error_is_wrapped_and_never_cut(shown: World) -> None:
    message = " ".join(f"word-{number}" for number in range(60))
    with Publisher(shown.connection, shown.topic) as publisher:
        result = Result(7, Status.FAILED, "workday:a", "c", "long", 1, 1, error=Error("LMS.NO", message))
        key, value, _ = encode_result(result, 0, changes_topic="c", journal_topic="j")
        publisher.send(key, value)
    for columns in (80, 300):
        text = on_terminal([*shown.arguments, "--change-id", "long"], shown.environment, columns)
        assert " ".join(text.split()).count(message) == 1
        lines = text.splitlines()
        assert all(len(line) <= columns for line in lines if "word-" in line)
        assert any(line.startswith("1970-01-01 00:00:00 FAILED") for line in lines)
    assert "\x1b[" not in text


def on_terminal(arguments: list[str], environment: dict[str, str], columns: int) -> str:
    """What a command prints on a terminal without colours."""
    ours, terminal = pty.openpty()
    environment = environment | {"COLUMNS": str(columns), "NO_COLOR": "1", "TERM": "dumb"}
    with subprocess.Popen(arguments, env=environment, stdout=terminal, stderr=terminal) as process:
        os.close(terminal)
        text = b""
        with contextlib.suppress(OSError):  # Linux ends a terminal with an error
            while part := os.read(ours, 65536):
                text += part
        assert process.wait(DEADLINE) == 0
    os.close(ours)
    return text.decode()
