"""Answers of the API, as data. The client creates them; the judge reads them.

An answer is *understood* if it comes from the API in a documented form. Anything else is `NoAnswer`: a POST without
an understood answer has unknown fate (R13), and a GET without one is poll blindness.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from daemon.core.model import Error


class NoAnswerReason(StrEnum):
    """Why a call returned no understood answer; also the metric label."""

    TIMEOUT = "timeout"
    CONNECT_ERROR = "connect_error"
    PROTOCOL_ERROR = (
        "protocol_error"  # truncated, garbled, too large, or a 2xx that does not come from the API
    )


class NoAnswer(msgspec.Struct, frozen=True):
    reason: NoAnswerReason
    detail: str
    """For a log line: bounded, without secrets."""


class Refused(msgspec.Struct, frozen=True):
    """A non-2xx answer. The error object may be missing, for example in the answer of a load balancer."""

    status: int
    error: Error
    """`error.code` is None if the answer had none."""
    retry_after: float | None = None
    """Seconds, from ``Retry-After`` (delta or date form), never negative."""
    concurrency_limit: int | None = None
    concurrency_remaining: int | None = None
    api_time: int | None = None
    """The ``Date`` header as received, even if implausible; `coursesyncd check` compares clocks with it."""
    is_documented: bool = False
    """The content has the form of the API's errors, so it is hardly that of a proxy or load balancer."""


class Accepted(msgspec.Struct, frozen=True):
    """The POST created a task, or returned an existing one. Only the `created_at` of the task shows which (R14)."""

    task_id: str
    warnings: tuple[str, ...] = ()
    concurrency_limit: int | None = None
    concurrency_remaining: int | None = None
    api_time: int | None = None
    """The ``Date`` header; None if it is missing or implausible (`kombo.wire`)."""


class Done(msgspec.Struct, frozen=True):
    """The call was carried out, and the API makes no task of it (`Operation.makes_task`)."""

    course_id: str | None
    """The API's id of the course, if the answer has it."""
    origin_id: str | None = None
    """The origin id of the course, if the answer has it."""
    warnings: tuple[str, ...] = ()
    concurrency_limit: int | None = None
    concurrency_remaining: int | None = None
    api_time: int | None = None
    """As in `Accepted`."""


class ItemOutcome(msgspec.Struct, frozen=True, gc=False):
    """One entry of a completed task's ``data``."""

    origin_id: str
    succeeded: bool
    course_id: str | None
    error: Error | None


class TaskPending(msgspec.Struct, frozen=True):
    created_at: int
    api_time: int | None
    """As in `Accepted`. Without it nothing times out (R11)."""


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


SubmitAnswer = Accepted | Done | Refused | NoAnswer
PollAnswer = TaskPending | TaskCompleted | TaskFailed | Refused | NoAnswer


def error_of(answer: Refused | NoAnswer) -> Error:
    """Why the call was not successful, in the form of an error of the API."""
    if isinstance(answer, Refused):
        return answer.error
    return Error(None, f"No understood answer ({answer.reason.value}): {answer.detail}")
