"""Waits for a wake-up or for a point in time, whichever comes first."""

from __future__ import annotations

import asyncio


class Waker:
    """A `wake` is remembered until the next `wait`, so none is lost between a check and the following wait."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def wake(self) -> None:
        self._event.set()

    async def wait(self, until: float | None) -> None:
        """Return after a `wake`, or at `until` (event loop time in seconds; None: only after a `wake`)."""
        if not self._event.is_set():
            try:
                async with asyncio.timeout_at(until):
                    await self._event.wait()
            except TimeoutError:
                return
        self._event.clear()
