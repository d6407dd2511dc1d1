"""Without the compiled CRC32C extension the library silently computes checksums in Python.

Defect: `kafka.record.util` falls back to Python without a warning. Consuming is then 7 times (records of 200 bytes) to
    26 times (1 KB) slower, measured on a real broker with 3.0.12.
Upstream: not reported.
Versions: 3.0.12.
Remove when: tests/unit/test_kafka_clients.py::test_without_the_fast_checksum_the_daemon_does_not_start fails, because
    the library has no fallback any more.
"""

from __future__ import annotations

import kafka.record.util


def checksums_are_fast() -> bool:
    """Whether the library uses the compiled extension."""
    return kafka.record.util.crc32c_c is not None
