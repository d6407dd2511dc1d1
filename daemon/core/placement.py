"""Which partition a publisher's client gives to a key.

The order of changes (C2) and convergence (C8) hold for a course whose changes are all in one partition. Two clients put the
same key into different partitions if their partitioners differ. Two partitioners are in wide use, and both are the default
of their clients:

* murmur2: Java, kafka-python, KafkaJS, franz-go, ``coursesyncd publish``; librdkafka with ``partitioner=murmur2_random``.
* crc32: librdkafka (confluent-kafka for Python, Go and .NET) with its default ``partitioner=consistent_random``.

The check compares each key with the partition that its record came in. It needs no knowledge of other partitions, and it is
right whatever the key identifies (an integration, or a course) and however the replicas share the partitions.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import NamedTuple

from murmurhash2 import murmurhash2

_SEED = 0x9747B28C
"""That of ``Utils.murmur2`` of the Java client."""


_HASHES: dict[str, Callable[[bytes], int]] = {
    "murmur2": lambda key: murmurhash2(key, _SEED) & 0x7FFFFFFF,
    "crc32": zlib.crc32,
}

PARTITIONERS = tuple(_HASHES)


def place(key: bytes, partitions: int, partitioner: str = "murmur2") -> int:
    """The partition of a key in a topic with this many partitions, numbered from 0 without gaps. `partitioner` is a value
    of `input.partitioner`, but not ``any``.
    """
    return _HASHES[partitioner](key) % partitions


class Misplacement(StrEnum):
    """Why a record may not be in the partition of the other changes of its course."""

    OTHER_PARTITION = "other_partition"  # its key belongs in another partition
    NO_KEY = "no_key"  # the client chose any partition


class Misplaced(NamedTuple):
    offset: int
    expected: int | None
    """The partition of its key; None if it has no key."""

    @property
    def reason(self) -> Misplacement:
        return Misplacement.NO_KEY if self.expected is None else Misplacement.OTHER_PARTITION


def misplaced(
    keys: Iterable[tuple[int, bytes | None]], partition: int, partitions: int, partitioner: str
) -> list[Misplaced]:
    """Those of these records of one partition (offset and key) that their partitioner would have put elsewhere."""
    if partitioner not in _HASHES or partitions == 1:
        return []
    found = []
    for offset, key in keys:
        if key is None or (key == b"" and partitioner == "crc32"):
            expected = None  # librdkafka treats an empty key like none
        else:
            expected = place(key, partitions, partitioner)
        if expected != partition:
            found.append(Misplaced(offset, expected))
    return found
