"""Which lines of libraries are written to the log, and how many were left out.

How it works. A library repeats itself: Kafka's client several times a second while a broker is away, asyncio
with a traceback for each connection that it cannot accept. So each *kind* of line is written once in
`REPEAT_INTERVAL`. Lines are of one kind if they come from the same place in the source and begin with the same
text, numbers aside. A place has at most `KINDS_MAX` kinds, so what is remembered is bounded by the source of
the libraries, whatever their texts say. What is left out is counted, and the count is written with the first
line that anybody logs after the interval.
"""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Callable

REPEAT_INTERVAL = 30.0
"""Seconds in which a line of a library is written once."""
KINDS_MAX = 5
"""Different lines from one place in a library's source that are written in that time."""
_KIND_CHARS_MAX = 200
"""Of a line, to tell its kind."""
_NUMBER = re.compile(r"0x[0-9a-f]+|\d+", re.IGNORECASE)


class Repetition:
    """Not thread-safe: called under the lock of the handler that writes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` counts seconds."""
        self._clock = clock
        self._places: dict[_At, _Place] = {}
        self._next_summary = math.inf

    def lines(self, record: logging.LogRecord) -> list[logging.LogRecord]:
        """What is to be written when this line comes: itself, unless a library repeats itself; before it,
        one line for each place that has left out lines in an interval that is over. Such a line has their
        number as ``left_out``.
        """
        now = self._clock()
        lines = self._summaries(now) if now >= self._next_summary else []
        if isinstance(record.msg, dict) or self._admits(record, now):  # structlog's are: the daemon's own
            lines.append(record)
        return lines

    def _admits(self, record: logging.LogRecord, now: float) -> bool:
        at = (record.name, record.pathname, record.lineno)
        place = self._places.get(at)
        if place is None or now >= place.ends:
            place = self._places[at] = _Place(now + REPEAT_INTERVAL)
        text = _first_line(record)
        kind = _NUMBER.sub("#", text)
        if kind not in place.kinds and len(place.kinds) < KINDS_MAX:
            place.kinds.add(kind)
            return True
        place.left_out += 1
        place.last = (record.levelno, text)
        self._next_summary = min(self._next_summary, place.ends)
        return False

    def _summaries(self, now: float) -> list[logging.LogRecord]:
        summaries = [
            _summary(at, place) for at, place in self._places.items() if place.left_out and now >= place.ends
        ]
        self._places = {at: place for at, place in self._places.items() if now < place.ends}
        self._next_summary = min((p.ends for p in self._places.values() if p.left_out), default=math.inf)
        return summaries


_At = tuple[str, str, int]
"""Logger, file and line."""


class _Place:
    """One place in a library's source, in one interval."""

    def __init__(self, ends: float) -> None:
        self.ends = ends
        self.kinds: set[str] = set()
        self.left_out = 0
        self.last = (logging.NOTSET, "")
        """Level and text of the line that was left out last."""


def _summary(at: _At, place: _Place) -> logging.LogRecord:
    level, text = place.last
    record = logging.LogRecord(at[0], level, at[1], at[2], f"lines left out, the last one: {text}", (), None)
    record.left_out = place.left_out
    return record


def _first_line(record: logging.LogRecord) -> str:
    """Without its arguments: of a template, that is what all of its lines have in common."""
    return str(record.msg)[:_KIND_CHARS_MAX].partition("\n")[0]
