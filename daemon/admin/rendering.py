"""A page whose rendered content is shared by many requests.

How it works. A page is rendered on request. The result is reused for long enough to keep rendering below
`RENDERING_SHARE_MAX` of the event loop's time: a page that took 3 ms to render is reused for 60 ms. So each scrape of an
ordinary Prometheus gets current values, and the rest of the daemon keeps its share of the time, however many scrapes there
are and however many tasks a page covers.
"""

from __future__ import annotations

import time
from collections.abc import Callable

RENDERING_SHARE_MAX = 0.05
"""Share of the event loop's time that rendering can use, for each page."""


class Page:
    """Call it to get the rendered bytes. It raises what `render` raises."""

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
