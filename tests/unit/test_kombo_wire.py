"""Answers of the API as data: the vendor's own examples, and never a success out of anything else."""

from __future__ import annotations

import copy
import json
import tracemalloc
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from daemon.core.answers import (
    Accepted,
    Done,
    ItemOutcome,
    NoAnswer,
    NoAnswerReason,
    Refused,
    TaskCompleted,
    TaskFailed,
    TaskPending,
)
from daemon.core.model import Error
from daemon.kombo import wire
from daemon.kombo.times import RETRY_AFTER_SECONDS_MAX

TASK = "7FPJba3qRNBYaJgTvDKZi7mi"
CREATED_AT = 1741789800000  # 2025-03-12T14:30:00.000Z
COMPLETED_AT = 1741789847000  # 2025-03-12T14:30:47.000Z
NOW = 1741790000000
DATE = "Wed, 12 Mar 2025 14:31:00 GMT"
DATE_MS = 1741789860000


def submit(body: Any, status: int = 200, **headers: str) -> Any:
    return wire.parse_submit(status, fields(headers), as_bytes(body), NOW)


def done(body: Any, status: int = 200, **headers: str) -> Any:
    return wire.parse_done(status, fields(headers), as_bytes(body), NOW)


def poll(body: Any, status: int = 200, *, now: int = NOW, **headers: str) -> Any:
    return wire.parse_poll(TASK, status, fields(headers), as_bytes(body), now)


