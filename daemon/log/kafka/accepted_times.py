"""The times that a broker accepts for records, from its refusal of one.

Brokers refuse records whose time is too far from their own clock, and name the range (``message.timestamp.after.max.ms`` and
``message.timestamp.before.max.ms``, KIP-937). Since Kafka 3.6; by default one hour ahead, and any time back.
"""

from __future__ import annotations

import re
import time
from typing import NamedTuple, Self

from kafka.errors import KafkaError

from daemon.codec.times import iso_ms
from daemon.log.kafka.admin import TopicFacts
from daemon.log.kafka.clients import Clients

_RANGE = re.compile(r"[Tt]imestamp (\d+) .*\[(-?\d+), (-?\d+)\]")
_FAR_AHEAD_MS = 7_258_118_400_000
"""The year 2200."""
_LIMIT_MAX_MS = 10 * 365 * 86_400_000
"""A topic with a larger limit accepts times that no clock has."""
_ANSWER_WITHIN = 15.0


class AcceptedTimes(NamedTuple):
    """All in ms since the epoch."""

    record: int
    """The time of the refused record."""
    first: int
    last: int

    @classmethod
    def of(cls, refusal: str) -> Self | None:
        """From the text of a refusal; None if it is about something else."""
        found = _RANGE.search(refusal)
        return None if found is None else cls(*map(int, found.groups()))

    def __str__(self) -> str:
        last = iso_ms(self.last)
        return f"from {iso_ms(self.first)} to {last}" if self.first > 0 else f"up to {last}"


class BrokerClock(NamedTuple):
    ahead: float
    """Seconds by which the clock of this host is ahead of the broker's; negative if it is behind."""
    ahead_max: float
    """Seconds by which the time of a record may be ahead."""


def broker_clock(clients: Clients, topic: TopicFacts) -> BrokerClock | None:
    """Compare the clock of this host with that of a broker. None if the brokers do not limit the times of this topic, or do
    not answer in the known form. Blocks.

    No request returns a broker's time. So this offers a record from a far future, which the broker refuses: nothing is
    written. Requires the right to write to the topic.
    """
    limit = topic.configs.get("message.timestamp.after.max.ms", "")
    if topic.configs.get("message.timestamp.type") != "CreateTime" or not limit.isdecimal():
        return None
    if int(limit) > _LIMIT_MAX_MS:
        return None  # it would be accepted
    try:
        producer = clients.plain_producer()
    except KafkaError:
        return None
    try:
        producer.partitions_for(topic.name)  # so that the time below is that of one request
        began = time.time()
        future = producer.send(topic.name, b"", b"", partition=0, timestamp_ms=_FAR_AHEAD_MS)
        future.get(_ANSWER_WITHIN)
    except KafkaError as error:
        times = AcceptedTimes.of(str(error))
        if times is None:
            return None
        halfway = (began + time.time()) / 2
        return BrokerClock(halfway - (times.last - int(limit)) / 1000, int(limit) / 1000)
    else:
        return None
    finally:
        producer.close(timeout=1)
