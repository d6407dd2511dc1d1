"""Limits repeated log lines of libraries, and counts the lines that are left out.

How it works. Libraries repeat lines: the Kafka client several times a second while a broker is unavailable, asyncio with a
traceback for each connection that it cannot accept. So each *kind* of line is written once per `REPEAT_INTERVAL`. Lines are
of the same kind if they come from the same place in the source and begin with the same text, ignoring numbers. A place has
at most `KINDS_MAX` kinds, so the memory is bounded by the source of the libraries, whatever their texts are. Lines that are
left out are counted, and the count is written before the next line of any logger after the interval.
"""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Callable

REPEAT_INTERVAL = 30.0
"""Seconds within which a line of a library is written once."""
KINDS_MAX = 5
"""Number of different lines from one place in a library's source that are written within that time."""
_KIND_CHARS_MAX = 200
"""Number of characters of a line that determine its kind."""
_NUMBER = re.compile(r"0x[0-9a-f]+|\d+", re.IGNORECASE)


class Repetition:
    """Not thread-safe: called under the lock of the handler that writes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` counts seconds."""
        self._clock = clock
        self._places: dict[_At, _Place] = {}
        self._next_summary = math.inf

    def lines(self, record: logging.LogRecord) -> list[logging.LogRecord]:
        """The lines to write when this line arrives: the line itself, unless it is a repeated line of a library. Before it,
        there is one line for each place with left-out lines whose interval is over. That line has their number as
        ``left_out``.
        """
        now = self._clock()
        lines = self._summaries(now) if now >= self._next_summary else []
        # The daemon's own messages come from structlog and are dicts.
        if isinstance(record.msg, dict) or self._admits(record, now):
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
        """Level and text of the last line that was left out."""


def _summary(at: _At, place: _Place) -> logging.LogRecord:
    level, text = place.last
    record = logging.LogRecord(at[0], level, at[1], at[2], f"lines left out, the last one: {text}", (), None)
    record.left_out = place.left_out
    return record


def _first_line(record: logging.LogRecord) -> str:
    """The template without its arguments, which is the common part of all its lines."""
    return str(record.msg)[:_KIND_CHARS_MAX].partition("\n")[0]
