"""The port to the API: two calls, answers as data. They never raise for what the network does."""

from __future__ import annotations

from typing import Protocol

from daemon.core.answers import PollAnswer, SubmitAnswer
from daemon.core.operation import Operation


class KomboApi(Protocol):
    async def submit(self, operation: Operation, integration_id: str, body: bytes) -> SubmitAnswer:
        """The call that this operation is, with exactly these bytes; returns within the total deadline."""
        ...

    async def poll(self, integration_id: str, task_id: str) -> PollAnswer:
        """GET /lms/courses/bulk/{task_id}; returns within the total deadline."""
        ...

    async def close(self) -> None: ...
