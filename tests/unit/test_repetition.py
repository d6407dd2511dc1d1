"""Libraries that repeat themselves: one line of a kind is written in a while, and the rest is counted."""

from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from daemon.telemetry.labels import LogLevel
from daemon.telemetry.logs import Style, configure
from daemon.telemetry.repetition import KINDS_MAX, REPEAT_INTERVAL, Repetition


class Lines:
    """What is written of what is logged, at a time that the test sets."""

    def __init__(self) -> None:
        self.now = 0.0
        self.repetition = Repetition(lambda: self.now)

    def log(self, text: object, *args: object, line: int = 7, name: str = "kafka.net") -> list[str]:
        record = logging.LogRecord(name, logging.ERROR, "/lib/x.py", line, text, args, None)
        return [self.told(line) for line in self.repetition.lines(record)]

    def told(self, record: logging.LogRecord) -> str:
        left_out = getattr(record, "left_out", None)
        return record.getMessage() + (f" ({left_out})" if left_out else "")

    def own(self) -> list[str]:
        return self.log({"event": "a.b"}, line=1, name="daemon.runtime")


OWN = "{'event': 'a.b'}"


def test_the_same_line_is_written_once_in_the_interval() -> None:
    lines = Lines()
    assert lines.log("connection lost") == ["connection lost"]
    assert lines.log("connection lost") == []
    assert lines.log("connection lost", line=8) == ["connection lost"]
    lines.now = REPEAT_INTERVAL - 1
    assert lines.log("connection lost") == []


def test_the_number_of_lines_that_were_left_out_is_written_with_the_next_line_of_anybody() -> None:
    lines = Lines()
    for port in range(1000):
        lines.log(f"port {port} is not reached\nTraceback …")
    lines.now = REPEAT_INTERVAL - 1
    assert lines.own() == [OWN]
    lines.now = REPEAT_INTERVAL
    assert lines.own() == ["lines left out, the last one: port 999 is not reached (999)", OWN]
    assert lines.own() == [OWN], "once"
    assert lines.log("port 1 is not reached") == ["port 1 is not reached"]


def test_the_line_itself_comes_again_after_the_summary() -> None:
    lines = Lines()
    for _ in range(3):
        lines.log("gone")
    lines.now = 2 * REPEAT_INTERVAL
    assert lines.log("gone") == ["lines left out, the last one: gone (2)", "gone"]


def test_each_place_has_an_interval_and_a_summary_of_its_own() -> None:
    lines = Lines()
    lines.log("first", line=1)
    lines.now = 10.0
    lines.log("second", line=2)
    lines.log("first", line=1)
    lines.log("second", line=2)
    lines.now = REPEAT_INTERVAL
    assert lines.own() == ["lines left out, the last one: first (1)", OWN]
    lines.now = REPEAT_INTERVAL + 10.0
    assert lines.own() == ["lines left out, the last one: second (1)", OWN]


def test_a_place_with_many_texts_does_not_hide_the_others_and_has_a_bound() -> None:
    """asyncio writes every error that nobody handles from one place."""
    lines = Lines()
    assert lines.log("Task exception was never retrieved") != []
    assert lines.log("socket.accept() out of system resource") != []
    words = ["a", "b", "c", "d", "e", "f", "g", "h"]
    written = [word for word in words if lines.log(word)]
    assert written == words[: KINDS_MAX - 2]


def test_numbers_and_arguments_make_no_new_kind() -> None:
    lines = Lines()
    assert lines.log("node %s: %d failed", "a", 1) == ["node a: 1 failed"]
    assert lines.log("node %s: %d failed", "b", 2) == []
    assert lines.log("fd=12 <Transport 0x7F2a10>", line=8) != []
    assert lines.log("fd=13 <Transport 0x7f2b2f>", line=8) == []


def test_the_daemon_may_repeat_itself() -> None:
    lines = Lines()
    assert [lines.own() for _ in range(3)] == [[OWN]] * 3


def test_what_is_remembered_is_bounded() -> None:
    lines = Lines()
    for number in range(1000):
        lines.log(chr(0x4E00 + number))
        lines.log("x" * 10**6, line=number)
    lines.now = REPEAT_INTERVAL
    lines.own()
    assert lines.repetition._places == {}


# --- through logging ------------------------------------------------------------------------------


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    stream = io.StringIO()
    configure(Style.JSON, LogLevel.INFO, lambda _level: None, stream)
    yield stream
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    structlog.reset_defaults()


def test_the_summary_has_the_form_of_a_librarys_line(
    written: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(logging.getLogger().handlers[0], "_repetition", Repetition(lambda: now[0]))
    for _ in range(4):
        logging.getLogger("asyncio").error("no more files")
    now[0] = REPEAT_INTERVAL
    structlog.get_logger().info("a.b")
    summary = json.loads(written.getvalue().splitlines()[-2])
    del summary["timestamp"]
    assert summary == {
        "event": "library.asyncio",
        "level": "error",
        "message": "lines left out, the last one: no more files",
        "logger": "asyncio",
        "left_out": 3,
    }


def test_threads_that_log_at_once_lose_no_count(written: io.StringIO) -> None:
    def log() -> None:
        for _ in range(500):
            logging.getLogger("kafka.net").error("gone")

    threads = [threading.Thread(target=log) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    handler: Any = logging.getLogger().handlers[0]  # the others are pytest's
    (place,) = handler._repetition._places.values()
    assert len(written.getvalue().splitlines()) == 1
    assert place.left_out == 1999
