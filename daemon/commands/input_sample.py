"""Looks at the last changes of the input: are all changes of a course in one partition?

Within a partition the daemon keeps the order of a course. Between partitions there is no order, and nothing in the daemon
notices that two partitions have the same course. So `check` reads a sample of all partitions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from daemon.codec import decode_change
from daemon.core.model import Change
from daemon.core.placement import PARTITIONERS, Misplacement, misplaced
from daemon.log.kafka.clients import KafkaConnection
from daemon.log.topic_access import read_topic

RECORDS_MAX = 10_000
"""Over all partitions, the newest of each. They are read in about a second."""
BYTES_MAX = 64 * 1024 * 1024
ITEM_BYTES_MAX = 1024 * 1024
"""The largest `batch.bytes_max`: how large a change may be is not checked here."""
SHOWN_MAX = 3
_LIBRDKAFKA = {"murmur2": "murmur2_random", "crc32": "consistent_random"}
"""The names of the partitioners there."""


class Complaint(NamedTuple):
    found: str
    to_do: str


@dataclass(slots=True)
class InputSample:
    partitions: int
    changes: int = 0
    courses: dict[tuple[str, str], set[int]] = field(default_factory=dict)
    """By integration and origin id: the partitions in which there is a change."""
    unkeyed: int = 0
    elsewhere: Counter[str] = field(default_factory=Counter)
    """By partitioner: changes that it would have put elsewhere."""
    example: dict[str, str] = field(default_factory=dict)
    """By partitioner: the first of them."""

    def add(self, partition: int, offset: int, change: Change, key: bytes | None) -> None:
        self.changes += 1
        self.courses.setdefault((change.integration_id, change.origin_id), set()).add(partition)
        self.unkeyed += key is None
        for partitioner in PARTITIONERS:
            for found in misplaced([(offset, key)], partition, self.partitions, partitioner):
                if found.reason is Misplacement.OTHER_PARTITION:
                    self.elsewhere[partitioner] += 1
                    where = (
                        f"offset {offset} of partition {partition}, expected in partition {found.expected}"
                    )
                    self.example.setdefault(partitioner, where)

    def complaints(self, partitioner: str) -> Iterator[Complaint]:
        """What is wrong if all publishers use this partitioner (`input.partitioner`)."""
        spread = {course: where for course, where in self.courses.items() if len(where) > 1}
        if spread:
            shown = "; ".join(
                f"{origin_id} of {integration_id} in {', '.join(map(str, sorted(where)))}"
                for (integration_id, origin_id), where in sorted(spread.items())[:SHOWN_MAX]
            )
            yield Complaint(
                f"{_courses(len(spread))} changes in several partitions (of the last {self.changes:,} changes): {shown}; "
                "there is no order among them, and a learning system may keep an older one",
                "give all changes of a course the same key, and all publishers the same partitioner (docs/publishing.md); "
                "then publish these courses again",
            )
        if partitioner not in PARTITIONERS:
            return
        if self.unkeyed:
            yield Complaint(
                f"{self.unkeyed:,} of the last {self.changes:,} changes have no key, so their client chose any partition",
                "publish with integration_id as the key; or, if your publishers choose the partition of a course "
                "themselves, set input.partitioner=any",
            )
        if self.elsewhere[partitioner]:
            yield Complaint(
                f"{self.elsewhere[partitioner]:,} of the last {self.changes:,} changes are not in the partition that "
                f"{partitioner} gives to their key, for example {self.example[partitioner]}",
                self._remedy(partitioner),
            )

    def _remedy(self, partitioner: str) -> str:
        for other in PARTITIONERS:
            if other != partitioner and not self.elsewhere[other]:
                return f"all of them fit {other}: set input.partitioner={other}"
        return (
            f"let all publishers use {partitioner} (confluent-kafka and other clients of librdkafka: "
            f"partitioner={_LIBRDKAFKA[partitioner]}); or, if your publishers choose partitions in another way, always "
            "the same one for a course, set input.partitioner=any"
        )


def read_sample(connection: KafkaConnection, topic: str, partitions: int) -> InputSample:
    """The newest changes of all partitions. Invalid records are left out.

    Raises:
        LogError: the topic could not be read.
    """
    sample = InputSample(partitions)
    size = 0
    for record in read_topic(connection, topic, start=max(1, RECORDS_MAX // partitions)):
        change = decode_change(
            record.offset,
            record.key,
            record.value,
            record.headers,
            consumed_at=record.timestamp,
            item_bytes_max=ITEM_BYTES_MAX,
        )
        if isinstance(change, Change):
            sample.add(record.partition, record.offset, change, record.key)
        size += len(record.value or b"")
        if size > BYTES_MAX:
            break
    return sample


def _courses(count: int) -> str:
    return "1 course has" if count == 1 else f"{count:,} courses have"