def fields(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def as_bytes(body: Any) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode()


def task(status: str, **more: Any) -> dict[str, Any]:
    data = {
        "task_id": TASK,
        "status": status,
        "created_at": "2025-03-12T14:30:00.000Z",
        "completed_at": "2025-03-12T14:30:47.000Z",
    }
    return {"status": "success", "data": {**data, **more}}


def changed(answer: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with one field replaced, or removed where the value is `...`."""
    answer = copy.deepcopy(answer)
    *way, last = path.split(".")
    place = answer
    for name in way:
        place = place[name]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return answer


# --- the vendor's examples ------------------------------------------------------------------------

GUIDE_SUBMITTED = {"status": "success", "data": {"task_id": TASK}}
OPENAPI_SUBMITTED = {**GUIDE_SUBMITTED, "warnings": [{"message": "This is an example warning!"}]}
PENDING = task("PENDING", completed_at=None)
GUIDE_COMPLETED = task(
    "COMPLETED",
    data=[
        {
            "origin_id": "cybersecurity-101",
            "status": "SUCCEEDED",
            "data": {"course_id": "26vafvWSRmbhNcxJYqjCzuJg"},
        },
        {
            "origin_id": "leadership-fundamentals",
            "status": "FAILED",
            "error": {
                "code": "INTEGRATION.UNKNOWN_ERROR",
                "message": "The connected tool returned an unexpected error.",
            },
        },
    ],
)
OPENAPI_COMPLETED = task(
    "COMPLETED",
    data=[
        {"origin_id": "course-1", "status": "SUCCEEDED", "data": {"id": "26vafvWSRmbhNcxJYqjCzuJg"}},
        {
            "origin_id": "course-2",
            "status": "FAILED",
            "error": {
                "code": "LMS.COURSE_UPDATE_NOT_SUPPORTED",
                "title": "Not supported",
                "message": "This tool cannot update courses.",
                "log_url": "https://app.kombo.dev/my-prod/logs?interactionId=123456",
            },
        },
    ],
)
GUIDE_FAILED = task(
    "FAILED",
    error={
        "code": "INTEGRATION.AUTHENTICATION_FAILED",
        "message": "The integration credentials are no longer valid.",
    },
)
OPENAPI_FAILED = task(
    "FAILED",
    error={"code": "PLATFORM.TASK_TIMED_OUT", "title": None, "message": "Took too long.", "log_url": None},
)
OPENAPI_REFUSED = {
    "status": "error",
    "error": {
        "code": "INTEGRATION.MODEL_NOT_AVAILABLE",
        "title": "This data model isn't supported for the selected integration.",
        "message": 'The "employees" model is not yet available for Greenhouse.',
        "log_url": "https://app.kombo.dev/my-prod/logs?interactionId=123456",
    },
}
OPENAPI_REFUSED_MINIMAL = {
    "status": "error",
    "error": {
        "code": None,
        "title": None,
        "message": "The message is always in the response.",
        "log_url": None,
    },
}


def test_submitted() -> None:
    assert submit(GUIDE_SUBMITTED) == Accepted(TASK)
    assert submit(
        OPENAPI_SUBMITTED, date=DATE, concurrency_limit="30", concurrency_remaining="0"
    ) == Accepted(
        TASK,
        warnings=("This is an example warning!",),
        concurrency_limit=30,
        concurrency_remaining=0,
        api_time=DATE_MS,
    )


def test_pending() -> None:
    assert poll(PENDING, date=DATE) == TaskPending(CREATED_AT, api_time=DATE_MS)
    assert poll(PENDING) == TaskPending(CREATED_AT, api_time=None)


def test_completed_in_the_spelling_of_the_guide() -> None:
    assert poll(GUIDE_COMPLETED) == TaskCompleted(
        CREATED_AT,
        COMPLETED_AT,
        (
            ItemOutcome("cybersecurity-101", True, "26vafvWSRmbhNcxJYqjCzuJg", None),
            ItemOutcome(
                "leadership-fundamentals",
                False,
                None,
                Error("INTEGRATION.UNKNOWN_ERROR", "The connected tool returned an unexpected error."),
            ),
        ),
    )


def test_completed_in_the_spelling_of_the_openapi_description() -> None:
    said = poll(OPENAPI_COMPLETED)
    assert said.outcomes[0] == ItemOutcome("course-1", True, "26vafvWSRmbhNcxJYqjCzuJg", None)
    assert said.outcomes[1].error == Error(
        "LMS.COURSE_UPDATE_NOT_SUPPORTED",
        "This tool cannot update courses.",
        "Not supported",
        "https://app.kombo.dev/my-prod/logs?interactionId=123456",
    )


def test_failed_task() -> None:
    code, message = "INTEGRATION.AUTHENTICATION_FAILED", "The integration credentials are no longer valid."
    assert poll(GUIDE_FAILED) == TaskFailed(CREATED_AT, COMPLETED_AT, Error(code, message))
    assert poll(OPENAPI_FAILED).error == Error("PLATFORM.TASK_TIMED_OUT", "Took too long.")


@pytest.mark.parametrize("parse", [submit, poll])
def test_refused(parse: Any) -> None:
    said = parse(OPENAPI_REFUSED, 409, date=DATE, retry_after="7")
    assert (said.status, said.retry_after, said.api_time) == (409, 7.0, DATE_MS)
    assert said.error == msgspec.convert(OPENAPI_REFUSED["error"], Error)
    assert parse(OPENAPI_REFUSED_MINIMAL, 500).error == Error(None, "The message is always in the response.")


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>502 Bad Gateway</html>", b"null", b"[]", b'"x"', b"\xff\xfe", b"[" * 50_000, {"error": "no"},
     {"error": None}, {"status": "error"}, {"error": {"code": 7, "message": None}}, {"error": {"code": ""}}],
)  # fmt: skip
def test_a_refusal_without_an_error_object_has_a_status_and_no_code(body: Any) -> None:
    said = submit(body, 502)
    assert isinstance(said, Refused)
    assert (said.status, said.error.code) == (502, None)
    assert "502" in said.error.message


def test_a_code_counts_whatever_else_is_missing() -> None:
    said = submit({"error": {"code": "PLATFORM.RATE_LIMIT_EXCEEDED"}}, 503)
    assert said.error.code == "PLATFORM.RATE_LIMIT_EXCEEDED"


@pytest.mark.parametrize("parse", [submit, done, poll])
def test_a_refusal_in_the_documented_form_is_told_from_that_of_a_proxy(parse: Any) -> None:
    assert parse(OPENAPI_REFUSED_MINIMAL, 404).is_documented
    for body in (
        b"<html>",
        {"error": {"message": "no"}},
        {"status": "error"},
        {"status": "error", "error": {}},
    ):
        assert not parse(body, 404).is_documented


# --- a course -------------------------------------------------------------------------------------


COURSE = {
    "status": "success",
    "data": {
        "id": "26vafvWSRmbhNcxJYqjCzuJg",
        "remote_id": "32",
        "origin_id": "course-123",
        "revisions": [{}],
    },
    "warnings": [{"message": "This is an example warning!"}],
}
"""The vendor's example for PostLmsCoursesCourseIdDeactivate, shortened."""


def test_a_call_without_a_task_is_done() -> None:
    answer = done(COURSE, concurrency_limit="30", concurrency_remaining="29", date=DATE)
    warnings = ("This is an example warning!",)
    assert answer == Done("26vafvWSRmbhNcxJYqjCzuJg", "course-123", warnings, 30, 29, DATE_MS)
    assert done({"status": "success", "data": {"course_id": "7"}}) == Done("7")
    assert done({"status": "success", "data": {"id": 7}}) == Done(None)


@pytest.mark.parametrize(
    "body", [b"", b"<html>Welcome</html>", {}, {"data": {}}, {"status": "success"}, {"status": "ok", "data": {}},
             {"status": "success", "data": None}, {"status": "success", "data": []}],
)  # fmt: skip
def test_a_2xx_in_another_form_is_not_done(body: Any) -> None:
    answer = done(body)
    assert isinstance(answer, NoAnswer)
    assert answer.reason is NoAnswerReason.PROTOCOL_ERROR


# --- a 2xx that is not as documented --------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "value"),
    [("status", "error"), ("status", ...), ("status", None), ("data", ...), ("data", None), ("data", []),
     ("data.task_id", ...), ("data.task_id", None), ("data.task_id", 7), ("data.task_id", ""),
     ("data.task_id", ".."), ("data.task_id", "x" * 513)],
)  # fmt: skip
def test_no_task_is_accepted_out_of_an_undocumented_answer(path: str, value: Any) -> None:
    said = submit(changed(OPENAPI_SUBMITTED, path, value))
    assert isinstance(said, NoAnswer)
    assert said.reason is NoAnswerReason.PROTOCOL_ERROR


@pytest.mark.parametrize(
    "warnings", [None, "w", 7, {}, [None, 7, "w", {}, {"message": None}, {"message": ""}]]
)
def test_odd_warnings_do_not_lose_the_task(warnings: Any) -> None:
    assert submit({**GUIDE_SUBMITTED, "warnings": warnings}) == Accepted(TASK)


@pytest.mark.parametrize(
    "answer", [PENDING, GUIDE_COMPLETED, GUIDE_FAILED], ids=["pending", "completed", "failed"]
)
@pytest.mark.parametrize(
    ("path", "value"),
    [("status", "error"), ("status", ...), ("data", ...), ("data", [1]),
     ("data.task_id", ...), ("data.task_id", "somebody-elses"),
     ("data.status", ...), ("data.status", "CANCELLED"), ("data.status", "completed"), ("data.status", None),
     ("data.created_at", ...), ("data.created_at", None), ("data.created_at", "yesterday"),
     ("data.created_at", "2025-03-12"), ("data.created_at", "2025-02-30T00:00:00Z"), ("data.created_at", 1741789800000)],
)  # fmt: skip
def test_no_state_of_a_task_out_of_an_undocumented_answer(
    answer: dict[str, Any], path: str, value: Any
) -> None:
    said = poll(changed(answer, path, value))
    assert isinstance(said, NoAnswer)
    assert said.reason is NoAnswerReason.PROTOCOL_ERROR


@pytest.mark.parametrize("data", [..., None, {}, "x"])
def test_a_completed_task_without_results_is_no_answer(data: Any) -> None:
    assert isinstance(poll(changed(GUIDE_COMPLETED, "data.data", data)), NoAnswer)


@pytest.mark.parametrize("status", [0, 100, 101, 199, 600, 999])
def test_a_status_that_ends_no_request_is_no_answer(status: int) -> None:
    assert isinstance(submit(GUIDE_SUBMITTED, status), NoAnswer)


# --- entries of a completed task ------------------------------------------------------------------

GOOD_ENTRY = {"origin_id": "a", "status": "SUCCEEDED", "data": {"id": "k1"}}


def outcomes(*entries: Any) -> tuple[ItemOutcome, ...]:
    said = poll(task("COMPLETED", data=list(entries)))
    assert isinstance(said, TaskCompleted)
    return said.outcomes


@pytest.mark.parametrize(
    "status", ["PENDING", "SKIPPED", "succeeded", "SUCCEEDED ", "", None, 1, True, ["SUCCEEDED"]]
)
def test_only_the_documented_word_is_a_success(status: Any) -> None:
    odd, good = outcomes({**GOOD_ENTRY, "status": status}, {**GOOD_ENTRY, "origin_id": "b"})
    assert not odd.succeeded
    assert odd.error is not None
    assert odd.error.code is None
    assert good.succeeded, "its neighbours keep their outcomes"


def test_an_entry_that_contradicts_itself_is_no_success() -> None:
    (said,) = outcomes({**GOOD_ENTRY, "error": {"code": "LMS.X", "message": "no"}})
    assert not said.succeeded


@pytest.mark.parametrize(
    "entry", [None, 1, "a", [], {}, {"status": "SUCCEEDED"}, {**GOOD_ENTRY, "origin_id": 7}]
)
def test_an_entry_that_names_no_item_is_left_out(entry: Any) -> None:
    assert outcomes(entry, GOOD_ENTRY) == outcomes(GOOD_ENTRY)


def test_repeated_and_foreign_items_are_passed_on_in_order() -> None:
    said = outcomes(GOOD_ENTRY, {**GOOD_ENTRY, "origin_id": "foreign"}, {**GOOD_ENTRY, "status": "FAILED"})
    assert [(o.origin_id, o.succeeded) for o in said] == [("a", True), ("foreign", True), ("a", False)]


@pytest.mark.parametrize("data", [None, {}, [], {"id": None}, {"id": 7}, {"id": ""}, {"id": "x" * 513}])
def test_a_success_without_a_readable_course_id_stays_one(data: Any) -> None:
    (said,) = outcomes({**GOOD_ENTRY, "data": data})
    assert (said.succeeded, said.course_id) == (True, None)


@pytest.mark.parametrize("error", [..., None, "no", {}])
def test_a_failure_without_a_reason_stays_one(error: Any) -> None:
    entry = {"origin_id": "a", "status": "FAILED", "error": error}
    (said,) = outcomes({k: v for k, v in entry.items() if v is not ...})
    assert not said.succeeded
    assert said.error is not None
    assert said.error.code is None
    assert said.error.message


def test_texts_are_bounded() -> None:
    long = "x" * 100_000
    error = {"code": long, "title": long, "message": long, "log_url": long}
    said = submit({"error": error}, 400).error
    assert len(said.code) + len(said.title) + len(said.message) < 4000
    assert said.log_url is None, "half an address leads nowhere"
    assert len(submit({"status": long}).detail) <= wire.DETAIL_CHARS_MAX
    warnings = submit({**GUIDE_SUBMITTED, "warnings": [{"message": long}] * 1000}).warnings
    assert sum(map(len, warnings)) <= wire.WARNINGS_MAX * wire.MESSAGE_CHARS_MAX


# --- times ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2025-03-12T14:30:00.000Z", CREATED_AT),
        ("2025-03-12T14:30:00Z", CREATED_AT),
        ("2025-03-12T14:30:00.1239Z", CREATED_AT + 123),
        ("2025-03-12T14:30:00.123456789Z", CREATED_AT + 123),
        ("2025-03-12T16:30:00.000+02:00", CREATED_AT),
        ("2025-03-12T14:30:00", CREATED_AT),
    ],
)
def test_times_of_a_task(text: str, expected: int) -> None:
    assert poll(changed(PENDING, "data.created_at", text)) == TaskPending(expected, None)


