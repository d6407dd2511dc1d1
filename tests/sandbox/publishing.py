"""Publishes generated changes in the background."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

from daemon.log.kafka.clients import KafkaConnection
from tests.sandbox.generator import Plan, generate_records, publish_records


class Publishing:
    """A context manager: inside it, a thread publishes. At the end the thread is stopped, finished or not."""

    def __init__(
        self, connection: KafkaConnection, topic: str, plan: Plan, rate: float, head_start: int = 0
    ) -> None:
        """`rate` is records per second, after the first `head_start` records."""
        self.published = 0
        """Number of records handed over so far. Exact once `done`."""
        self._stop = threading.Event()
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
                generate_records(plan),
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

    def _on_sent(self, count: int) -> None:
        if self._stop.is_set():
            raise _StoppedError
        self.published = count


class _StoppedError(Exception):
    """Stops the publishing of the remaining records."""
