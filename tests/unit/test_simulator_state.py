"""The simulated API as a client and a checker see it, in virtual time."""

import random
from typing import Any

import msgspec
import pytest

from tests.sandbox.simulator import readout
from tests.sandbox.simulator.faults import FaultPlan, parse_plan
from tests.sandbox.simulator.state import Simulator
from tests.sandbox.simulator.wire import Delivery, InvalidBodyError, Reply, parse_items

START = 1_780_000_000_123
AUTH = "Bearer k"
COURSE = {"type": "EXTERNAL", "title": "T", "course_url": "https://example.com/c"}


def make(*rules: object, task_seconds: float = 0.0, seed: int = 1, **plan: object) -> Simulator:
    faults = msgspec.convert({"rules": rules, **plan}, FaultPlan)
    return Simulator(rng=random.Random(seed), now=START, api_key="k", plan=faults, task_seconds=task_seconds)


def body(*origin_ids: str, **course: object) -> bytes:
    items = [{"origin_id": origin_id, "course": {**COURSE, **course}} for origin_id in origin_ids]
    return msgspec.json.encode({"items": items})


def submit(simulator: Simulator, payload: bytes, *, now: int = START, integration: str = "w:1") -> str:
    reply = simulator.submit(now, AUTH, integration, payload)
    assert (reply.status, reply.delivery) == (200, Delivery.ANSWER), reply
    task_id: str = msgspec.json.decode(reply.body)["data"]["task_id"]
    return task_id


def poll(simulator: Simulator, task_id: str, *, now: int = START, integration: str = "w:1") -> dict[str, Any]:
    reply = simulator.poll(now, AUTH, integration, task_id)
    assert (reply.status, reply.delivery) == (200, Delivery.ANSWER), reply
    data: dict[str, Any] = msgspec.json.decode(reply.body)["data"]
    return data


def error_of(reply: Reply) -> tuple[int, str | None]:
    answer = msgspec.json.decode(reply.body)
    assert answer["status"] == "error"
    assert set(answer["error"]) == {"code", "title", "message", "log_url"}
    return reply.status, answer["error"]["code"]


def rows(simulator: Simulator, now: int = START) -> list[dict[str, Any]]:
    simulator.advance(now)
    return [readout.task_row(task, now) for task in simulator.tasks.values()]


def lms(simulator: Simulator, now: int = START) -> dict[str, dict[str, Any]]:
    simulator.advance(now)
    return {row["origin_id"]: row for row in readout.course_rows(simulator)}


# --- the life of a task ---------------------------------------------------------------------------


def test_a_task_is_pending_then_completed_with_one_entry_per_item() -> None:
    simulator = make(task_seconds=10)
    task_id = submit(simulator, body("a", "b"))
    assert poll(simulator, task_id) == {
        "task_id": task_id,
        "status": "PENDING",
        "created_at": "2026-05-28T20:26:40.123Z",
        "completed_at": None,
    }
    (row,) = rows(simulator, START + 15_000)
    assert START + 5_000 <= row["completed_at"] <= START + 15_000
    done = poll(simulator, task_id, now=row["completed_at"])
    assert done["status"] == "COMPLETED"
    assert [(entry["origin_id"], entry["status"]) for entry in done["data"]] == [
        ("a", "SUCCEEDED"),
        ("b", "SUCCEEDED"),
    ]
    assert poll(simulator, task_id, now=row["completed_at"] + 1) == done


def test_a_task_is_applied_during_its_run_and_in_whole() -> None:
    simulator = make(task_seconds=10)
    submit(simulator, body("a", "b"))
    (row,) = rows(simulator, START + 15_000)
    assert START < row["applied_at"] < row["completed_at"]
    earlier = make(task_seconds=10)
    submit(earlier, body("a", "b"))
    assert lms(earlier, row["applied_at"] - 1) == {}
    assert set(lms(earlier, row["applied_at"])) == {"a", "b"}


