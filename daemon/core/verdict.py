"""What an error of the API means: one table for each of the four places where it can occur.

Sources: the vendor's error guide and OpenAPI description (`docs/kombo-api.md`, "Error codes"). The code decides. The
HTTP status decides only if there is no code. The text of a message never decides. The family of an unknown code (the
part before or after the dot) decides, then the status. `docs/verdicts.md` is generated from this module.

These functions see only the error. `core.judge` adds what depends on more: the key of the call, a POST of unknown
fate, the age of a task. It gives each answer its one verdict.
"""

from __future__ import annotations

from enum import StrEnum


class SubmitVerdict(StrEnum):
    """What the answer to a POST means for the batch."""

    ACCEPTED = "accepted"  # the API has a task for it
    DONE = "done"  # the call was carried out, and there is no task: its change has succeeded
    RETRY = "retry"  # the same bytes again, after a back-off
    SPLIT = "split"  # halve the batch, down to the item that is refused
    PARK = "park"  # the same bytes again, at the slow pace of an integration that waits for its customer
    FATE_UNKNOWN = (
        "fate_unknown"  # an earlier POST may have created a task: the same bytes again, as slowly as for PARK
    )
    OUR_SIDE = "our_side"  # our own key or address is refused, only here so far: the same bytes again, as for PARK (C7)
    FAIL = "fail"  # its changes end
    UNCONFIRMED = "unconfirmed"  # a call without a task is refused, and an earlier one may have been carried out: its change ends
    HALT = "halt"  # our own key or address is refused: nothing is sent, for any integration
    REKEYED = "rekeyed"  # refused for a key that is no longer in use: the same bytes again


class TaskVerdict(StrEnum):
    """What the error of a task that ended `FAILED` means: none of its items was processed."""

    RESUBMIT = "resubmit"  # the items again, in a fresh body, a limited number of times
    SPLIT = "split"  # halve the batch, down to the item that is refused
    PARK = "park"  # the items again, once the customer has fixed the integration
    FAIL = "fail"  # its changes end
    TIMED_OUT = "timed_out"  # its changes end: the API itself timed the task out
    OUR_SIDE = "our_side"  # our own key or address was refused: the items again, however often (C7)


class ItemVerdict(StrEnum):
    """What the outcome of an item of a completed task means."""

    SUCCEEDED = "succeeded"
    RESUBMIT = "resubmit"  # the item again, in a fresh body, a limited number of times
    FAIL = "fail"  # the change ends
    SPLIT = (
        "split"  # all items failed together: halve the batch, because one of them may have failed the others
    )
    OUR_SIDE = "our_side"  # our own key or address was refused: the item again, however often (C7)


class PollVerdict(StrEnum):
    """What the answer to a GET means for the task."""

    PENDING = "pending"  # poll again later
    OVERDUE = "overdue"  # pending for longer than the limit (R11)
    COMPLETED = "completed"  # each item has an outcome
    FAILED = "failed"  # the task has a `TaskVerdict`
    REPLAYED = "replayed"  # an earlier task of equal bytes (R14): an equivalent body must be sent
    LOST = "lost"  # the API does not know the task: POST the same bytes again
    BLIND = "blind"  # the answer says nothing about the task: poll again
    HALT = "halt"  # our own key or address is refused: nothing is sent, for any integration
    REKEYED = "rekeyed"  # refused for a key that is no longer in use: poll again


OVERLOAD = "PLATFORM.CONCURRENCY_LIMIT_EXCEEDED"

HALTING = frozenset({"PLATFORM.AUTHENTICATION_INVALID", "PLATFORM.IP_NOT_WHITELISTED"})

THROTTLES = frozenset(
    {
        "PLATFORM.RATE_LIMIT_EXCEEDED",
        OVERLOAD,
        "REMOTE.RATE_LIMIT_EXCEEDED",
        "REMOTE.SERVICE_UNAVAILABLE",
    }
)


_TRANSIENT_STATUSES = frozenset({408, 421, 425, 429})
"""Request Timeout, Misdirected Request, Too Early, Too Many Requests: the same request may succeed later (RFC 9110,
RFC 8470, RFC 6585).
"""


def _is_customer_side(code: str) -> bool:
    """The whole family, including unknown members: set-up, credentials, permissions, models and actions of one
    integration. Checked after `_is_input` and `_is_transient`, whose codes occur in every family.
    """
    return code.startswith("INTEGRATION.")


def _is_input(code: str) -> bool:
    return code.endswith(".INPUT_INVALID")


