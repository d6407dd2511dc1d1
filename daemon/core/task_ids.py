"""The ids of the tasks that a shard polls or watches, to detect an id that the API has given to several batches.

The vendor's API returns an existing task only for equal bytes (`docs/kombo-api.md`, "Idempotency and the three traps").
Two submissions that are open in a shard at the same time never have equal bytes, because they hold different courses.
So an id that is already in use here is a fault of the API. Each of these batches is polled and ends by itself: an item
that the shared task does not report counts as missing. The number of batches with the same id is bounded by the number
of open submissions.
"""

from __future__ import annotations


class TaskIds:
    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        """The number of batches with this task id."""

    def add(self, task_id: str) -> bool:
        """A batch has this task from now on. Returns whether another batch has it as well."""
        count = self._counts.get(task_id, 0)
        self._counts[task_id] = count + 1
        return count > 0

    def remove(self, task_id: str) -> None:
        """The task of one batch is neither polled nor watched any longer."""
        count = self._counts.pop(task_id) - 1
        if count:
            self._counts[task_id] = count
