"""The port to the API: two calls that return answers as data. They never raise because of network errors."""

from __future__ import annotations

from typing import Protocol

from daemon.core.answers import PollAnswer, SubmitAnswer
from daemon.core.operation import Operation


class KomboApi(Protocol):
    async def submit(self, operation: Operation, integration_id: str, body: bytes) -> SubmitAnswer:
        """Make the call of this operation with exactly these bytes. Returns within the total deadline."""
        ...

    async def poll(self, integration_id: str, task_id: str, items: int) -> PollAnswer:
        """GET /lms/courses/bulk/{task_id}. Returns within the total deadline.

        `items` is the number of items of the task, from which the maximum size of the answer follows.
        """
        ...

    async def close(self) -> None: ...