def _is_transient(code: str) -> bool:
    return code in THROTTLES or code.endswith(".UNKNOWN_ERROR") or code == "REMOTE.UNKNOWN_HTTP_ERROR"


def of_submit(code: str | None, status: int) -> SubmitVerdict:
    """The verdict on a refused POST (any understood non-2xx answer)."""
    if code is not None:
        if code in HALTING:
            return SubmitVerdict.OUR_SIDE
        if _is_input(code):
            return SubmitVerdict.SPLIT
        if _is_transient(code):
            return SubmitVerdict.RETRY
        if _is_customer_side(code):
            return SubmitVerdict.PARK
        if code == "PLATFORM.INTEGRATION_NOT_FOUND" or code.startswith("LMS."):
            return SubmitVerdict.FAIL
    if status in (400, 413, 422):
        return SubmitVerdict.SPLIT
    if status == 404:
        return SubmitVerdict.FAIL
    if status in _TRANSIENT_STATUSES or not 400 <= status < 500:
        return SubmitVerdict.RETRY
    if is_denial(code, status):
        return SubmitVerdict.PARK
    if code is None:
        # Not the API's own answer: a proxy or a load balancer refused the request, and nobody knows for how long.
        return SubmitVerdict.RETRY
    # A code that this version does not know: a person has to act, and no change ends meanwhile.
    return SubmitVerdict.PARK


def of_call(code: str | None, status: int) -> SubmitVerdict:
    """The verdict on a refused POST of an operation without a task: as `of_submit`, except that it has one item, which
    cannot be split.
    """
    verdict = of_submit(code, status)
    return SubmitVerdict.FAIL if verdict is SubmitVerdict.SPLIT else verdict


def is_denial(code: str | None, status: int) -> bool:
    """Whether an answer denies access without naming the cause: our key, or the integration."""
    return code is None and status in (401, 403)


def shows_working_key(code: str | None, status: int) -> bool:
    """Whether a refused call that is made for no integration shows that the API has accepted our key. It checks the key
    first, unless it is too busy or down; an answer without its own code may be a proxy's, except "not found".
    """
    if status == 429 or status >= 500 or code in HALTING:
        return False
    return code is not None or status == 404


def is_throttle(code: str | None, status: int) -> bool:
    """Whether a refused POST only asks to retry later or with fewer concurrent requests."""
    return status == 429 or code in THROTTLES - {"REMOTE.SERVICE_UNAVAILABLE"}


def is_understood(code: str | None, status: int) -> bool:
    """Whether a refused POST certainly created no task (R13). A server error, a redirect, a time-out (408), or a
    refusal without the API's own code may come from a component between us and the API, after the API had accepted.
    """
    if not 400 <= status < 500 or status == 408:
        return False
    return code is not None or status in (400, 413, 422, 429)


def is_final(code: str | None, status: int, *, is_documented: bool) -> bool:
    """Whether a refused POST of an operation without a task certainly was not carried out. For an unknown course, the API's
    error codes have none, so it answers 404 with an error object without a code.
    """
    return is_understood(code, status) or (status == 404 and is_documented)


INCONCLUSIVE = frozenset({SubmitVerdict.FAIL})
"""Refusals that do not end a change if an earlier POST of the same bytes may have created a task (R13). `SPLIT` does: it is a
function of the bytes alone.
"""


def of_task(code: str | None) -> TaskVerdict:
    """The verdict on a task that ended `FAILED`: no item was processed."""
    if code == "PLATFORM.TASK_TIMED_OUT":
        return TaskVerdict.TIMED_OUT
    if code is None:
        return TaskVerdict.RESUBMIT
    if code in HALTING:
        return TaskVerdict.OUR_SIDE
    if _is_input(code):
        return TaskVerdict.SPLIT
    if _is_transient(code):
        return TaskVerdict.RESUBMIT
    if _is_customer_side(code):
        return TaskVerdict.PARK
    if code == "PLATFORM.INTEGRATION_NOT_FOUND" or code.startswith("LMS."):
        return TaskVerdict.FAIL
    return TaskVerdict.RESUBMIT


def of_item(code: str | None) -> ItemVerdict:
    """The verdict on an item that ended `FAILED` in a completed task."""
    if code is None or _is_transient(code):
        return ItemVerdict.RESUBMIT
    return ItemVerdict.OUR_SIDE if code in HALTING else ItemVerdict.FAIL


def of_poll(code: str | None, status: int) -> PollVerdict:
    """The verdict on a refused GET, which is never a failed task."""
    if status == 404 and code != "PLATFORM.INTEGRATION_NOT_FOUND" and code not in HALTING:
        return PollVerdict.LOST
    return PollVerdict.BLIND