def test_without_a_duration_the_first_poll_finds_it_completed() -> None:
    simulator = make()
    assert poll(simulator, submit(simulator, body("a")))["status"] == "COMPLETED"


def test_both_spellings_of_the_vendor_occur_and_name_the_course_of_the_lms() -> None:
    simulator = make({"fault": "item_fails", "integrations": ["bad"]})
    id_fields, error_shapes, warnings = set(), set(), set()
    for number in range(40):
        entry = poll(simulator, submit(simulator, body("a", title=str(number))))["data"][0]
        ((id_field, course_id),) = entry["data"].items()
        assert course_id == lms(simulator)["a"]["course_id"]
        id_fields.add(id_field)
        reply = simulator.submit(START, AUTH, "bad", body("a", title=str(number)))
        answer = msgspec.json.decode(reply.body)
        warnings.add(len(answer["warnings"]) if "warnings" in answer else None)
        entry = poll(simulator, answer["data"]["task_id"], integration="bad")["data"][0]
        error_shapes.add(frozenset(entry["error"]))
    assert id_fields == {"id", "course_id"}
    assert error_shapes == {
        frozenset({"code", "message"}),
        frozenset({"code", "title", "message", "log_url"}),
    }
    assert warnings == {None, 0, 1}


def test_tasks_write_in_the_order_of_their_own_times_even_when_nobody_asks_meanwhile() -> None:
    slow = {"fault": "task_slow", "end_seconds": 1, "seconds_min": 9, "seconds_max": 9}
    simulator = make(slow)
    first = submit(simulator, body("a", title="first, slow"))
    submit(simulator, body("a", title="second, quick"), now=START + 2_000)
    assert lms(simulator, START + 8_999)["a"]["course"].title == "second, quick"
    late = lms(simulator, START + 9_000)["a"]
    assert (late["course"].title, late["task_id"], late["applications"]) == ("first, slow", first, 2)


def test_the_same_seed_and_requests_give_the_same_answers() -> None:
    def play(seed: int) -> list[Reply]:
        plan = parse_plan("demo")
        simulator = Simulator(rng=random.Random(seed), now=START, api_key="k", plan=plan, task_seconds=1)
        replies = []
        for number in range(200):
            now, integration = START + number * 50, f"w:{number % 10}"
            replies.append(simulator.submit(now, AUTH, integration, body(f"c{number}")))
            newest = next(reversed(simulator.tasks.values()), None)
            if newest is not None:
                replies.append(simulator.poll(now, AUTH, newest.integration_id, newest.task_id))
        return replies

    assert play(7) == play(7)
    assert play(7) != play(8)


# --- idempotency ----------------------------------------------------------------------------------


def test_the_same_body_returns_the_same_task_also_when_it_is_long_finished() -> None:
    simulator = make()
    task_id = submit(simulator, body("a"))
    submit(simulator, body("a", title="B"), now=START + 1_000)
    assert submit(simulator, body("a"), now=START + 86_400_000) == task_id
    # The trap: the task says COMPLETED, and the LMS holds what came after it.
    assert lms(simulator)["a"]["course"].title == "B"
    assert rows(simulator)[0]["posts"] == 2


def test_the_same_body_of_another_integration_is_another_task_and_not_visible_to_the_first() -> None:
    simulator = make()
    one = submit(simulator, body("a"), integration="w:1")
    two = submit(simulator, body("a"), integration="w:2")
    assert one != two
    assert error_of(simulator.poll(START, AUTH, "w:1", two)) == (404, None)
    assert error_of(simulator.poll(START, AUTH, "w:1", "no-such-task")) == (404, None)


SPACED = b'{"items": [{"course": {"title":"T","type":"EXTERNAL","course_url":"https://example.com/c"},"origin_id":"a"}]}'


@pytest.mark.parametrize(("compare", "same"), [("bytes", False), ("json", True)])
def test_bodies_are_compared_as_bytes_or_as_json(compare: str, same: bool) -> None:
    simulator = make(idempotency={"compare": compare})
    assert (submit(simulator, body("a")) == submit(simulator, SPACED)) is same


