"""Follows the results topic: how many changes have a result, and which result."""

from __future__ import annotations

from collections import Counter
from types import TracebackType
from typing import NamedTuple, Self

import msgspec
from kafka import TopicPartition
from kafka.errors import KafkaError

from daemon.log.errors import LogError
from daemon.log.kafka.clients import Clients, KafkaConnection

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
    """The part of a result that is read here. The wire format has more fields."""

    type: str
    data: _Data


class Seen(NamedTuple):
    status: str
    timestamp: int
    """When the result was written, milliseconds since the epoch."""


class ResultsView:
    """Counts results as a `read_committed` consumer sees them. A context manager, for use in one thread.

    It does not verify the results: the checker does.
    """

    def __init__(self, connection: KafkaConnection, topic: str) -> None:
        """Raises LogError if the topic cannot be read."""
        self.statuses: Counter[str] = Counter()
        """The first result of each change, by status."""
        self.resolved: dict[Source, Seen] = {}
        """The first result of each change, by change."""
        self._decoder = msgspec.json.Decoder(_Event)
        try:
            self._consumer = Clients(connection).reader()
            partitions = [TopicPartition(topic, p) for p in self._consumer.partitions_for_topic(topic) or ()]
            self._consumer.assign(partitions)
            self._consumer.seek_to_beginning()
        except KafkaError as error:
            raise LogError(f"the results could not be read: {error}") from error

    def poll(self, timeout: float) -> int:
        """Read available results. If there are none, wait up to `timeout` seconds. Returns how many changes got a result.

        Raises:
            LogError: the topic cannot be read.
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
