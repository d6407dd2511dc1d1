"""The queue from the consumer thread to the asyncio loop: ordered, and counted in records and bytes."""

from __future__ import annotations

import asyncio
from collections import deque

from daemon.log.errors import LogError
from daemon.log.kafka.worker import post_to
from daemon.log.port import Event, Records


class LoopQueue:
    """A queue with writers in other threads and one reader on the loop.

    It never blocks a writer, because a rebalance must not wait for the loop. Instead the writer checks `records_waiting`
    and `bytes_waiting` and stops reading in time. Other events are few: some for each rebalance.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: deque[tuple[Event, int]] = deque()
        """Each event with the size of its records in bytes."""
        self._waiter: asyncio.Future[None] | None = None
        self._error: LogError | None = None
        # Two counters with one writer each need no lock.
        self._records_put = 0
        self._records_taken = 0
        self._bytes_put = 0
        self._bytes_taken = 0

    @property
    def records_waiting(self) -> int:
        """Records that were put but not yet taken; from any thread."""
        return self._records_put - self._records_taken

    @property
    def bytes_waiting(self) -> int:
        """Size of these records; from any thread."""
        return self._bytes_put - self._bytes_taken

    def put(self, event: Event) -> None:
        """From any thread, one at a time."""
        size = 0
        if isinstance(event, Records):
            size = sum([record.size for record in event.records])
            self._records_put += len(event.records)
            self._bytes_put += size
        self._events.append((event, size))
        post_to(self._loop, self._wake)

    def fail(self, error: LogError) -> None:
        """From any thread: make `get` raise this error from now on, before any event that is still queued."""
        self._error = error
        post_to(self._loop, self._wake)

    async def get(self) -> Event:
        """The next event. One caller at a time.

        Raises:
            LogError: the one given to `fail`.
        """
        while True:
            if self._error is not None:
                raise self._error
            if self._events:
                event, size = self._events.popleft()
                if isinstance(event, Records):
                    self._records_taken += len(event.records)
                    self._bytes_taken += size
                return event
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
