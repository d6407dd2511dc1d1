"""Following the control topic: its only partition, from the beginning, outside any group."""

from __future__ import annotations

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError, OffsetOutOfRangeError

from daemon.log.errors import LogError
from daemon.log.kafka.authorization_errors import explained
from daemon.log.kafka.clients import Clients
from daemon.log.port import ControlRead

POLL_MS = 1000
"""How long a read waits for new records."""
RECORDS_MAX = 500


class ControlReader:
    """Methods block; call them from one thread."""

    def __init__(self, clients: Clients, topic: str) -> None:
        self._clients = clients
        self._tp = TopicPartition(topic, 0)
        self._consumer: KafkaConsumer | None = None

    def read(self, offset: int | None) -> ControlRead:
        """See `EventLog.read_control`."""
        try:
            return self._read(offset)
        except OffsetOutOfRangeError:
            self.close()
            return self.read(None)
        except KafkaError as error:
            self.close()
            why = explained(error, "Read", f"topic {self._tp.topic}")
            raise LogError(f"{self._tp.topic} could not be read: {why}") from error

    def _read(self, offset: int | None) -> ControlRead:
        is_first, consumer = offset is None, self._consumer
        if consumer is None:
            consumer = self._consumer = self._clients.reader()
            consumer.assign([self._tp])
            if offset is not None:
                consumer.seek(self._tp, offset)
        if offset is None:
            consumer.seek_to_beginning(self._tp)
            offset = consumer.beginning_offsets([self._tp])[self._tp]
        # Asks the broker every time, so a topic that cannot be read is noticed although it has no news.
        end = consumer.end_offsets([self._tp])[self._tp]
        records = consumer.poll(timeout_ms=POLL_MS, max_records=RECORDS_MAX).get(self._tp, [])
        position = consumer.position(self._tp, timeout_ms=POLL_MS)
        return ControlRead(
            records,
            offset if position is None else position,
            is_first=is_first,
            at_end=position is not None and position >= end,
        )

    def close(self) -> None:
        """Idempotent. The reader opens again when it is used."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close(autocommit=False, timeout_ms=1000)
