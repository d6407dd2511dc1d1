"""What the C library keeps of what was freed, with and without being told."""

from __future__ import annotations

import platform
import subprocess
import sys
from typing import NamedTuple

import pytest

THREADS = 8
MEBIBYTE = 1024 * 1024
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

# Fetches, each with something small behind it that stays.
kept = []
for _ in range(20):
    fetched = [bytearray({MEBIBYTE}) for _ in range(8)]
    kept.append(bytearray(2000))
    del fetched

libc = ctypes.CDLL(None)
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
"""

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc that is told")


class Heaps(NamedTuple):
    number: int
    size: int


def heaps_of(first: str) -> Heaps:
    """What a program holds after threads have allocated at the same time, and large blocks have come and gone."""
    told = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(first=first)], check=True, capture_output=True, text=True
    ).stdout
    total = told.rpartition('<system type="current" size="')[2].partition('"')[0]
    return Heaps(told.count("<heap nr="), int(total))


def test_threads_share_one_heap_and_large_blocks_are_given_back() -> None:
    as_it_is = heaps_of("")
    told = heaps_of("from daemon.allocator import keep_heap_compact; keep_heap_compact()")
    assert as_it_is.number > 1
    assert told.number == 1
    assert as_it_is.size > 8 * MEBIBYTE
    assert told.size < 8 * MEBIBYTE
