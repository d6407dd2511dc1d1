"""A cure for paused partitions that do not go on when they are resumed.

Records that a partition has fetched when it is paused are parked, and while they are, nothing more of it is
fetched. kafka-python 3.0.12 unparks them when no partition is being read from (`Fetcher.fetched_records`:
``if self._next_partition_records is None``). But a partition that has been read to the end of what was
fetched leaves its empty records behind there. A resumed partition then stands still, though nothing says
so, until another one happens to be paused while it is read from: for ever, if none is.
"""

from __future__ import annotations

from typing import Any

from kafka import KafkaConsumer

from daemon.log.kafka.fetching import BoundedFetcher


class _Fetcher(BoundedFetcher):
    """`fetched_records` runs in the thread that polls, like everything else that sets what it looks at."""

    _next_partition_records: Any

    def fetched_records(self, *args: Any, **kwargs: Any) -> Any:
        if not self._next_partition_records:  # none, or none left in it
            self._next_partition_records = None
        return super().fetched_records(*args, **kwargs)


def unpark_what_is_resumed(consumer: KafkaConsumer) -> None:
    """Cure a consumer that is bound (`fetching.bound`) already."""
    consumer._fetcher.__class__ = _Fetcher  # noqa: SLF001