def test_json_comparison_tells_null_from_absent_and_minds_the_order_of_items() -> None:
    simulator = make(idempotency={"compare": "json"})
    bodies = [body("a", "b"), body("b", "a"), body("a", "b", description=None)]
    assert len({submit(simulator, payload) for payload in bodies}) == 3


def test_a_body_is_forgotten_after_the_window() -> None:
    simulator = make(idempotency={"forget_after_seconds": 60})
    task_id = submit(simulator, body("a"))
    assert submit(simulator, body("a"), now=START + 59_999) == task_id
    assert submit(simulator, body("a"), now=START + 60_000) != task_id


def test_only_live_tasks_are_returned_when_so_configured() -> None:
    simulator = make(
        {"fault": "task_slow", "seconds_min": 10, "seconds_max": 10},
        idempotency={"return_finished": False},
    )
    task_id = submit(simulator, body("a"))
    assert submit(simulator, body("a"), now=START + 9_999) == task_id
    assert submit(simulator, body("a"), now=START + 10_000) != task_id


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("authorization", [None, "", "Bearer wrong", "k", "bearer k"])
def test_a_wrong_key_is_refused_before_anything_else(authorization: str | None) -> None:
    simulator = make({"fault": "submit_refused"})
    assert error_of(simulator.submit(START, authorization, None, b"junk")) == (
        401,
        "PLATFORM.AUTHENTICATION_INVALID",
    )
    assert error_of(simulator.poll(START, authorization, "w:1", "x")) == (
        401,
        "PLATFORM.AUTHENTICATION_INVALID",
    )


def test_the_integration_must_be_named() -> None:
    assert error_of(make().submit(START, AUTH, None, body("a"))) == (400, "PLATFORM.INPUT_INVALID")


INVALID = {
    "not JSON": b"{",
    "not UTF-8": b'{"items":[{"origin_id":"\xff"}]}',
    "too deep": b'{"items":[],"more":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "not an object": b"[]",
    "no items": b"{}",
    "items null": b'{"items":null}',
    "origin_id missing": msgspec.json.encode({"items": [{"course": COURSE}]}),
    "origin_id a number": msgspec.json.encode({"items": [{"origin_id": 1, "course": COURSE}]}),
    "course missing": b'{"items":[{"origin_id":"a"}]}',
    "origin_id twice": body("a", "b", "a"),
    "type missing": b'{"items":[{"origin_id":"a","course":{"title":"T","course_url":"u"}}]}',
    "type other": body("a", type="SCORM"),
    "title null": body("a", title=None),
    "course_url a number": body("a", course_url=1),
    "duration zero": body("a", duration=0),
    "duration negative": body("a", duration=-1),
    "duration half": body("a", duration=1.5),
    "duration text": body("a", duration="60"),
    "duration true": body("a", duration=True),
    "language upper": body("a", languages=["EN"]),
    "language long": body("a", languages=["abcd"]),
    "language newline": body("a", languages=["en\n"]),
    "language prefix": body("a", languages=["x en"]),
    "language null": body("a", languages=[None]),
    "languages text": body("a", languages="en"),
}


@pytest.mark.parametrize("payload", INVALID.values(), ids=INVALID.keys())
def test_an_invalid_body_makes_no_task(payload: bytes) -> None:
    simulator = make()
    assert error_of(simulator.submit(START, AUTH, "w:1", payload)) == (400, "PLATFORM.INPUT_INVALID")
    assert simulator.tasks == {}


VALID = {
    "minimal": body("a"),
    "no items at all": b'{"items":[]}',
    "nulls": body("a", description=None, thumbnail_url=None, duration=None, languages=None),
    "everything": body("a", description="d", thumbnail_url="t", duration=1, languages=["en", "deu-CH"]),
    "empty texts": body("", title="", course_url=""),
    "no languages": body("a", languages=[]),
    "a whole number with a point": body("a", duration=60.0),
    "unknown fields": body("a", level=3),
}


