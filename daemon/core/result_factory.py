"""Builds results from what is known about a change and about the submission that decided it."""

from __future__ import annotations

from msgspec import UNSET

from daemon.core.batch import Batch
from daemon.core.journal import Attempt
from daemon.core.model import Error, FailureScope, Item, Now, Rejection, Result, Status, Trace
from daemon.core.operation import Operation

OWN_CODES = "COURSESYNC."
"""How the codes of the daemon's own errors begin."""
_NO_ATTEMPT = Attempt("")


def attempt_of(
    batch: Batch,
    error: Error | None = None,
    completed_at: int | None = None,
    *,
    is_shared: bool | None = None,
) -> Attempt:
    """`is_shared`: whether the items failed together. None: the whole batch ended in one way."""
    shared = (len(batch.items) > 1 if is_shared is None else is_shared) and error is not None
    return Attempt(batch.id, error, batch.task_id, batch.accepted_at, completed_at, shared or UNSET)


def result_of(
    operation: Operation,
    integration_id: str,
    item: Item,
    status: Status,
    now: Now,
    *,
    attempt: Attempt | None = None,
    course_id: str | None = None,
    superseded_by: int | None = None,
    trace: Trace | None = None,
) -> Result:
    deciding = attempt or _NO_ATTEMPT
    return Result(  # by position: by name it takes four times as long
        item.offset,
        status,
        integration_id,
        item.origin_id,
        item.change_id,
        item.consumed_at,
        now.wall,
        item.seal_count,
        course_id,
        deciding.error,
        superseded_by,
        deciding.batch_id or None,
        deciding.task_id,
        deciding.submitted_at,
        deciding.completed_at,
        operation.event_type,
        _scope(deciding) if status is Status.FAILED else None,
        trace,
    )


def _scope(attempt: Attempt) -> FailureScope | None:
    """Only the API's own errors have one."""
    code = None if attempt.error is None else attempt.error.code
    if not attempt.batch_id or (code is not None and code.startswith(OWN_CODES)):
        return None
    return FailureScope.BATCH if attempt.is_shared is True else FailureScope.OWN


def result_of_rejection(rejection: Rejection, now: Now) -> Result:
    return Result(
        offset=rejection.offset,
        status=Status.REJECTED,
        integration_id=rejection.integration_id,
        origin_id=rejection.origin_id,
        change_id=rejection.change_id,
        consumed_at=rejection.consumed_at,
        resolved_at=now.wall,
        error=rejection.error,
        trace=rejection.trace,
    )