@pytest.mark.parametrize("name", ["created_at", "completed_at"])
@pytest.mark.parametrize(
    "value",
    [
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "1969-12-31T23:59:59Z",
        "1999-12-31T23:59:59.999Z",
        "2000-01-01T00:00:00+14:00",
        "2100-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
        "9999-12-31T23:59:59-14:00",
        "2025-03-12T14:36:00.001Z",
        "2025-03-12T14:37:00Z",
        "2025-03-13T04:31:00Z",
    ],
)
@pytest.mark.parametrize("date", [{"date": DATE}, {}, {"date": "Fri, 31 Dec 9999 23:59:59 GMT"}])
def test_an_answer_with_times_that_cannot_be_true_is_not_understood(
    name: str, value: str, date: dict[str, Any]
) -> None:
    """R14: no such time may decide what is fresh. Without a `Date`, or with an absurd one, ours stands in for it."""
    for body in (changed(GUIDE_COMPLETED, f"data.{name}", value), changed(PENDING, f"data.{name}", value)):
        said = poll(body, now=DATE_MS, **date)
        assert isinstance(said, NoAnswer)
        assert f"{name} {value} is" in said.detail


@pytest.mark.parametrize(
    "value", ["2025-03-12T14:36:00Z", "2025-03-13T04:36:00+14:00", "2025-03-12T14:33:00Z"]
)
def test_a_skew_within_the_tolerance_is_understood(value: str) -> None:
    said = poll(changed(PENDING, "data.created_at", value), now=DATE_MS, date=DATE)
    assert isinstance(said, TaskPending)
    assert said.api_time == DATE_MS


