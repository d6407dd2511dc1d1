"""The results topic as it grows: how many changes have their result, and which."""

from __future__ import annotations

from collections import Counter
from types import TracebackType
from typing import NamedTuple, Self

import msgspec
from kafka import TopicPartition
from kafka.errors import KafkaError

from daemon.log.kafka.clients import Clients, KafkaConnection
from daemon.log.port import LogError

RESOLVED = "course.sync.resolved"

Source = tuple[int, int]
"""Partition and offset of a change in the input topic."""


class _Place(msgspec.Struct):
    partition: int
    offset: int


class _Data(msgspec.Struct):
    status: str
    change: _Place


class _Event(msgspec.Struct):
    """What is read here of a result; the wire format has more."""

    type: str
    data: _Data


class Seen(NamedTuple):
    status: str
    timestamp: int
    """When the result was written, milliseconds since the epoch."""


class ResultsView:
    """Counts results as a `read_committed` consumer sees them. A context manager; for one thread.

    It believes the daemon and judges nothing: that is the checker's part.
    """

    def __init__(self, connection: KafkaConnection, topic: str) -> None:
        """Raises LogError when the topic can not be read."""
        self.statuses: Counter[str] = Counter()
        """The first result of each change, by status."""
        self.resolved: dict[Source, Seen] = {}
        """That result, by change."""
        self._decoder = msgspec.json.Decoder(_Event)
        try:
            self._consumer = Clients(connection).reader()
            partitions = [TopicPartition(topic, p) for p in self._consumer.partitions_for_topic(topic) or ()]
            self._consumer.assign(partitions)
            self._consumer.seek_to_beginning()
        except KafkaError as error:
            raise LogError(f"the results could not be read: {error}") from error

    def poll(self, timeout: float) -> int:
        """Read what is there; waits up to `timeout` seconds if nothing is. Returns how many changes got a result.

        Raises:
            LogError: the topic can not be read.
        """
        before = len(self.resolved)
        try:
            polled = self._consumer.poll(timeout_ms=int(timeout * 1000))
        except KafkaError as error:
            raise LogError(f"the results could not be read: {error}") from error
        for records in polled.values():
            for record in records:
                event = self._decoder.decode(record.value)
                source = (event.data.change.partition, event.data.change.offset)
                if event.type == RESOLVED and source not in self.resolved:
                    self.resolved[source] = Seen(event.data.status, record.timestamp)
                    self.statuses[event.data.status] += 1
        return len(self.resolved) - before

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._consumer.close()