@pytest.mark.parametrize("payload", VALID.values(), ids=VALID.keys())
def test_what_the_openapi_allows_is_accepted(payload: bytes) -> None:
    simulator = make()
    assert poll(simulator, submit(simulator, payload))["status"] == "COMPLETED"


def test_the_refusal_says_where() -> None:
    with pytest.raises(InvalidBodyError, match=r"\$\.items\[1\]\.course\.duration"):
        parse_items(
            msgspec.json.encode(
                {
                    "items": [
                        {"origin_id": n, "course": {**COURSE, "duration": d}} for n, d in (("a", 1), ("b", 0))
                    ]
                }
            )
        )


def test_too_many_requests_at_the_same_time_are_refused_per_integration() -> None:
    simulator = make(concurrency_limit=2)
    seen = []
    for number in range(3):
        simulator.arrive("w:1")
        reply = simulator.submit(START, AUTH, "w:1", body(f"c{number}"))
        seen.append(
            (reply.status, reply.headers["Concurrency-Limit"], reply.headers["Concurrency-Remaining"])
        )
    assert seen == [(200, "2", "1"), (200, "2", "0"), (429, "2", "0")]
    assert error_of(reply) == (429, "PLATFORM.CONCURRENCY_LIMIT_EXCEEDED")
    simulator.arrive("w:2")
    submit(simulator, body("a"), integration="w:2")
    simulator.leave("w:1")
    simulator.leave("w:1")
    submit(simulator, body("c2"))
    assert simulator.in_flight_max == 3


def test_a_low_limit_holds_for_its_integration_and_counts_who_else_is_there() -> None:
    simulator = make({"fault": "limit_low", "limit": 3, "others": 1, "integrations": ["w:1"]})
    seen = []
    for integration in ("w:1", "w:1", "w:1", "w:2"):
        simulator.arrive(integration)
        reply = simulator.submit(START, AUTH, integration, body("a"))
        seen.append(
            (reply.status, reply.headers["Concurrency-Limit"], reply.headers["Concurrency-Remaining"])
        )
    assert seen == [(200, "3", "1"), (200, "3", "0"), (429, "3", "0"), (200, "30", "29")]


def test_an_outage_answers_nothing_and_ends_by_itself() -> None:
    simulator = make(task_seconds=1)
    task_id = submit(simulator, body("a"))
    simulator.set_outage(START, 5, "cut")
    assert simulator.submit(START + 4_999, AUTH, "w:1", body("b")).delivery is Delivery.CUT
    simulator.set_outage(START, 5, "error")
    assert simulator.poll(START + 4_999, AUTH, "w:1", task_id).status == 503
    assert poll(simulator, task_id, now=START + 5_000)["status"] == "COMPLETED"  # tasks go on meanwhile
    assert len(simulator.tasks) == 1


# --- faults ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["error", "cut", "truncated", "hang"])
def test_a_lost_answer_has_made_its_task(how: str) -> None:
    simulator = make({"fault": "answer_lost", "how": how, "end_seconds": 1, "hang_seconds": 9})
    reply = simulator.submit(START, AUTH, "w:1", body("a"))
    assert reply.delivery is (Delivery.ANSWER if how == "error" else Delivery(how))
    if how == "error":
        assert reply.status in {502, 503}
        with pytest.raises(msgspec.DecodeError):
            msgspec.json.decode(reply.body)
    assert set(lms(simulator)) == {"a"}
    (lost,) = rows(simulator)
    assert submit(simulator, body("a"), now=START + 1_000) == lost["task_id"]
    (found,) = rows(simulator)
    assert (found["posts"], found["posts_answered"]) == (2, 1)