def test_our_own_clock_may_be_wrong_by_hours() -> None:
    for off in (-14 * 3_600_000, 14 * 3_600_000):
        assert poll(PENDING, now=DATE_MS + off, date=DATE) == TaskPending(CREATED_AT, DATE_MS)


@pytest.mark.parametrize(
    "date", ["Fri, 31 Dec 9999 23:59:59 GMT", "Mon, 01 Jan 0001 00:00:00 GMT", "soon", ""]
)
def test_an_absurd_date_is_no_api_time(date: str) -> None:
    assert poll(PENDING, now=DATE_MS, date=date) == TaskPending(CREATED_AT, None)


@pytest.mark.parametrize("value", [None, ..., 7, "soon", "10000-01-01T00:00:00Z"])
def test_a_completion_time_that_cannot_be_read_is_absent(value: Any) -> None:
    said = poll(changed(GUIDE_COMPLETED, "data.completed_at", value))
    assert isinstance(said, TaskCompleted)
    assert said.completed_at is None


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        (DATE, DATE_MS),
        ("Wednesday, 12-Mar-25 14:31:00 GMT", DATE_MS),
        ("Wed Mar 12 14:31:00 2025", DATE_MS),
        ("", None),
        ("now", None),
        ("Wed, 99 Mar 2025 14:31:00 GMT", None),
        ("Wed, 12 Mar 2025 14:31:00 +9999999999", None),
        ("1 " * 10_000, None),
    ],
)
def test_api_time(date: str, expected: int | None) -> None:
    assert poll(PENDING, date=date).api_time == expected


