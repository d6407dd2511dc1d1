"""Publishes generated records to a topic, at a constant rate."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from daemon.log.kafka.clients import KafkaConnection
from daemon.log.topic_access import Publisher
from tests.sandbox.generator.records import GeneratedRecord

_STEP_SECONDS_MIN = 0.005
"""Shorter sleeps cost more than they smooth. Records that are due within this time are sent together."""


def publish_records(
    records: Iterable[GeneratedRecord],
    connection: KafkaConnection,
    topic: str,
    *,
    rate: float | None = None,
    head_start: int = 0,
    on_sent: Callable[[int], None] = lambda _: None,
) -> int:
    """Send all records and return how many the cluster has confirmed.

    `rate` is records per second; None means as fast as possible. After a pause of this process, the missed records are sent
    at once: record n is due n / rate seconds after the first. The first `head_start` records are due at once, and all others
    correspondingly earlier. `on_sent` is called periodically with the number of records handed over so far. It may raise to
    stop.

    Raises:
        LogError: the cluster does not answer or does not accept a record.
    """
    with Publisher(connection, topic) as publisher:
        began = time.monotonic()
        count = 0
        for count, record in enumerate(records, start=1):
            if rate is not None:
                ahead = began + (count - 1 - head_start) / rate - time.monotonic()
                if ahead > _STEP_SECONDS_MIN:
                    on_sent(count - 1)
                    time.sleep(ahead)
            publisher.send(record.key, record.value, record.headers)
            if count % 1000 == 0:
                on_sent(count)
        publisher.flush()
        on_sent(count)
        return publisher.confirmed
