"""The table 'What a code means', row by row: the code decides, then its family, then the status."""

from enum import StrEnum

import pytest

from daemon.core import verdict
from daemon.core.verdict import ItemVerdict, PollVerdict, SubmitVerdict, TaskVerdict

CUSTOMER = [
    "INTEGRATION.SETUP_SYNC_PENDING",
    "INTEGRATION.AUTHENTICATION_INVALID",
    "INTEGRATION.AUTHENTICATION_FAILED",
    "INTEGRATION.PERMISSION_MISSING",
    "INTEGRATION.QA_FAILED",
    "INTEGRATION.SETUP_INCOMPLETE",
    "INTEGRATION.INACTIVE",
    "INTEGRATION.MODEL_NOT_AVAILABLE",
    "INTEGRATION.MODEL_DISABLED",
    "INTEGRATION.ACTION_DISABLED",
    "INTEGRATION.ACTION_NOT_AVAILABLE",
]
INPUT = ["PLATFORM.INPUT_INVALID", "REMOTE.INPUT_INVALID", "INTEGRATION.INPUT_INVALID"]
THROTTLES = [
    "PLATFORM.RATE_LIMIT_EXCEEDED",
    "PLATFORM.CONCURRENCY_LIMIT_EXCEEDED",
    "REMOTE.RATE_LIMIT_EXCEEDED",
    "REMOTE.SERVICE_UNAVAILABLE",
]
UNCLEAR = ["PLATFORM.UNKNOWN_ERROR", "INTEGRATION.UNKNOWN_ERROR", "REMOTE.UNKNOWN_HTTP_ERROR"]
OURS = ["PLATFORM.AUTHENTICATION_INVALID", "PLATFORM.IP_NOT_WHITELISTED"]
CONTENT = ["LMS.COURSE_UPDATE_NOT_SUPPORTED", "LMS.NEVER_HEARD_OF"]
ANY_STATUS = [400, 401, 403, 404, 409, 413, 422, 429, 500, 503]


def every(codes: list[str], expected: StrEnum) -> list[tuple[str, StrEnum]]:
    return [(code, expected) for code in codes]


@pytest.mark.parametrize("status", ANY_STATUS)
@pytest.mark.parametrize(
    ("code", "expected"),
    [
        *every(CUSTOMER, SubmitVerdict.PARK),
        *every(INPUT, SubmitVerdict.SPLIT),
        *every(THROTTLES + UNCLEAR, SubmitVerdict.RETRY),
        *every(OURS, SubmitVerdict.OUR_SIDE),
        *every(CONTENT, SubmitVerdict.FAIL),
        ("PLATFORM.INTEGRATION_NOT_FOUND", SubmitVerdict.FAIL),
        ("INTEGRATION.NEVER_HEARD_OF", SubmitVerdict.PARK),
    ],
)
def test_submit_follows_the_code_whatever_the_status(code: str, status: int, expected: SubmitVerdict) -> None:
    assert verdict.of_submit(code, status) is expected


REFUSALS = range(300, 600)
"""Every status of a refusal. 1xx and 2xx are none (`kombo.wire`)."""
TRANSIENT = {*range(300, 400), 408, 421, 425, 429, *range(500, 600)}
SPLITTING = {400, 413, 422}


def by_status(status: int, otherwise: SubmitVerdict) -> SubmitVerdict:
    if status in SPLITTING:
        return SubmitVerdict.SPLIT
    if status in TRANSIENT:
        return SubmitVerdict.RETRY
    return SubmitVerdict.FAIL if status == 404 else otherwise


def test_without_a_code_only_a_denial_parks_and_whatever_is_not_understood_is_sent_again() -> None:
    found = {status: verdict.of_submit(None, status) for status in REFUSALS}
    assert found == {
        status: SubmitVerdict.PARK if status in (401, 403) else by_status(status, SubmitVerdict.RETRY)
        for status in REFUSALS
    }


@pytest.mark.parametrize("code", ["PLATFORM.NEVER_HEARD_OF", "NO_FAMILY", ""])
def test_with_an_unknown_code_a_person_has_to_act_unless_the_status_is_transient(code: str) -> None:
    found = {status: verdict.of_submit(code, status) for status in REFUSALS}
    assert found == {status: by_status(status, SubmitVerdict.PARK) for status in REFUSALS}


