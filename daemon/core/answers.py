"""What the API answered, as data. The client makes these; the verdict table reads them.

An answer is *understood* when it is the API's own word in a documented form. Everything else is
``NoAnswer``: a POST without an understood answer has unknown fate (R13), a GET without one is poll
blindness.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from daemon.core.model import Error


class NoAnswerReason(StrEnum):
    """Why a call brought no understood answer; also the metric label."""

    TIMEOUT = "timeout"
    CONNECT_ERROR = "connect_error"
    PROTOCOL_ERROR = "protocol_error"  # cut short, garbled, too large, 2xx that is not the API's


class NoAnswer(msgspec.Struct, frozen=True):
    reason: NoAnswerReason
    detail: str
    """For a log line: bounded, without secrets."""


class Refused(msgspec.Struct, frozen=True):
    """A non-2xx answer, with the API's error object or (a load balancer's) without."""

    status: int
    error: Error
    """``error.code`` is None where the answer carried none."""
    retry_after: float | None = None
    """Seconds, from ``Retry-After`` (delta or date form), never negative."""
    concurrency_limit: int | None = None
    concurrency_remaining: int | None = None
    api_time: int | None = None
    """The ``Date`` header as it came, however absurd; `coursesyncd check` compares clocks by it."""


class Accepted(msgspec.Struct, frozen=True):
    """The POST made, or found, a task. Whether it is fresh only its ``created_at`` tells (R14)."""

    task_id: str
    warnings: tuple[str, ...] = ()
    concurrency_limit: int | None = None
    concurrency_remaining: int | None = None
    api_time: int | None = None
    """The ``Date`` header, unless it is absurd (`kombo.wire`)."""


class ItemOutcome(msgspec.Struct, frozen=True, gc=False):
    """One entry of a completed task's ``data``."""

    origin_id: str
    succeeded: bool
    course_id: str | None
    error: Error | None


class TaskPending(msgspec.Struct, frozen=True):
    created_at: int
    api_time: int | None
    """As in `Accepted`; without it nothing times out (R11)."""


class TaskCompleted(msgspec.Struct, frozen=True):
    created_at: int
    completed_at: int | None
    outcomes: tuple[ItemOutcome, ...]
    api_time: int | None = None


class TaskFailed(msgspec.Struct, frozen=True):
    created_at: int
    completed_at: int | None
    error: Error
    api_time: int | None = None


SubmitAnswer = Accepted | Refused | NoAnswer
PollAnswer = TaskPending | TaskCompleted | TaskFailed | Refused | NoAnswer
