"""Keeps the C library's allocator from holding on to memory that nobody uses.

Two habits of glibc, made for other programs than this one:

* Threads that allocate at the same time get heaps of their own, up to eight for each core, and what is freed in
  one of them is of no use to the others. Here some thirty threads, most of them Kafka's, take turns with
  buffers from kilobytes to a megabyte, so each heap grows to the largest mix that it has ever had to hold. As
  Python code runs in one thread at a time, one heap serves them all as fast.
* A large block is a mapping of its own, which the system has back when it is freed; but with each one that is
  freed, what counts as large grows, up to 32 MiB. Then the fetches of a consumer that lags, megabytes each,
  come from the heap and tear holes into it.
"""

from __future__ import annotations

import ctypes

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
"""From glibc's malloc.h."""
_LARGE = 128 * 1024
"""Bytes; glibc's own first value, which stays when it is set."""


def keep_heap_compact() -> None:
    """For this process, before it starts threads. Where the C library is not glibc, nothing happens."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_MMAP_THRESHOLD, _LARGE)
