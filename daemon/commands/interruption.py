"""Signals that end a command between two of its steps, so that it can say what it has done."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self, TypeVar

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_T = TypeVar("_T")


class Interrupted(KeyboardInterrupt):
    """A signal has arrived. The text is its name. Not an `Exception`, so that no library handles it."""


class Interruption:
    """While the command waits for its input, a signal ends the wait at once. During other work the first signal is kept
    until the next wait, and the second one ends the work.

    A context manager for the main thread.
    """

    def __init__(self) -> None:
        self._waiting = False
        self._signal: str | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        self._previous = {number: signal.signal(number, self._receive) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def wait_for(self, read: Callable[[], _T]) -> _T:
        """Call `read`, which a signal may interrupt.

        Raises:
            Interrupted: a signal arrived now, or since the last wait.
        """
        self._waiting = True
        try:
            if self._signal is not None:
                raise Interrupted(self._signal)
            return read()
        finally:
            self._waiting = False

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        again, self._signal = self._signal is not None, signal.Signals(number).name
        if self._waiting or again:
            raise Interrupted(self._signal)