def test_a_refusal_before_acceptance_makes_no_task() -> None:
    simulator = make({"fault": "submit_refused", "statuses": [500]})
    assert simulator.submit(START, AUTH, "w:1", body("a")).status == 500
    coded = {"fault": "submit_refused", "statuses": [409], "code": "INTEGRATION.SETUP_SYNC_PENDING"}
    simulator.set_plan(START, msgspec.convert({"rules": [coded]}, FaultPlan))
    assert error_of(simulator.submit(START, AUTH, "w:1", body("a"))) == (
        409,
        "INTEGRATION.SETUP_SYNC_PENDING",
    )
    assert simulator.tasks == {}


def test_throttling_says_when_to_come_back() -> None:
    simulator = make({"fault": "submit_throttled", "retry_after": 7})
    reply = simulator.submit(START, AUTH, "w:1", body("a"))
    assert error_of(reply) == (429, "PLATFORM.RATE_LIMIT_EXCEEDED")
    assert reply.headers["Retry-After"] == "7"
    assert simulator.tasks == {}


@pytest.mark.parametrize("how", ["error", "cut", "truncated", "hang"])
def test_a_failing_poll_tells_nothing_and_changes_nothing(how: str) -> None:
    simulator = make({"fault": "poll_fails", "how": how, "end_seconds": 1})
    task_id = submit(simulator, body("a"))
    reply = simulator.poll(START, AUTH, "w:1", task_id)
    assert reply.status >= 500 or reply.delivery is not Delivery.ANSWER
    assert rows(simulator)[0]["told_at"] is None
    assert poll(simulator, task_id, now=START + 1_000)["status"] == "COMPLETED"
    assert rows(simulator)[0]["told_at"] == START + 1_000


def test_failing_items_are_not_applied_and_the_others_are() -> None:
    simulator = make({"fault": "item_fails", "probability": 0.5, "codes": ["REMOTE.INPUT_INVALID"]})
    origin_ids = [f"c{number}" for number in range(100)]
    done = poll(simulator, submit(simulator, body(*origin_ids)))
    succeeded = {entry["origin_id"] for entry in done["data"] if entry["status"] == "SUCCEEDED"}
    failed = {
        entry["origin_id"]: entry["error"]["code"] for entry in done["data"] if entry["status"] == "FAILED"
    }
    assert succeeded | set(failed) == set(origin_ids)
    assert 20 < len(succeeded) < 80
    assert set(failed.values()) == {"REMOTE.INPUT_INVALID"}
    assert set(lms(simulator)) == succeeded
    (row,) = rows(simulator)
    assert {item["origin_id"]: item["outcome"] for item in row["items"]} == {
        **dict.fromkeys(succeeded, "SUCCEEDED"),
        **dict.fromkeys(failed, "FAILED"),
    }
    assert {item["origin_id"] for item in row["items"] if item["applied"]} == succeeded


def test_a_failed_task_applies_nothing_and_stays_failed_for_the_same_body() -> None:
    simulator = make(
        {"fault": "task_fails", "codes": ["INTEGRATION.AUTHENTICATION_INVALID"], "end_seconds": 1},
        task_seconds=0.1,
    )
    task_id = submit(simulator, body("a"))
    later = START + 60_000
    failed = poll(simulator, task_id, now=later)
    assert (failed["status"], failed["error"]["code"]) == ("FAILED", "INTEGRATION.AUTHENTICATION_INVALID")
    assert failed["completed_at"] is not None
    assert "data" not in failed
    assert submit(simulator, body("a"), now=later) == task_id
    assert lms(simulator, later) == {}
    assert rows(simulator, later)[0]["code"] == "INTEGRATION.AUTHENTICATION_INVALID"
    fresh = submit(simulator, body("a", title="fresh"), now=later)
    assert poll(simulator, fresh, now=later + 1_000)["status"] == "COMPLETED"


def test_a_slow_task_applies_at_its_end() -> None:
    simulator = make({"fault": "task_slow", "seconds_min": 30, "seconds_max": 30})
    task_id = submit(simulator, body("a"))
    assert poll(simulator, task_id, now=START + 29_999)["status"] == "PENDING"
    assert lms(simulator, START + 29_999) == {}
    assert poll(simulator, task_id, now=START + 30_000)["status"] == "COMPLETED"
    assert lms(simulator, START + 30_000)["a"]["applied_at"] == START + 30_000


