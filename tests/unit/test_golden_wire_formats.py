"""Every wire format of the topics, byte for byte, and against the published JSON Schemas."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from daemon.codec import (
    decode_change,
    decode_control,
    decode_course,
    encode_control,
    encode_correction,
    encode_course,
    encode_dead_letter,
    encode_result,
)
from daemon.codec.repeats import encode_repeats, repeats_of
from daemon.core.control import Decision, GiveUp, Pause
from daemon.core.course import CourseRecord, CourseState, course_key
from daemon.core.model import Change, Correction, Error, Rejection, RejectReason, Repeats, Result, Status
from tests.tools.schema_files import schemas
from tests.unit.golden_files import assert_golden, read_record, render_record

SCHEMAS = Path(__file__).parent.parent.parent / "schemas"
TOPICS: dict[str, Any] = {"changes_topic": "course-changes", "journal_topic": "course-sync-journal"}
CONSUMED = 1_795_427_999_875  # 2026-11-23T09:59:59.875Z
ANSWERED = Result(
    offset=1042,
    status=Status.SUCCEEDED,
    integration_id="workday:HWUTwvyx2wLoSUHphiWVrp28",
    origin_id="cybersecurity-101",
    change_id="chg-1",
    consumed_at=CONSUMED,
    resolved_at=CONSUMED + 72_426,
    attempts=1,
    course_id="26vafvWSRmbhNcxJYqjCzuJg",
    batch_id="3-1042-1",
    task_id="7FPJba3qRNBYaJgTvDKZi7mi",
    submitted_at=CONSUMED + 1_100,
    completed_at=CONSUMED + 70_000,
    change_type="course.upserted",
)
VENDOR_ERROR = Error(
    code="INTEGRATION.PERMISSION_MISSING",
    message="The credentials may not create courses.",
    title="A permission is missing",
    log_url="https://app.kombo.dev/env/production/logs/interactions/9ZQ",
)


def ended(status: Status, **other: Any) -> Result:
    """The same change with another end."""
    known = {name: getattr(ANSWERED, name) for name in ANSWERED.__struct_fields__}
    return Result(**(known | {"status": status, "course_id": None} | other))


UNSENT = {"batch_id": None, "task_id": None, "submitted_at": None, "completed_at": None, "attempts": 0}
RESULTS = {
    "succeeded": ANSWERED,
    "deactivated": ended(
        Status.SUCCEEDED,
        course_id=ANSWERED.course_id,
        task_id=None,
        completed_at=CONSUMED + 1_000,
        change_type="course.deactivated",
    ),
    "failed": ended(Status.FAILED, error=VENDOR_ERROR, attempts=5),
    "timed-out": ended(
        Status.TIMED_OUT, error=Error("COURSESYNC.TASK_TIMED_OUT", "still pending"), completed_at=None
    ),
    "superseded": ended(Status.SUPERSEDED, superseded_by=1050, **UNSENT),
    "repeat-outdated": ended(
        Status.FAILED, error=Error("COURSESYNC.REPEAT_OUTDATED", "run it again"), **UNSENT
    ),
    "unchanged": ended(Status.UNCHANGED, course_id="26vafvWSRmbhNcxJYqjCzuJg", **UNSENT),
    "rejected": ended(
        Status.REJECTED,
        error=Error("COURSESYNC.RECORD_EMPTY", "the record has no value"),
        integration_id=None,
        origin_id=None,
        change_id=None,
        change_type=None,
        **UNSENT,
    ),
}
REJECTION = Rejection(
    offset=1043,
    reason=RejectReason.COURSE,
    error=Error("COURSESYNC.COURSE_INVALID", "course.duration: found -5, expected a whole number of minutes"),
    change_id="chg-4",
    integration_id="workday:HWUTwvyx2wLoSUHphiWVrp28",
    origin_id="cybersecurity-101",
    consumed_at=CONSUMED,
    key=b"workday:HWUTwvyx2wLoSUHphiWVrp28",
    value=b'{"id": "chg-4", "course": {"duration": -5}}',
    headers=(("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),),
)


def validate(schema: str, document: object) -> None:
    contents = json.loads((SCHEMAS / f"{schema}.schema.json").read_bytes())
    jsonschema.Draft202012Validator(contents).validate(document)


@pytest.mark.parametrize("name", RESULTS)
def test_result(name: str) -> None:
    record = encode_result(RESULTS[name], 3, **TOPICS)
    assert record[1] is not None
    validate("sync-result", json.loads(record[1]))
    assert_golden(f"result-{name}.record", render_record(*record))


COURSES = {
    "active": CourseRecord(
        "workday:HWUTwvyx2wLoSUHphiWVrp28",
        "cybersecurity-101",
        CourseState.ACTIVE,
        "26vafvWSRmbhNcxJYqjCzuJg",
        bytes(range(16)),
        1042,
        "chg-1",
        "7FPJba3qRNBYaJgTvDKZi7mi",
        confirmed_at=CONSUMED + 70_000,
        recorded_at=CONSUMED + 72_426,
    ),
    "inactive": CourseRecord(
        "workday:HWUTwvyx2wLoSUHphiWVrp28",
        "cybersecurity-101",
        CourseState.INACTIVE,
        "26vafvWSRmbhNcxJYqjCzuJg",
        None,
        1050,
        "chg-2",
        None,
        confirmed_at=None,
        recorded_at=CONSUMED + 90_000,
    ),
    "unknown": CourseRecord(
        "workday:HWUTwvyx2wLoSUHphiWVrp28",
        "cybersecurity-101",
        CourseState.UNKNOWN,
        None,
        None,
        1060,
        "chg-3",
        "9FPJba3qRNBYaJgTvDKZi7mi",
        confirmed_at=None,
        recorded_at=CONSUMED + 99_000,
    ),
}


@pytest.mark.parametrize("name", COURSES)
def test_course(name: str) -> None:
    record = COURSES[name]
    key, value = encode_course(record, 3, changes_topic="course-changes")
    validate("known-course", json.loads(value))
    assert_golden(f"course-{name}.record", render_record(key, value))
    assert key == course_key(record.integration_id, record.origin_id)
    assert decode_course(value) == record.known()


INTEGRATION = "workday:HWUTwvyx2wLoSUHphiWVrp28"
DECISIONS: dict[str, Decision] = {
    "pause": Pause(
        "workday:*", True, CONSUMED + 7_200_000, "ann@ops-1", "Workday maintenance, ticket 4711", CONSUMED
    ),
    "resume": Pause(INTEGRATION, False, None, "ann@ops-1", None, CONSUMED + 60_000),
    "give-up": GiveUp(
        INTEGRATION, None, True, "Kq3uHbyFTVuFWX8VGqxKOw", (1042, 0, 7), "ann@ops-1", "tool gone", CONSUMED
    ),
    "give-up-course": GiveUp(
        INTEGRATION,
        "cybersecurity-101",
        False,
        "Kq3uHbyFTVuFWX8VGqxKOw",
        (1042, 0, 7),
        "ann@ops-1",
        None,
        CONSUMED,
    ),
}


@pytest.mark.parametrize("name", DECISIONS)
def test_decision(name: str) -> None:
    key, value = encode_control(DECISIONS[name])
    validate("control-pause" if isinstance(DECISIONS[name], Pause) else "control-give-up", json.loads(value))
    assert_golden(f"control-{name}.record", render_record(key, value))
    assert decode_control(value) == DECISIONS[name]


def test_correction() -> None:
    record = encode_correction(Correction(ANSWERED), 3, **TOPICS)
    assert record[1] is not None
    validate("sync-correction", json.loads(record[1]))
    assert_golden("correction.record", render_record(*record))


@pytest.mark.parametrize("name", ["dead-letter", "dead-letter-cut", "dead-letter-tombstone"])
def test_dead_letter(name: str) -> None:
    parts = {field: getattr(REJECTION, field) for field in REJECTION.__struct_fields__}
    if name == "dead-letter-cut":
        parts["value"] = b'{"course": {"title": "' + b"x" * 20_000
    if name == "dead-letter-tombstone":
        parts |= {"value": None, "reason": RejectReason.TOMBSTONE}
    record = encode_dead_letter(Rejection(**parts), 3, changes_topic="course-changes", max_bytes=16 * 1024)
    validate("dead-letter-headers", {header: (content or b"").decode() for header, content in record[2]})
    assert_golden(f"{name}.record", render_record(*record))


@pytest.mark.parametrize(
    ("name", "schema"),
    [
        ("plain", "course-change"),
        ("structured", "course-change-event"),
        ("binary", None),
        ("deactivated", "course-deactivation"),
        ("deactivated-structured", "course-deactivation-event"),
        ("deactivated-binary", None),
    ],
)
def test_change(name: str, schema: str | None) -> None:
    """The input is written by hand; recorded is what of it goes to the API."""
    key, value, headers = read_record(f"change-{name}.record")
    assert value is not None
    if schema is not None:
        validate(schema, json.loads(value))
    change = decode_change(0, key, value, headers, consumed_at=CONSUMED, item_bytes_max=512 * 1024)
    assert isinstance(change, Change)
    told = f"{change.change_id}\n{change.integration_id}\n{change.origin_id}\n".encode()
    assert_golden(f"change-{name}.item", told + change.body + b"\n")


def test_repeat() -> None:
    key, value, _ = read_record("change-plain.record")
    headers = encode_repeats("course-changes", 3, Repeats(1042, 2001))
    validate("repeat-headers", {name: content.decode() for name, content in headers})
    assert_golden("change-repeated.record", render_record(key, value, headers))
    read = read_record("change-repeated.record")[2]
    assert repeats_of(read, "course-changes", 3, 2001) == Repeats(1042, 2001)


def test_published_schemas_are_those_of_the_code() -> None:
    published = {path.name: path.read_bytes() for path in SCHEMAS.glob("*.json")}
    assert published == schemas(), "run: python -m tests.tools.schema_files schemas"


@pytest.mark.parametrize("name", schemas())
def test_schemas_are_valid_themselves(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(json.loads(schemas()[name]))


@pytest.mark.parametrize("name", ["sync-result", "sync-correction", "dead-letter-headers"])
def test_readers_are_told_to_read_committed(name: str) -> None:
    assert "isolation.level=read_committed" in (SCHEMAS / f"{name}.schema.json").read_text()


def test_first_recording_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.unit.golden_files.FOLDER", tmp_path)
    with pytest.raises(pytest.fail.Exception, match="for the first time"):
        assert_golden("new.record", b"x")
    assert_golden("new.record", b"x")
    with pytest.raises(AssertionError):
        assert_golden("new.record", b"y")
