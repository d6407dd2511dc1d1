"""What passes from the consumer's thread to the asyncio loop: in order, and counted."""

from __future__ import annotations

import asyncio
from collections import deque

from daemon.log.kafka.worker import post_to
from daemon.log.port import Event, LogError, Records


class Handover:
    """A queue with writers in other threads and one reader on the loop.

    It never blocks a writer, since a rebalance must not wait for the loop; instead the writer asks
    `records_waiting` and `bytes_waiting`, and stops reading the log in time. Events beside records are few:
    some for each rebalance.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: deque[tuple[Event, int]] = deque()
        """Each with the bytes of its records."""
        self._waiter: asyncio.Future[None] | None = None
        self._error: LogError | None = None
        # Two counters with one writer each instead of one with a lock.
        self._records_put = 0
        self._records_taken = 0
        self._bytes_put = 0
        self._bytes_taken = 0

    @property
    def records_waiting(self) -> int:
        """Records that were put and not yet taken; callable from any thread."""
        return self._records_put - self._records_taken

    @property
    def bytes_waiting(self) -> int:
        """Their size; callable from any thread."""
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
        """From any thread: from now on `get` raises this, also for events already put."""
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
