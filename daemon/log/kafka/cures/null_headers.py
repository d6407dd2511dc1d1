"""A record with a header whose value is null cannot be sent.

Defect: Kafka allows null for a header's value, and the library reads and encodes it. But `KafkaProducer.send` refuses it, and
    `ProducerBatch.try_append` takes the length of each value, only to report the size of the headers. A dead letter keeps the
    headers of the rejected record, and an empty value is not null.
Cure: `send_all` does not use `KafkaProducer.send`. A list of headers that counts as false has no size to report.
Upstream: not reported.
Versions: 3.0.12.
Remove when: tests/unit/test_kafka_cures.py::test_a_null_header_still_cannot_be_sent fails.
"""

from __future__ import annotations

from collections.abc import Iterable


class NullableHeaders(list[tuple[str, bytes | None]]):
    """Headers, of which some may be null."""

    def __init__(self, headers: Iterable[tuple[str, bytes | None]]) -> None:
        super().__init__(headers)

    def __bool__(self) -> bool:
        return False
