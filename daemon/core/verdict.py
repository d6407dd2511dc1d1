"""What an error means: one table from `error.code` to a verdict.

Sources: the vendor's error guide and OpenAPI. The code decides; the HTTP status only where no code
came; the text of a message never. An unknown code is read by its family (what stands before and after
the dot), then by the status.
"""

from __future__ import annotations

from enum import StrEnum


class Verdict(StrEnum):
    RETRY = "retry"  # the same bytes again, after a back-off
    RESUBMIT = "resubmit"  # the items again, in a fresh body, a limited number of times
    SPLIT = "split"  # halve the batch down to the item that is refused
    PARK = "park"  # this integration has to wait for its customer; probe slowly
    FAIL = "fail"  # the change ends
    TIMED_OUT = "timed_out"  # the API gave the task up itself
    HALT = "halt"  # our own key or address is refused: for every integration
    LOST = "lost"  # the API does not know the task: POST the same bytes again
    BLIND = "blind"  # says nothing about the task: poll again


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


def _is_customer_side(code: str) -> bool:
    """The whole family, known members or not: set-up, credentials, permissions, models and actions of one
    integration. Asked after `_is_input` and `_may_pass`, whose codes come in every family.
    """
    return code.startswith("INTEGRATION.")


def _is_input(code: str) -> bool:
    return code.endswith(".INPUT_INVALID")


def _may_pass(code: str) -> bool:
    return code in THROTTLES or code.endswith(".UNKNOWN_ERROR") or code == "REMOTE.UNKNOWN_HTTP_ERROR"


def of_submit(code: str | None, status: int) -> Verdict:
    """A refused POST (any understood non-2xx answer)."""
    if code is not None:
        if code in HALTING:
            return Verdict.HALT
        if _is_input(code):
            return Verdict.SPLIT
        if _may_pass(code):
            return Verdict.RETRY
        if _is_customer_side(code):
            return Verdict.PARK
        if code == "PLATFORM.INTEGRATION_NOT_FOUND" or code.startswith("LMS."):
            return Verdict.FAIL
    if status in (400, 413, 422):
        return Verdict.SPLIT
    if status == 404:
        return Verdict.FAIL
    if status == 429 or status >= 500:
        return Verdict.RETRY
    # 401, 403 without a code; any other refusal: somebody has to look, and nothing ends meanwhile.
    return Verdict.PARK


def is_throttle(code: str | None, status: int) -> bool:
    """Whether a refused POST says no more than to come later or with fewer at a time."""
    return status == 429 or code in THROTTLES - {"REMOTE.SERVICE_UNAVAILABLE"}


def is_understood(code: str | None, status: int) -> bool:
    """Whether a refused POST certainly made no task (R13). A server error, or a refusal without the API's
    own code, may come from something between us and the API after it had accepted.
    """
    return status < 500 and (code is not None or status in (400, 413, 422, 429))


def is_conclusive(verdict: Verdict) -> bool:
    """Whether a refusal holds although an earlier POST of the same bytes may have made a task (R13):
    only what is a function of the bytes alone does.
    """
    return verdict is Verdict.SPLIT


def of_task(code: str | None) -> Verdict:
    """A task that ended `FAILED`: no item was processed."""
    if code == "PLATFORM.TASK_TIMED_OUT":
        return Verdict.TIMED_OUT
    if code is None:
        return Verdict.RESUBMIT
    if code in HALTING:
        return Verdict.HALT
    if _is_input(code):
        return Verdict.SPLIT
    if _may_pass(code):
        return Verdict.RESUBMIT
    if _is_customer_side(code):
        return Verdict.PARK
    if code == "PLATFORM.INTEGRATION_NOT_FOUND" or code.startswith("LMS."):
        return Verdict.FAIL
    return Verdict.RESUBMIT


def of_item(code: str | None) -> Verdict:
    """An item that ended `FAILED` inside a completed task."""
    if code is None or _may_pass(code):
        return Verdict.RESUBMIT
    return Verdict.FAIL


def of_poll(code: str | None, status: int) -> Verdict:
    """A refused GET: never a failed task."""
    if code in HALTING:
        return Verdict.HALT
    if status == 404 and code != "PLATFORM.INTEGRATION_NOT_FOUND":
        return Verdict.LOST
    return Verdict.BLIND
