"""The library computes a key's partition slowly.

Defect (speed): Kafka clients place a key by murmur2, and consumers of the results may rely on it. The library computes
    the hash byte by byte; this module unpacks all words at once and masks once per round. The result is the same.
Gain: 47 % of the library's CPU time per key (7.0 instead of 14.9 µs for 36 bytes; `python -m tests.bench.client_speed`,
    paired, 21 rounds, two shared cores).
Upstream: not reported.
Versions: 3.0.12.
Remove when: `python -m tests.bench.client_speed` no longer shows a gain worth the code.
"""

from __future__ import annotations

import struct
from typing import Any

from kafka.partitioner.default import DefaultPartitioner

_SEED = 0x9747B28C
_MIX = 0x5BD1E995
_MASK = 0xFFFFFFFF


class KeyPartitioner(DefaultPartitioner):  # type: ignore[misc]
    """The library's default partitioner. Records without a key still go to a random partition."""

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
        return place(serialized_key, len(cluster.partitions_for_topic(topic)))


def place(key: bytes, partitions: int) -> int:
    """The partition of a key in a topic with this many partitions, numbered from 0 without gaps."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def murmur2(data: bytes) -> int:
    """MurmurHash2 with Kafka's seed, as an unsigned 32-bit number (``Utils.murmur2`` of the Java client)."""
    words = len(data) >> 2
    state = _SEED ^ len(data)
    for word in struct.unpack_from(f"<{words}I", data):
        mixed = word * _MIX & _MASK
        state = (state * _MIX ^ (mixed ^ mixed >> 24) * _MIX) & _MASK
    if tail := data[words << 2 :]:
        state = (state ^ int.from_bytes(tail, "little")) * _MIX & _MASK
    state ^= state >> 13
    state = state * _MIX & _MASK
    return state ^ state >> 15
