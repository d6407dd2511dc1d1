"""Keeps the C library's allocator from holding on to memory that nobody uses.

glibc gives threads that allocate at the same time heaps of their own, up to eight for each core, and what is freed
in one of them is of no use to the others. Here some thirty threads, most of them Kafka's, take turns with
buffers from kilobytes to a megabyte, so each heap grows to the largest mix that it has ever had to hold.
Since Python code runs in one thread at a time, one heap serves them all as fast.
"""

from __future__ import annotations

import ctypes

_M_ARENA_MAX = -8
"""From glibc's malloc.h."""


def share_one_heap() -> None:
    """For all threads of this process that are started from now on. Where the C library is not glibc, nothing
    happens."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)
