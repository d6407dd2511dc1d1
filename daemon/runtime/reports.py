"""Reports the events of one partition, and remembers its last reported condition."""

from __future__ import annotations

from daemon.core.model import Now
from daemon.core.shard import Shard
from daemon.core.step import Step
from daemon.runtime.failures import Failure
from daemon.telemetry.events import (
    DefectFound,
    InputUnreadable,
    Observer,
    PartitionBlocked,
    PartitionDropped,
    PartitionReopened,
    PartitionRestored,
    PartitionRestoring,
    PartitionRunning,
    StepCommitted,
)


class Reports:
    """A partition that is reported as blocked stays blocked in the reports until it is restored."""

    def __init__(self, partition: int, observer: Observer) -> None:
        self._partition = partition
        self._notify = observer.notify
        self._blocked: str | None = None
        """The message with which it is reported as blocked."""
        self._warning: str | None = None
        """What keeps it from being restored, although it is not blocked."""

    def restoring(self) -> None:
        if self._blocked is None:
            self._notify(PartitionRestoring(self._partition, self._warning))

    def restored(self, shard: Shard) -> None:
        self._blocked = self._warning = None
        tasks = len(shard.tasks())
        self._notify(
            PartitionRestored(self._partition, shard.next_read, shard.open_batches, tasks, shard.waiting)
        )

    def running(self) -> None:
        self._blocked = None
        self._notify(PartitionRunning(self._partition))

    def committed(self, step: Step, now: Now, seconds: float) -> None:
        self._notify(StepCommitted(self._partition, step, now, seconds))

    def dropped(self, failure: Failure) -> None:
        self._warning = failure.warning or self._warning
        self._notify(PartitionDropped(self._partition, failure.reason, failure.error or failure.sentence))
        self.restoring()

    def blocked(self, sentence: str) -> None:
        is_news, self._blocked = sentence != self._blocked, sentence
        self._notify(PartitionBlocked(self._partition, sentence, is_news))

    def reopened(self, sentence: str) -> None:
        self._notify(PartitionReopened(self._partition, sentence))

    def unreadable(self, offset: int, sentence: str) -> None:
        self._notify(InputUnreadable(self._partition, offset, sentence))

    def defect(self, error: Exception) -> None:
        self._notify(DefectFound(self._partition, error))
