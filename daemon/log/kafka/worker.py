"""A thread for blocking calls, awaited from an asyncio loop.

This is not an executor: executor threads are joined at interpreter exit, so a client call that hangs would keep the
process alive. These are daemon threads. One that hangs is abandoned, and its `WorkerProgress` reports for how long it has
been silent. A long call that does not hang reports progress with `report_progress`.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

_T = TypeVar("_T")

_Job = tuple[Callable[[], Any], "asyncio.Future[Any] | None"]


class WorkerProgress:
    """Tracks the progress of workers, for the watchdog."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._progressed_at: dict[int, float] = {}
        """When the current call of each thread last reported progress. A thread writes its own entry only."""

    def silence(self) -> float:
        """Seconds since each running call last reported progress: the largest of these numbers, 0 if no call is running. From
        any thread.
        """
        now = self._clock()
        return max((now - at for at in list(self._progressed_at.values())), default=0.0)

    def progressed(self) -> None:
        """From the worker's thread."""
        self._progressed_at[threading.get_ident()] = self._clock()

    def is_idle(self) -> None:
        """From the worker's thread."""
        self._progressed_at.pop(threading.get_ident(), None)


_own = threading.local()
"""``progress``: the `WorkerProgress` of this thread."""


def report_progress() -> None:
    """Report progress from within a long call. The client's time-outs (see `clients`) bound the time between two reports to
    30 s: connecting, one request and one wait in the producer take 15 s each, and some calls make two requests. A watchdog
    must wait longer.
    """
    progress: WorkerProgress | None = getattr(_own, "progress", None)  # None outside a worker thread
    if progress is not None:
        progress.progressed()


class Worker:
    """Runs functions one after the other in one thread. Call methods from the loop."""

    def __init__(self, name: str, progress: WorkerProgress) -> None:
        self._progress = progress
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    async def call(self, function: Callable[[], _T], timeout: float) -> _T:
        """The result or error of `function`. Raises TimeoutError after `timeout` seconds; the function may then still be
        running, and later calls wait for it."""
        future: asyncio.Future[_T] = self._loop.create_future()
        self._jobs.put((function, future))
        async with asyncio.timeout(timeout):
            return await future

    def post(self, function: Callable[[], object]) -> None:
        """Run a function after all earlier calls, and ignore its result or error."""
        self._jobs.put((function, None))

    def retire(self) -> None:
        """End the thread after all earlier calls. Idempotent."""
        self._jobs.put(None)

    async def ended(self, timeout: float) -> None:
        """Wait for the thread to end. Raises TimeoutError after `timeout` seconds."""
        async with asyncio.timeout(timeout):
            await asyncio.shield(self._ended)

    def _run(self) -> None:
        self._work()
        post_to(self._loop, resolve, self._ended, None, None)

    def _work(self) -> None:
        _own.progress = self._progress
        while (job := self._jobs.get()) is not None:
            function, future = job
            if future is not None and future.cancelled():
                continue  # nobody waits for the result
            self._progress.progressed()
            try:
                result, error = function(), None
            except BaseException as caught:
                result, error = None, caught
            finally:
                self._progress.is_idle()
            if future is not None:
                post_to(self._loop, resolve, future, result, error)
            del job, function, future, result, error  # keep no references while idle


def post_to(loop: asyncio.AbstractEventLoop, function: Callable[..., object], *args: Any) -> None:
    """`call_soon_threadsafe`, ignored if the loop is closed."""
    try:
        loop.call_soon_threadsafe(function, *args)
    except RuntimeError:
        if not loop.is_closed():
            raise


def resolve(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    """Give a future its result or error, unless it is done. From the loop."""
    if future.done():
        return
    if error is None:
        future.set_result(result)
    elif isinstance(error, StopIteration):  # a future does not accept it
        future.set_exception(RuntimeError("StopIteration"))
    else:
        future.set_exception(error)