@pytest.mark.parametrize(
    ("retry_after", "date", "expected"),
    [
        ("0", None, 0.0),
        ("120", None, 120.0),
        (" 1.5 ", None, 1.5),
        ("Wed, 12 Mar 2025 14:31:30 GMT", DATE, 30.0),  # by the server's clock where it tells it
        ("Wed, 12 Mar 2025 14:33:40 GMT", None, 20.0),  # else by ours
        ("Wed, 12 Mar 2025 14:30:00 GMT", DATE, 0.0),
        ("-5", None, None),
        ("soon", None, None),
        ("٣", None, None),
        ("9" * 500, None, RETRY_AFTER_SECONDS_MAX),
        ("99999999", None, 99_999_999.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", None, RETRY_AFTER_SECONDS_MAX),
    ],
)
def test_retry_after(retry_after: str, date: str | None, expected: float | None) -> None:
    headers = {"retry_after": retry_after} | ({"date": date} if date else {})
    assert submit(b"", 429, **headers).retry_after == expected


@pytest.mark.parametrize("value", ["", "-1", "1.5", "many", "9" * 400, "٣", "1, 2"])
def test_a_concurrency_header_that_is_no_number_is_absent(value: str) -> None:
    assert submit(GUIDE_SUBMITTED, concurrency_limit=value).concurrency_limit is None


def test_a_refusal_tells_the_concurrency_too() -> None:
    answer = submit(b"", 429, concurrency_limit="8", concurrency_remaining="0")
    assert (answer.concurrency_limit, answer.concurrency_remaining) == (8, 0)
    assert submit(b"", 429).concurrency_limit is None


# --- anything at all ------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
    | st.sampled_from(["success", "error", "SUCCEEDED", "COMPLETED", "PENDING", TASK, "2025-03-12T14:30:00Z"]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(["status", "data", "task_id", "created_at", "completed_at", "origin_id", "id", "error",
                         "code", "message", "warnings"]) | st.text(max_size=5),
        inner,
        max_size=6,
    ),
    max_leaves=25,
)  # fmt: skip
HEADERS = st.dictionaries(
    st.sampled_from(["date", "retry-after", "concurrency-limit", "concurrency-remaining"]),
    st.text(max_size=70) | st.sampled_from([DATE, "5"]),
)
SAMPLES = [GUIDE_SUBMITTED, OPENAPI_SUBMITTED, PENDING, GUIDE_COMPLETED, OPENAPI_COMPLETED, GUIDE_FAILED]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """One of the vendor's answers with some bytes replaced, removed or inserted."""
    body = as_bytes(draw(st.sampled_from(SAMPLES)))
    start = draw(st.integers(0, len(body)))
    end = draw(st.integers(start, min(len(body), start + 40)))
    return body[:start] + draw(st.binary(max_size=20)) + body[end:]


