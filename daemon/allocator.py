"""Limits the memory that the C library keeps after it was freed.

glibc has two defaults that do not suit this process:

* Threads that allocate at the same time get separate heaps, up to eight per core, and memory freed in one heap cannot be
  used by the others. This process has some thirty threads, most of them Kafka's, with buffers from kilobytes to a
  megabyte, so each heap grows to the largest mix it ever held. Python code runs in one thread at a time, so one heap is
  as fast.
* A large block is a separate mapping, which is returned to the system when it is freed. But each freed mapping raises the
  threshold for "large", up to 32 MiB. The fetches of a lagging consumer, megabytes each, then come from the heap and
  fragment it.

Measured with `make soak MINUTES=3`: 80 to 88 MiB instead of 125 to 152 and growing. MALLOC_ARENA_MAX=1 and
MALLOC_MMAP_THRESHOLD_=131072 in the environment have the same effect (the program of tests/unit/test_allocator.py: RSS 9
instead of 18 MiB either way), but the environment of the image does not reach a daemon that is started in another way.
"""

from __future__ import annotations

import ctypes

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
"""From glibc's malloc.h."""
_LARGE = 128 * 1024
"""Bytes. The initial value of glibc; setting it disables the adjustment."""


def keep_heap_compact() -> None:
    """Apply to this process. Call it before threads are started. Does nothing if the C library is not glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_MMAP_THRESHOLD, _LARGE)
