"""A partition that was paused delivers nothing after it is resumed.

Defect: records that were fetched for a partition before it was paused are buffered. While they are buffered, nothing more
    is fetched for it. `Fetcher.fetched_records` delivers them only when no partition is being read (``if
    self._next_partition_records is None``), but a partition that has been read to the end of its fetch leaves its empty
    records in that field. A resumed partition then stands still, without a log line, until another partition is paused
    while it is being read. On a quiet topic that never happens.
Upstream: buffering came with https://github.com/dpkp/kafka-python/pull/2981 (KAFKA-7548). The defect is not reported;
    https://github.com/dpkp/kafka-python/issues/3131 (closed) has the same symptom.
Versions: 3.0.12.
Remove when: tests/unit/test_kafka_cures.py::test_records_that_are_used_up_still_keep_others_buffered fails.
    tests/log_port/test_kafka_pauses.py shows the cure on a broker.
"""

from __future__ import annotations

from typing import Any

from kafka.consumer.fetcher import Fetcher


class ResumedRecordsAreDelivered(Fetcher):  # type: ignore[misc]
    """`fetched_records` runs in the thread that polls, like every other method that sets this field."""

    _next_partition_records: Any

    def fetched_records(self, *args: Any, **kwargs: Any) -> Any:
        if not self._next_partition_records:  # None, or used up
            self._next_partition_records = None
        return super().fetched_records(*args, **kwargs)
