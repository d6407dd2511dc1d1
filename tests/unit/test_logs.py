"""What reaches the log: bounded lines of one form, without secrets and payloads, each of them counted."""

from __future__ import annotations

import ast
import io
import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from daemon.telemetry.labels import LogLevel
from daemon.telemetry.logs import VALUE_CHARS_MAX, WITHHELD, Style, configure

DAEMON = Path(__file__).parents[2] / "daemon"
SECRET = "kombo-key-4f1d0c3e9b"


@pytest.fixture(autouse=True)
def process_wide_logging() -> Iterator[None]:
    root = logging.getLogger()
    names = ("kafka", "aiohttp", "httpx")
    before = root.handlers[:], root.level, [logging.getLogger(name).level for name in names]
    yield
    root.handlers[:], level, levels = before
    root.setLevel(level)
    for name, of_name in zip(names, levels, strict=True):
        logging.getLogger(name).setLevel(of_name)
    structlog.reset_defaults()


class Written:
    """Logging set up onto a string."""

    def __init__(self, style: Style = Style.JSON, level: LogLevel = LogLevel.INFO) -> None:
        self.counted: Counter[LogLevel] = Counter()
        self._stream = io.StringIO()
        configure(style, level, lambda level: self.counted.update([level]), self._stream)

    @property
    def text(self) -> str:
        return self._stream.getvalue()

    def line(self) -> dict[str, Any]:
        (line,) = self.text.splitlines()
        values: dict[str, Any] = json.loads(line)
        return values


def logged(write: Callable[[structlog.stdlib.BoundLogger], object]) -> dict[str, Any]:
    written = Written()
    write(structlog.get_logger())
    return written.line()


def test_a_line_is_an_event_with_level_time_and_values() -> None:
    line = logged(lambda log: log.info("batch.submitted", partition=3, items=100, late=None, share=0.5))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", line.pop("timestamp"))
    assert line == {
        "event": "batch.submitted",
        "level": "info",
        "partition": 3,
        "items": 100,
        "late": None,
        "share": 0.5,
    }


def test_lines_are_counted_by_level_and_only_those_that_are_written() -> None:
    written = Written(level=LogLevel.WARNING)
    log = structlog.get_logger()
    log.debug("a.b")
    log.info("a.b")
    log.warning("a.b")
    log.error("a.b")
    logging.getLogger("kafka.conn").error("gone")
    logging.getLogger("kafka.conn").info("connecting")
    assert written.counted == {LogLevel.WARNING: 1, LogLevel.ERROR: 2}
    assert len(written.text.splitlines()) == 3


@pytest.mark.parametrize("style", Style)
@pytest.mark.parametrize(
    "key",
    ["api_key", "kombo_apikey", "password", "sasl_password", "Authorization", "client_secret", "body", "payload",
     "value", "headers", "course"],
)  # fmt: skip
def test_values_of_secret_and_payload_keys_are_withheld(style: Style, key: str) -> None:
    written = Written(style)
    structlog.get_logger().info("a.b", **{key: SECRET}, nested={key: [SECRET]}, several=[{key: SECRET}])
    assert SECRET not in written.text
    assert written.text.count(WITHHELD) == 3


def test_a_key_in_a_text_or_a_traceback_is_withheld() -> None:
    def write(log: structlog.stdlib.BoundLogger) -> None:
        try:
            raise ValueError(f"refused: Authorization: Bearer {SECRET}")
        except ValueError as error:
            log.exception("a.b", error=error, note=f"sent bearer {SECRET} to the API")

    line = logged(write)
    assert SECRET not in json.dumps(line)
    assert f"Bearer {WITHHELD}" in line["exception"]
    assert "Traceback" in line["exception"]


def test_a_key_that_stands_where_a_text_is_cut_is_withheld_too() -> None:
    line = logged(lambda log: log.info("a.b", note="x" * (VALUE_CHARS_MAX - 15) + f" Bearer {SECRET}"))
    assert SECRET[:5] not in line["note"]


def test_a_library_writes_the_same_form() -> None:
    written = Written()
    logging.getLogger("kafka.consumer.fetcher").warning("lost %s\nBearer %s", "node 1", SECRET)
    line = written.line()
    assert line["event"] == "library.kafka"
    assert line["logger"] == "kafka.consumer.fetcher"
    assert line["message"] == f"lost node 1\\x0aBearer {WITHHELD}"


def test_libraries_do_not_narrate() -> None:
    written = Written(level=LogLevel.DEBUG)
    logging.getLogger("kafka.conn").info("connecting")
    logging.getLogger("httpx").info("HTTP Request: GET …")
    assert written.text == ""