@pytest.mark.parametrize("after", [None, 100])
def test_an_endless_task_stays_pending_and_may_apply_late(after: int | None) -> None:
    simulator = make({"fault": "task_endless", "applies_after_seconds": after})
    task_id = submit(simulator, body("a"))
    year = START + 365 * 86_400_000
    assert poll(simulator, task_id, now=START + 99_999)["status"] == "PENDING"
    assert lms(simulator, START + 99_999) == {}
    assert poll(simulator, task_id, now=year)["status"] == "PENDING"
    assert [row["applied_at"] for row in lms(simulator, year).values()] == (
        [] if after is None else [START + 100_000]
    )
    (row,) = rows(simulator, year)
    assert (row["status"], row["completed_at"], row["items"][0]["outcome"]) == ("PENDING", None, None)


@pytest.mark.parametrize(
    ("fault", "mentions"),
    [("entry_missing", [0, 1, 1]), ("entry_duplicated", [1, 1, 2]), ("entry_foreign", [1, 1, 1])],
)
def test_a_result_may_leave_out_repeat_or_invent_an_item(fault: str, mentions: list[int]) -> None:
    simulator = make({"fault": fault})
    entries = [
        entry["origin_id"] for entry in poll(simulator, submit(simulator, body("a", "b", "c")))["data"]
    ]
    assert sorted(entries.count(origin_id) for origin_id in "abc") == mentions
    (row,) = rows(simulator)
    assert [item["reported"] for item in row["items"]] == [entries.count(origin_id) for origin_id in "abc"]
    foreign = [origin_id for origin_id in entries if origin_id not in {"a", "b", "c"}]
    assert foreign == ([row["foreign"]] if fault == "entry_foreign" else [])
    assert set(lms(simulator)) == {"a", "b", "c"}  # a missing item was processed all the same


def test_several_posts_may_get_the_id_of_one_task_that_knows_only_the_first() -> None:
    simulator = make({"fault": "task_id_shared"}, task_seconds=10)
    first = submit(simulator, body("a"))
    assert submit(simulator, body("b")) == first
    assert submit(simulator, body("c")) == first
    assert submit(simulator, body("a", title="another")) != first, "it holds the same course"
    assert submit(simulator, body("b"), integration="w:2") != first
    data = poll(simulator, first, now=START + 20_000)
    assert [entry["origin_id"] for entry in data["data"]] == ["a"]
    assert set(lms(simulator, START + 20_000)) == {"a", "b"}
    assert submit(simulator, body("b"), now=START + 20_000) == first, "a known body, as always"
    assert submit(simulator, body("d"), now=START + 20_000) != first, "it has ended"


def test_slow_answers_are_delayed_within_bounds() -> None:
    simulator = make({"fault": "answer_slow", "seconds_min": 1, "seconds_max": 2})
    assert 1 <= simulator.submit(START, AUTH, "w:1", body("a")).delay_seconds <= 2


def test_the_reader_sees_what_each_task_carried() -> None:
    simulator = make()
    task_id = submit(simulator, body("a", title="A", description=None, level=3))
    simulator.poll(START + 5, AUTH, "w:1", task_id)
    (row,) = rows(simulator)
    assert msgspec.json.decode(msgspec.json.encode(row["items"][0])) == {
        "origin_id": "a",
        "course": {**COURSE, "title": "A"},  # null is absent, unknown fields are not kept
        "outcome": "SUCCEEDED",
        "code": None,
        "reported": 1,
        "applied": True,
    }
    assert (row["created_at"], row["told_at"], row["polls"]) == (START, START + 5, 1)


# --- deactivations --------------------------------------------------------------------------------


def deactivate(simulator: Simulator, course_id: str, integration: str = "w:1", now: int = START) -> Reply:
    return simulator.deactivate(now, AUTH, integration, course_id)


