"""Log lines: a dotted event name and key=value pairs, as JSON or for a console, on one stream.

Lines of the daemon and of its libraries (through `logging`) are processed in the same way: they get the same format, the
same bounds and the same counter. No value can make a line unbounded. The value of a key that names a secret or a payload
is always withheld: code must not log such values, and this is the second line of defence.

    log = structlog.get_logger()
    log.info("batch.submitted", partition=3, items=100)
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import nullcontext
from enum import StrEnum
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from daemon.codec.texts import escaped
from daemon.telemetry.labels import LogLevel
from daemon.telemetry.repetition import Repetition

VALUE_CHARS_MAX = 500
TRACEBACK_CHARS_MAX = 8000
"""A longer traceback is cut at its beginning, because its end names the error."""
ELEMENTS_MAX = 20
"""Number of elements of a list or mapping that are shown, and of keys in a line."""
DEPTH_MAX = 3

WITHHELD = "[withheld]"

_SECRET_KEY = re.compile(
    r"password|passwd|secret|credential|authorization|bearer|cookie|private_key|api_?key|access_token",
    re.IGNORECASE,
)
_PAYLOAD_KEYS = frozenset(
    {"body", "content", "course", "data", "dead_letter", "headers", "payload", "request", "response", "value"}
)
_SECRET_TEXT = re.compile(r"(bearer|basic)\s+[\w.~+/=-]{12,}", re.IGNORECASE)

_QUIET_LIBRARIES = {"kafka": logging.WARNING, "aiohttp": logging.WARNING, "httpx": logging.WARNING}
"""These libraries log every reconnect or request at INFO. The daemon logs the relevant events itself."""


class Style(StrEnum):
    JSON = "json"
    CONSOLE = "console"


def configure(
    style: Style,
    level: LogLevel,
    count: Callable[[LogLevel], None],
    stream: TextIO | None = None,
) -> None:
    """Set up logging for the whole process. A later call replaces an earlier one.

    `count` is called with the level of each line, from the thread that writes it. The default stream is stderr, because
    stdout is reserved for the output of a command.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    stream = stream or sys.stderr
    handler = _Handler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _foreign_event],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                bound,
                _counting(count),
                _renderer(style, colours=stream.isatty()),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.value.upper())
    for name, least in _QUIET_LIBRARIES.items():
        logging.getLogger(name).setLevel(max(least, root.level))


class _Handler(logging.StreamHandler[TextIO]):
    """Leaves out repeated lines of libraries."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._repetition = Repetition()

    def handle(self, record: logging.LogRecord) -> bool:
        with self.lock or nullcontext():
            for line in self._repetition.lines(record):
                self.emit(line)
        return True


def _renderer(style: Style, *, colours: bool) -> Processor:
    if style is Style.JSON:
        return structlog.processors.JSONRenderer(ensure_ascii=False)
    return structlog.dev.ConsoleRenderer(
        colors=colours, exception_formatter=structlog.dev.plain_traceback, pad_event_to=24
    )


def _foreign_event(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """A line of a library is prose, so it becomes a value. The event names the library."""
    record: logging.LogRecord = event["_record"]
    event["message"] = event["event"]
    event["event"] = f"library.{record.name.partition('.')[0]}"
    event["logger"] = record.name
    if (left_out := getattr(record, "left_out", None)) is not None:
        event["left_out"] = left_out
    return event


def _counting(count: Callable[[LogLevel], None]) -> Processor:
    def processor(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        count(_LEVELS.get(event.get("level", ""), LogLevel.INFO))
        return event

    return processor


_LEVELS: Mapping[str, LogLevel] = {level.value: level for level in LogLevel}


# --- bounds and secrets ---------------------------------------------------------------------------


def bound(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Make every value short, plain and single-line, and withhold values that do not belong in a log."""
    bounded: MutableMapping[str, Any] = {}
    for position, (key, value) in enumerate(event.items()):
        if position >= ELEMENTS_MAX and key not in {"event", "level", "timestamp", "exception"}:
            bounded["keys_left_out"] = bounded.get("keys_left_out", 0) + 1
        elif key == "exception":
            bounded[key] = _traceback(str(value))
        else:
            bounded[_text(str(key))] = _plain(str(key), value, DEPTH_MAX)
    return bounded


def _plain(key: str, value: object, depth: int) -> object:
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if abs(value) < 2**63 else "[a number beyond 64 bits]"
    if _SECRET_KEY.search(key) or key.lower() in _PAYLOAD_KEYS:
        return WITHHELD
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return f"[{len(value)} bytes]"
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        return _collection(key, value, depth)
    if isinstance(value, BaseException):
        return _text(f"{type(value).__name__}: {value}")
    return _text(_representation(value))


def _collection(
    key: str, value: Mapping[Any, Any] | list[Any] | tuple[Any, ...] | set[Any] | frozenset[Any], depth: int
) -> object:
    if depth == 0:
        return f"[{len(value)} elements]"
    left_out = len(value) - ELEMENTS_MAX
    more = f"and {left_out} more" if left_out > 0 else None
    if isinstance(value, Mapping):
        shown = {
            _text(str(inner)): _plain(str(inner), value[inner], depth - 1)
            for inner, _ in zip(value, range(ELEMENTS_MAX), strict=False)
        }
        return {**shown, "…": more} if more else shown
    elements = [
        _plain(key, element, depth - 1) for element, _ in zip(value, range(ELEMENTS_MAX), strict=False)
    ]
    return [*elements, more] if more else elements


def _representation(value: object) -> str:
    """A log line must not fail because an object cannot describe itself."""
    try:
        return str(value)
    except Exception as error:
        return f"[{type(value).__name__} that cannot be printed: {type(error).__name__}]"


def _text(text: str) -> str:
    over = len(text) - VALUE_CHARS_MAX
    # Secrets are removed before the text is cut, so that no part of one remains. Only a bounded prefix is searched.
    text = _without_secrets(text[: 2 * VALUE_CHARS_MAX])[:VALUE_CHARS_MAX]
    text = escaped(text)
    return f"{text}… ({over} more characters)" if over > 0 else text


def _traceback(text: str) -> str:
    over = len(text) - TRACEBACK_CHARS_MAX
    text = _without_secrets(text)
    text = f"({over} characters left out) …{text[-TRACEBACK_CHARS_MAX:]}" if over > 0 else text
    return "\n".join(map(escaped, text.split("\n")))


def _without_secrets(text: str) -> str:
    return _SECRET_TEXT.sub(lambda match: f"{match[1]} {WITHHELD}", text)
