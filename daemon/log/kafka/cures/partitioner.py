"""The library computes a key's partition slowly.

Defect (speed): Results are placed by the murmur2 hash of their key, as the Java client does, and consumers may rely on it.
    The library computes the hash in Python, byte by byte; `daemon.core.placement` uses a compiled one. The result is the same.
Gain: 94 % of the library's CPU time per key (0.4 instead of 7.3 µs for 36 bytes; `python -m tests.bench.client_speed`,
    paired, 21 rounds, two shared cores).
Upstream: not reported.
Versions: 3.0.12.
Remove when: `python -m tests.bench.client_speed` no longer shows a gain worth the code. `coursesyncd publish` also needs it
    for `input.partitioner`: the library has only murmur2.
"""

from __future__ import annotations

from typing import Any

from kafka.partitioner.default import DefaultPartitioner

from daemon.core.placement import place


class KeyPartitioner(DefaultPartitioner):  # type: ignore[misc]
    """The library's default partitioner, or another one for keys. Records without a key still go to a random partition."""

    def __init__(self, partitioner: str = "murmur2") -> None:
        self._partitioner = partitioner

    def partition(
        self,
        topic: str,
        key: Any,
        serialized_key: bytes | None,
        value: Any,
        serialized_value: Any,
        cluster: Any,
    ) -> int:
        if serialized_key is None:
            return int(super().partition(topic, key, None, value, serialized_value, cluster))
        return place(serialized_key, len(cluster.partitions_for_topic(topic)), self._partitioner)