def documented_success(body: bytes, *path: str) -> bool:
    """An independent reading: is this JSON with status success and text at the path?"""
    try:
        place = json.loads(body)
        success = place["status"] == "success"
        for name in path:
            place = place[name]
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
    return success and isinstance(place, str)


@settings(deadline=None)  # a slow machine is no fault
@given(
    st.integers(-1, 1000) | st.just(200), HEADERS, st.binary(max_size=200) | JSON.map(as_bytes) | damaged()
)
@example(200, {}, b"[" * 100_000)
@example(200, {}, b'{"status":"success","data":' + b"[" * 100_000)
@example(200, {}, b'{"status":"success","data":{"task_id":"\\ud800"}}')
@example(200, {}, b'{"status":"success","data":{"task_id":"7","new":"\x80"}}')
@example(200, {"date": "\x00" * 60}, as_bytes(PENDING))
def test_every_answer_is_understood_or_none(status: int, headers: dict[str, str], body: bytes) -> None:
    submitted = wire.parse_submit(status, headers, body, NOW)
    polled = wire.parse_poll(TASK, status, headers, body, NOW)
    carried_out = wire.parse_done(status, headers, body, NOW)
    for said in (submitted, carried_out, polled):
        assert isinstance(said, NoAnswer | Refused) or 200 <= status <= 299
        assert not isinstance(said, Refused) or 300 <= status <= 599
        if not isinstance(said, NoAnswer):
            msgspec.json.encode(said)  # can be journalled and published
        if isinstance(said, Refused):
            assert said.retry_after is None or 0 <= said.retry_after <= RETRY_AFTER_SECONDS_MAX
    if isinstance(submitted, Accepted):
        assert documented_success(body, "data", "task_id")
    if isinstance(polled, TaskPending | TaskCompleted | TaskFailed):
        assert documented_success(body, "data", "created_at")
    if isinstance(polled, TaskCompleted):
        entries = json.loads(body)["data"]["data"]
        successes = [
            e["origin_id"] for e in entries if isinstance(e, dict) and e.get("status") == "SUCCEEDED"
        ]
        assert all(o.origin_id in successes for o in polled.outcomes if o.succeeded)


@pytest.mark.parametrize("place", ["body", "task", "entry"])
def test_what_is_not_needed_of_an_answer_takes_no_memory(place: str) -> None:
    """As Python objects, these lists would take 25 times the size of the answer."""
    ballast: dict[str, list[list[Any]]] = {"more": [[]] * 300_000}
    answer = copy.deepcopy(OPENAPI_COMPLETED)
    {"body": answer, "task": answer["data"], "entry": answer["data"]["data"][0]}[place].update(ballast)
    body = as_bytes(answer)
    tracemalloc.start()
    try:
        said = poll(body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(said, TaskCompleted)
    assert peak < 3 * len(body)
