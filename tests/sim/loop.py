"""An event loop for one replica: no time of its own, no sockets, stepped one callback at a time."""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import Any


class SteppedLoop(asyncio.AbstractEventLoop):
    """What asyncio's futures, tasks and time-outs need, and no more."""

    def __init__(self, clock: Callable[[], float], name: str) -> None:
        self._clock = clock
        self._name = name
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._sequence = 0
        self._kept: list[asyncio.Task[Any]] = []
        self.closed = False
        self.troubles: list[dict[str, Any]] = []
        """What nobody else could report: exceptions that no one retrieved."""

    # --- stepping ---------------------------------------------------------------------------------

    def wake_timers(self) -> None:
        """Make ready what has become due."""
        now = self._clock()
        while self._timers and self._timers[0][0] <= now:
            self._ready.append(heapq.heappop(self._timers)[2])

    @property
    def ready(self) -> bool:
        while self._ready and self._ready[0].cancelled():
            self._ready.popleft()
        return bool(self._ready)

    def next_timer(self) -> float | None:
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def step(self) -> None:
        """Run the next ready callback."""
        handle = self._ready.popleft()
        asyncio._set_running_loop(self)
        try:
            handle._run()
        finally:
            asyncio._set_running_loop(None)

    def kill(self) -> None:
        """As kill -9: nothing of it ever runs again. Its tasks are kept, so that no collector runs their
        `finally` blocks at a time of its own choice.
        """
        self.closed = True
        self._ready.clear()
        self._timers.clear()

    def unheard(self) -> list[str]:
        """Exceptions of tasks that nobody retrieved."""
        found = [str(context.get("exception") or context.get("message")) for context in self.troubles]
        unread: list[Any] = [t for t in self._kept if t.done() and not t.cancelled()]
        return [*found, *(f"{t.get_name()}: {t._exception!r}" for t in unread if t._log_traceback)]

    # --- what asyncio asks ------------------------------------------------------------------------

    def time(self) -> float:
        return self._clock()

    def call_soon(  # type: ignore[override]  # of any callback
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        if not self.closed:
            self._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_later(  # type: ignore[override]  # of any callback
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._clock() + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]  # of any callback
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        if not self.closed:
            self._sequence += 1
            heapq.heappush(self._timers, (when, self._sequence, handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """A cancelled timer is skipped when its time comes."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Context | None = None) -> Any:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, name=name, context=context)
        self._kept.append(task)
        if len(self._kept) > 1000:
            self._kept = [kept for kept in self._kept if not kept.done()]
        return task

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return not self.closed

    def is_closed(self) -> bool:
        return self.closed

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self.closed:
            self.troubles.append(context)

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.call_exception_handler(context)
