"""What the schedule of polls contains: polls of tasks, the probe of our own key, and the turns of integrations with an own rate."""

from __future__ import annotations

from typing import NamedTuple, assert_never

from daemon.core.batch import LateTask, OpenTask
from daemon.core.shard import Shard
from daemon.runtime.partition import Partition


class KeyProbe(NamedTuple):
    """A scheduled call that is made for no integration and shows whether the API accepts our own key."""


KEY_PROBE = KeyProbe()


class Paced(NamedTuple):
    """The next time at which the own rate of an integration allows one of its polls that are due."""

    integration_id: str


class Pending(NamedTuple):
    """A scheduled poll, of the task of a batch or of a task that timed out and is still watched."""

    partition: Partition
    shard: Shard
    id: str
    """Id of the batch."""
    late: bool

    def task(self) -> OpenTask | LateTask | None:
        """The task to poll. None if the task or the shard has ended."""
        if self.partition.shard is not self.shard:
            return None
        return self.shard.late_task(self.id) if self.late else self.shard.task(self.id)


PollEntry = Pending | KeyProbe | Paced


def integration_of(entry: PollEntry) -> str | None:
    """None for the probe of the key, and for a task that has ended."""
    match entry:
        case Paced(integration_id):
            return integration_id
        case Pending():
            task = entry.task()
            return None if task is None else task_integration(task)
        case KeyProbe():
            return None
        case _:
            assert_never(entry)


def task_integration(task: OpenTask | LateTask) -> str:
    return task.integration_id if isinstance(task, OpenTask) else task.record.integration_id


def task_accepted_at(task: OpenTask | LateTask) -> int:
    return task.accepted_at if isinstance(task, OpenTask) else task.record.accepted_at


def task_items(task: OpenTask | LateTask) -> int:
    return len(task.items)
