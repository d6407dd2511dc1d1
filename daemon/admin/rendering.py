"""A page that is rendered for many requests at once.

How it works. A page is rendered when it is asked for, and the answer is good for as long as keeps rendering
under `RENDERING_SHARE_MAX` of the event loop's time: one that took 3 ms is used again for 60 ms. So every
scrape of an ordinary Prometheus sees figures of that moment, and however many scrapes there are, and however
many tasks a page has to look at, the rest of the daemon keeps its time.
"""

from __future__ import annotations

import time
from collections.abc import Callable

RENDERING_SHARE_MAX = 0.05
"""Of the event loop's time, for each page."""


class Page:
    """Call it for the rendered bytes; it raises what `render` raises."""

    def __init__(self, render: Callable[[], bytes], clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` counts seconds."""
        self._render = render
        self._clock = clock
        self._content = b""
        self._good_until: float | None = None

    def __call__(self) -> bytes:
        started = self._clock()
        if self._good_until is None or started >= self._good_until:
            self._content = self._render()
            now = self._clock()
            self._good_until = now + (now - started) / RENDERING_SHARE_MAX
        return self._content
