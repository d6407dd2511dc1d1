"""A thread for blocking calls, awaited from an asyncio loop.

Not an executor: those threads are joined at interpreter exit, and a client call that hangs would keep
the process from ending. These are daemons; one that hangs is left behind, and `hanging` names it.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

_T = TypeVar("_T")

HANGING_MAX = 16
"""Threads that were left behind, each with a client and its connections, at which the process had better start
anew."""
HANGING_AFTER = 120.0
"""Seconds after its retirement at which a thread counts as hanging: more than the client's own time-outs."""

_Job = tuple[Callable[[], Any], "asyncio.Future[Any] | None"]


class _Thread(threading.Thread):
    """The interpreter's own list of living threads is the only one that is kept of them."""

    retired_at: float | None = None
    """`time.monotonic`, when it was told to end."""


def hanging(now: float) -> list[str]:
    """Names of the threads that were told to end long before `now` (`time.monotonic`), and live."""
    return [
        thread.name
        for thread in threading.enumerate()
        if isinstance(thread, _Thread)
        and thread.retired_at is not None
        and now - thread.retired_at > HANGING_AFTER
    ]


class Worker:
    """Runs the functions that it is given one after the other, in one thread.

    All methods are called from the loop.
    """

    def __init__(self, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = _Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    async def call(self, function: Callable[[], _T], timeout: float) -> _T:
        """The function's result or error; TimeoutError after `timeout` seconds, and then the function
        may still be running, and later calls wait behind it."""
        future: asyncio.Future[_T] = self._loop.create_future()
        self._jobs.put((function, future))
        async with asyncio.timeout(timeout):
            return await future

    def post(self, function: Callable[[], object]) -> None:
        """Run it after all earlier calls, whatever it returns or raises."""
        self._jobs.put((function, None))

    def retire(self) -> None:
        """End the thread after all earlier calls. Idempotent."""
        self._jobs.put(None)
        if self._thread.retired_at is None:
            self._thread.retired_at = time.monotonic()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            function, future = job
            if future is not None and future.cancelled():
                continue  # nobody waits any more
            try:
                result, error = function(), None
            except BaseException as caught:
                result, error = None, caught
            if future is not None:
                post_to(self._loop, _settle, future, result, error)
            del job, function, future, result, error  # hold nothing while idle


def post_to(loop: asyncio.AbstractEventLoop, function: Callable[..., object], *args: Any) -> None:
    """`call_soon_threadsafe` that does not mind a loop which has ended."""
    try:
        loop.call_soon_threadsafe(function, *args)
    except RuntimeError:
        if not loop.is_closed():
            raise


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    elif isinstance(error, StopIteration):  # a future refuses it
        future.set_exception(RuntimeError("StopIteration"))
    else:
        future.set_exception(error)