def course_id_of(simulator: Simulator, origin_id: str = "a") -> str:
    return simulator.lms["w:1"][origin_id].course_id


def calls(simulator: Simulator) -> list[tuple[str, str | None, bool]]:
    return [
        (row["course_id"], row["origin_id"], row["is_done"]) for row in readout.deactivation_rows(simulator)
    ]


def test_a_course_is_deactivated_by_either_id_and_stays_in_the_lms() -> None:
    simulator = make()
    submit(simulator, body("a", "b"))
    simulator.advance(START)
    reply = deactivate(simulator, course_id_of(simulator))
    data = msgspec.json.decode(reply.body)["data"]
    assert (reply.status, data["id"], data["origin_id"]) == (200, course_id_of(simulator), "a")
    assert deactivate(simulator, "remote:b").status == 200
    assert [row["is_active"] for row in readout.course_rows(simulator)] == [False, False]
    assert calls(simulator) == [(course_id_of(simulator), "a", True), ("remote:b", "b", True)]
    assert readout.stats(simulator, START)["inactive"] == 2


@pytest.mark.parametrize("course_id", ["a", "remote:", "remote:c", "x"])
def test_an_unknown_course_is_not_found(course_id: str) -> None:
    simulator = make()
    submit(simulator, body("a"))
    simulator.advance(START)
    assert error_of(deactivate(simulator, course_id)) == (404, None)
    assert error_of(deactivate(simulator, "remote:a", "w:2")) == (404, None)
    assert calls(simulator)[0] == (course_id, None, False)


@pytest.mark.parametrize("again", ["done", "refused"])
def test_an_inactive_course_is_deactivated_again(again: str) -> None:
    simulator = make(inactive={"again": again})
    submit(simulator, body("a"))
    simulator.advance(START)
    assert deactivate(simulator, "remote:a").status == 200
    reply = deactivate(simulator, "remote:a")
    if again == "done":
        assert reply.status == 200
    else:
        assert error_of(reply) == (400, "LMS.COURSE_UPDATE_NOT_SUPPORTED")
    assert [done for _, _, done in calls(simulator)] == [True, again == "done"]


@pytest.mark.parametrize(("upsert", "is_active"), [("reactivates", True), ("keeps", False)])
def test_an_upsert_of_an_inactive_course_writes_its_content(upsert: str, is_active: bool) -> None:
    simulator = make(inactive={"upsert": upsert})
    submit(simulator, body("a"))
    simulator.advance(START)
    deactivate(simulator, "remote:a")
    submit(simulator, body("a", title="new"))
    simulator.advance(START)
    (row,) = readout.course_rows(simulator)
    assert (row["course"].title, row["is_active"]) == ("new", is_active)


def test_a_lost_answer_leaves_the_course_inactive_and_a_refusal_does_not() -> None:
    lost = {"fault": "answer_lost", "how": "error", "statuses": [503]}
    simulator = make(lost)
    simulator.submit(START, AUTH, "w:1", body("a"))
    simulator.advance(START)
    assert deactivate(simulator, "remote:a").status == 503
    assert not simulator.lms["w:1"]["a"].is_active
    simulator = make({"fault": "submit_refused", "statuses": [500], "start_seconds": 1})
    submit(simulator, body("a"))
    simulator.advance(START)
    assert deactivate(simulator, "remote:a", now=START + 1000).status == 500
    assert simulator.lms["w:1"]["a"].is_active
    assert calls(simulator) == []


def test_deactivations_count_against_the_concurrency_limit() -> None:
    simulator = make(concurrency_limit=1)
    submit(simulator, body("a"))
    simulator.advance(START)
    simulator.arrive("w:1")
    assert deactivate(simulator, "remote:a").headers["Concurrency-Remaining"] == "0"
    simulator.arrive("w:1")
    assert error_of(deactivate(simulator, "remote:a")) == (429, "PLATFORM.CONCURRENCY_LIMIT_EXCEEDED")