def test_a_library_that_repeats_itself_is_written_once_whichever_it_is() -> None:
    written = Written()
    for _ in range(1000):
        logging.getLogger("asyncio").error("socket.accept() out of system resource\nsocket: <fd=7>")
        structlog.get_logger().info("a.b")
    events = Counter(json.loads(line)["event"] for line in written.text.splitlines())
    assert events == {"library.asyncio": 1, "a.b": 1000}
    assert written.counted == {LogLevel.ERROR: 1, LogLevel.INFO: 1000}


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    "value",
    ["x" * 10**6, ["y" * 1000] * 10**4, {str(n): "z" * 1000 for n in range(1000)}, b"b" * 10**6, 10**3000,
     ValueError("e" * 10**6), [[[[["deep"] * 100] * 100]]], Unprintable(), set(range(10**4)), object()],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_no_value_makes_a_line_long_or_fails_it(value: object) -> None:
    written = Written()
    structlog.get_logger().info("a.b", thing=value)
    assert written.line()["thing"]
    assert len(written.text) < 30 * VALUE_CHARS_MAX


def test_what_was_cut_says_so() -> None:
    line = logged(lambda log: log.info("a.b", text="x" * (VALUE_CHARS_MAX + 7), numbers=list(range(25))))
    assert line["text"] == "x" * VALUE_CHARS_MAX + "… (7 more characters)"
    assert line["numbers"] == [*range(20), "and 5 more"]


def test_a_line_has_a_bounded_number_of_keys_and_keeps_its_event() -> None:
    line = logged(lambda log: log.info("a.b", **{f"k{n}": n for n in range(100)}))
    assert line["event"] == "a.b"
    assert line["level"] == "info"
    assert line["keys_left_out"] == 80


@pytest.mark.parametrize("style", Style)
def test_a_value_can_not_forge_a_line_or_drive_the_terminal(style: Style) -> None:
    written = Written(style)
    structlog.get_logger().info("a.b", origin_id='x\n{"event":"forged"}\r\x1b[31m\x9b0m\u2028')
    assert len(written.text.splitlines()) == 1
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", written.text)


@pytest.mark.parametrize("style", Style)
def test_an_exception_can_not_drive_the_terminal(style: Style) -> None:
    """Its text comes from outside, and a traceback has several lines."""
    written = Written(style)
    hostile = "a\x9b31m\x85b\u202ec\u2066d\u061ce\x1b[2J\x7f"
    try:
        raise ValueError(hostile)
    except ValueError:
        structlog.get_logger().exception("a.b", **{hostile: hostile})
    text = json.loads(written.text)["exception"] if style is Style.JSON else written.text
    assert "Traceback" in text
    assert all(line.replace("\t", "").isprintable() for line in text.split("\n"))
    assert written.text.rstrip("\n").replace("\n", "").isprintable()
    assert "\\x9b31m\\x85b\\u202ec\\u2066d" in text


def test_a_later_configuration_replaces_the_earlier_one() -> None:
    first, second = Written(), Written()
    structlog.get_logger().info("a.b")
    assert first.text == ""
    assert second.line()["event"] == "a.b"


# --- what the daemon's own code logs --------------------------------------------------------------

LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}
EVENT = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+")


def events(source: str) -> Iterator[ast.expr]:
    """The first argument of each call such as `log.info(…)` or `self._log.warning(…)`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS:
            owner = node.func.value
            name = owner.id if isinstance(owner, ast.Name) else getattr(owner, "attr", "")
            if name.strip("_").lower() in {"log", "logger"} and node.args:
                yield node.args[0]


def ill_named(source: str) -> list[str]:
    return [
        ast.unparse(event)
        for event in events(source)
        if not (isinstance(event, ast.Constant) and EVENT.fullmatch(str(event.value)))
    ]


def test_events_of_the_daemon_are_fixed_names_with_dots() -> None:
    sources = {path.relative_to(DAEMON): path.read_text(encoding="utf-8") for path in DAEMON.rglob("*.py")}
    assert sum(len(list(events(source))) for source in sources.values()) >= 3, "the test sees no log calls"
    found = {str(path): names for path, source in sources.items() if (names := ill_named(source))}
    assert not found


@pytest.mark.parametrize(
    "call", ['log.info("Batch submitted")', "self._log.error(f'x.{y}')", '_log.info("nodots")', "log.info(x)"]
)
def test_an_ill_named_event_is_found(call: str) -> None:
    assert ill_named(call)
