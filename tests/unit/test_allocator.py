"""One heap for all threads, where the C library would make one for each."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

THREADS = 8
PROGRAM = f"""
import ctypes, threading
{{first}}
together = threading.Barrier({THREADS})

def allocate():
    buffer = bytearray(100_000)
    together.wait()

threads = [threading.Thread(target=allocate) for _ in range({THREADS})]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc = ctypes.CDLL(None)
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
"""


def heaps(first: str) -> int:
    """How many there are after many threads have allocated at the same time."""
    told = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(first=first)], check=True, capture_output=True, text=True
    ).stdout
    return told.count("<heap nr=")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc makes heaps for threads")
def test_threads_share_one_heap() -> None:
    assert heaps("") > 1
    assert heaps("from daemon.allocator import share_one_heap; share_one_heap()") == 1
