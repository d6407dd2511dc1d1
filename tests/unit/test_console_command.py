"""`coursesyncd console` says what is wrong before it starts anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from daemon.cli import main

ENVIRON = {"COURSESYNC_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read"),
        ("", "is empty"),
        ("short", "has 5 characters, and must have at least 16"),
        ("two\nlines-of-some-length", "more than one line"),
    ],
)
def test_a_token_that_cannot_be_used(tmp_path: Path, content: str | None, said: str) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content)
    done = CliRunner().invoke(main, ["console", "--token-file", str(file)], env=ENVIRON)
    assert done.exit_code == 2
    assert "--token-file" in done.output
    assert said in done.output
    assert not content or content not in done.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--replicas", "course-sync:8080"], "is not the address of admin ports"),
        (["--port", "70000"], "--port"),
    ],
)
def test_what_is_no_address(arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(main, ["console", *arguments], env=ENVIRON)
    assert done.exit_code == 2
    assert said in done.output


def test_without_brokers_it_does_not_start() -> None:
    done = CliRunner().invoke(main, ["console"], env={"COURSESYNC_CONFIG": ""})
    assert done.exit_code == 2
    assert "kafka.bootstrap_servers" in done.output
