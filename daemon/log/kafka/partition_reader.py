"""Reading one partition from any offset: to restore a journal, or to look at another topic."""

from __future__ import annotations

import time
from typing import NamedTuple

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError, OffsetOutOfRangeError, RetriableError

from daemon.log.errors import CorruptJournalError, HeldBackError, LogError, UnreadableError
from daemon.log.kafka.authorization_errors import explained
from daemon.log.kafka.clients import Clients
from daemon.log.kafka.cures.fetching import UnreadableBatchError
from daemon.log.kafka.worker import report_progress
from daemon.log.port import Record

PATIENCE = 60.0
"""Seconds without progress after which a read fails. A broker restart takes less."""

POLL_MS = 200
RETRY_PAUSE = 0.2


class Piece(NamedTuple):
    records: list[Record]
    """May be empty: compaction, aborted transactions and control records leave gaps."""
    next_offset: int
    """Where to continue reading; always greater than the offset before."""


class PartitionReader:
    """A consumer of one partition outside any group. Methods block; call them from one thread."""

    def __init__(self, clients: Clients, topic: str, partition: int, *, undecided: bool = False) -> None:
        """With ``undecided``, records of open and aborted transactions are read too."""
        self._clients = clients
        self._undecided = undecided
        self._tp = TopicPartition(topic, partition)
        self._consumer: KafkaConsumer | None = None
        self._position: int | None = None

    def read(self, offset: int, records_max: int, patience: float | None = None) -> Piece:
        """The records from `offset`, which must be below the end: at least one record or a gap.

        Raises:
            HeldBackError: a transaction stayed open at this offset for `patience` seconds (default: `PATIENCE`).
            UnreadableError: the record at this offset is damaged or too large.
            CorruptJournalError: the offset is beyond the end, or was deleted.
            LogError: no progress within `patience` seconds, or the cluster refuses.
        """
        try:
            deadline = time.monotonic() + (PATIENCE if patience is None else patience)
            return self._read(self._at(offset), offset, records_max, deadline)
        except OffsetOutOfRangeError as error:
            self._position = None
            raise CorruptJournalError(f"{self._name} has no offset {offset}") from error
        except UnreadableBatchError as error:
            self._position = None
            raise UnreadableError(
                self._tp.topic, self._tp.partition, error.offset, error.next_offset, error.reason
            ) from error
        except KafkaError as error:
            self.close()
            why = explained(error, "Read", f"topic {self._tp.topic}")
            raise LogError(f"{self._name} could not be read: {why}") from error

    def _read(self, consumer: KafkaConsumer, offset: int, records_max: int, deadline: float) -> Piece:
        tried = False
        while True:
            report_progress()
            try:
                polled = consumer.poll(timeout_ms=POLL_MS, max_records=records_max)
            except UnreadableBatchError:
                if tried:
                    raise
                polled, tried = {}, True  # fetched a second time; the data may have been damaged in transit
            except RetriableError:
                polled = {}
                time.sleep(RETRY_PAUSE)
            position = consumer.position(self._tp, timeout_ms=POLL_MS)
            if position is not None and position > offset:
                self._position = position
                return Piece(polled.get(self._tp, []), position)
            if time.monotonic() > deadline:
                # For a reader of committed records the partition ends where the first open transaction starts.
                if consumer.end_offsets([self._tp])[self._tp] == offset:
                    raise HeldBackError(self._tp.topic, self._tp.partition, offset)
                raise LogError(
                    f"{self._name} could not be read past offset {offset}: no progress within the time limit"
                )

    def close(self) -> None:
        """Idempotent. The reader opens again when it is used."""
        consumer, self._consumer, self._position = self._consumer, None, None
        if consumer is not None:
            consumer.close(autocommit=False, timeout_ms=1000)

    @property
    def _name(self) -> str:
        return f"{self._tp.topic} partition {self._tp.partition}"

    def _at(self, offset: int) -> KafkaConsumer:
        if self._consumer is None:
            self._consumer = self._clients.reader(undecided=self._undecided)
            self._consumer.assign([self._tp])
            self._position = None
        if self._position != offset:
            self._consumer.seek(self._tp, offset)
            self._position = None  # until this read has succeeded
        return self._consumer