@pytest.mark.parametrize(
    ("code", "status", "understood"),
    [
        ("PLATFORM.RATE_LIMIT_EXCEEDED", 429, True),
        ("INTEGRATION.SETUP_SYNC_PENDING", 409, True),
        ("INTEGRATION.SETUP_SYNC_PENDING", 503, False),
        (None, 400, True),
        (None, 413, True),
        (None, 422, True),
        (None, 429, True),
        (None, 403, False),
        (None, 404, False),
        (None, 302, False),
        (None, 408, False),
        (None, 425, False),
        ("PLATFORM.NEVER_HEARD_OF", 307, False),
        ("PLATFORM.NEVER_HEARD_OF", 408, False),
        ("PLATFORM.NEVER_HEARD_OF", 425, True),
        (None, 502, False),
    ],
)
def test_fate_is_known_only_from_the_api_itself(code: str | None, status: int, understood: bool) -> None:
    """R13: a balancer's page says nothing about a task."""
    assert verdict.is_understood(code, status) is understood


def test_a_refusal_that_may_be_of_another_post_is_not_conclusive() -> None:
    assert {SubmitVerdict.FAIL} == verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        *every(CUSTOMER, TaskVerdict.PARK),
        *every(INPUT, TaskVerdict.SPLIT),
        *every(THROTTLES + UNCLEAR, TaskVerdict.RESUBMIT),
        *every(OURS, TaskVerdict.OUR_SIDE),
        *every(CONTENT, TaskVerdict.FAIL),
        ("PLATFORM.TASK_TIMED_OUT", TaskVerdict.TIMED_OUT),
        ("PLATFORM.INTEGRATION_NOT_FOUND", TaskVerdict.FAIL),
        ("INTEGRATION.NEVER_HEARD_OF", TaskVerdict.PARK),
        ("REMOTE.NEVER_HEARD_OF", TaskVerdict.RESUBMIT),
        ("", TaskVerdict.RESUBMIT),
        (None, TaskVerdict.RESUBMIT),
    ],
)
def test_failed_task(code: str | None, expected: TaskVerdict) -> None:
    assert verdict.of_task(code) is expected


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        *every(INPUT + CONTENT, ItemVerdict.FAIL),
        *every(THROTTLES + UNCLEAR, ItemVerdict.RESUBMIT),
        *every(CUSTOMER, ItemVerdict.FAIL),
        *every(OURS, ItemVerdict.OUR_SIDE),
        ("REMOTE.NEVER_HEARD_OF", ItemVerdict.FAIL),
        (None, ItemVerdict.RESUBMIT),
    ],
)
def test_failed_item(code: str | None, expected: ItemVerdict) -> None:
    assert verdict.of_item(code) is expected


@pytest.mark.parametrize("status", ANY_STATUS)
def test_a_poll_that_names_our_key_says_nothing_about_the_task(status: int) -> None:
    """Whether it halts depends on more than this answer (`core.judge`)."""
    assert {verdict.of_poll(code, status) for code in OURS} == {PollVerdict.BLIND}


@pytest.mark.parametrize("code", [None, *CUSTOMER, *INPUT, *THROTTLES, *CONTENT])
@pytest.mark.parametrize("status", [s for s in ANY_STATUS if s != 404])
def test_a_poll_that_brings_no_task_is_blindness(code: str | None, status: int) -> None:
    assert verdict.of_poll(code, status) is PollVerdict.BLIND


def test_a_poll_that_does_not_find_the_task_has_lost_it() -> None:
    assert verdict.of_poll(None, 404) is PollVerdict.LOST
    assert verdict.of_poll("PLATFORM.NEVER_HEARD_OF", 404) is PollVerdict.LOST


def test_a_poll_that_does_not_find_the_integration_has_not_lost_the_task() -> None:
    assert verdict.of_poll("PLATFORM.INTEGRATION_NOT_FOUND", 404) is PollVerdict.BLIND
