"""The port to the API: two calls, answers as data. They never raise for what the network does."""

from __future__ import annotations

from typing import Protocol

from daemon.core.answers import PollAnswer, SubmitAnswer


class KomboApi(Protocol):
    async def submit(self, integration_id: str, body: bytes) -> SubmitAnswer:
        """POST /lms/courses/bulk with exactly these bytes; returns within the total deadline."""
        ...

    async def poll(self, integration_id: str, task_id: str) -> PollAnswer:
        """GET /lms/courses/bulk/{task_id}; returns within the total deadline."""
        ...

    async def close(self) -> None: ...
