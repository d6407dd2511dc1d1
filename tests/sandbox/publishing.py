"""Publishes generated changes in the background."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from daemon.log.kafka.clients import KafkaConnection
from tests.sandbox.generator import GeneratedRecord, Plan, generate_records, publish_records

_HOLD_STEP = 0.05
"""Seconds between two looks whether to stop while records are held."""


class Publishing:
    """A context manager: inside it, a thread publishes. At the end the thread is stopped, finished or not."""

    def __init__(
        self,
        connection: KafkaConnection,
        topic: str,
        plan: Plan,
        rate: float,
        head_start: int = 0,
        hold_at: int | None = None,
    ) -> None:
        """`rate` is records per second, after the first `head_start` records. The records from number `hold_at` on wait for
        `release`, and are then sent as fast as possible until the rate is reached."""
        self.published = 0
        """Number of records handed over so far. Exact once `done`."""
        self._stop = threading.Event()
        self._released = threading.Event()
        self._hold_at = hold_at
        self._failure: BaseException | None = None
        self._thread = threading.Thread(
            target=self._publish, args=(connection, topic, plan, rate, head_start), name="publishing"
        )

    @property
    def done(self) -> bool:
        """Whether every record is confirmed. Raises the error if publishing failed."""
        if self._failure is not None:
            raise self._failure
        return not self._thread.is_alive()

    def release(self) -> None:
        """Publish the records that are held. Idempotent."""
        self._released.set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _publish(
        self, connection: KafkaConnection, topic: str, plan: Plan, rate: float, head_start: int
    ) -> None:
        try:
            publish_records(
                self._held(generate_records(plan)),
                connection,
                topic,
                rate=rate,
                head_start=head_start,
                on_sent=self._on_sent,
            )
        except _StoppedError:
            pass
        except BaseException as failure:
            self._failure = failure

    def _held(self, records: Iterator[GeneratedRecord]) -> Iterator[GeneratedRecord]:
        for number, record in enumerate(records):
            if number == self._hold_at:
                while not self._released.wait(_HOLD_STEP):
                    self._on_sent(number)
            yield record

    def _on_sent(self, count: int) -> None:
        if self._stop.is_set():
            raise _StoppedError
        self.published = count


class _StoppedError(Exception):
    """Stops the publishing of the remaining records."""
