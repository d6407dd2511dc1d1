"""Where a record with a key goes: Kafka's own rule, computed faster.

Every client of Kafka places a key by murmur2, so that consumers of the results may count on it. The
library's default spends a third of the cost of producing a record on this; the same hash, with the words
unpacked at once and masked once a round, takes less than half of that.
"""

from __future__ import annotations

import struct
from typing import Any

from kafka.partitioner.default import DefaultPartitioner

_SEED = 0x9747B28C
_MIX = 0x5BD1E995
_MASK = 0xFFFFFFFF


class KeyPartitioner(DefaultPartitioner):  # type: ignore[misc]
    """The library's default partitioner; records without a key still go anywhere."""

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
    """The partition of a key, in a topic of so many: they are numbered from 0 without gaps."""
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
