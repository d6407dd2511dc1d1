"""All cures of a consumer, put together.

Defect: the library has no setting for another fetcher or group coordinator, so the class of the existing objects is
    replaced. Each base class cures one defect (the fetchers two); to delete a cure, delete its module and its name here.
Upstream: not reported.
Versions: 3.0.12.
Remove when: every base class below is gone.
"""

from __future__ import annotations

from functools import partial

from kafka import KafkaConsumer

from daemon.log.kafka.cures.abandoned_join import JoinIsCompleted
from daemon.log.kafka.cures.buffered_records import ResumedRecordsAreDelivered
from daemon.log.kafka.cures.busy_poll import PollWaits
from daemon.log.kafka.cures.fetching import BoundedFetcher, BoundedPartitionRecords
from daemon.log.kafka.cures.forgotten_join import JoinIsRemembered
from daemon.log.kafka.cures.lost_member_id import MemberIdIsKept
from daemon.log.kafka.cures.quiet_close import CloseIsQuiet


class _GroupFetcher(ResumedRecordsAreDelivered, BoundedFetcher):
    pass


class _GroupCoordinator(JoinIsRemembered, JoinIsCompleted, PollWaits, MemberIdIsKept, CloseIsQuiet):
    pass


def cure_reader(consumer: KafkaConsumer, record_batch_bytes_max: int) -> None:
    """Cure a new consumer that belongs to no group."""
    _replace_fetcher(consumer, BoundedFetcher, record_batch_bytes_max)


def cure_group_consumer(consumer: KafkaConsumer, record_batch_bytes_max: int) -> None:
    """Cure a new group consumer. Must be called before it subscribes."""
    _replace_fetcher(consumer, _GroupFetcher, record_batch_bytes_max)
    consumer._coordinator.__class__ = _GroupCoordinator  # noqa: SLF001


def _replace_fetcher(
    consumer: KafkaConsumer, kind: type[BoundedFetcher], record_batch_bytes_max: int
) -> None:
    fetcher = consumer._fetcher  # noqa: SLF001
    fetcher.__class__ = kind
    fetcher.PartitionRecords = partial(BoundedPartitionRecords, limit=record_batch_bytes_max)
