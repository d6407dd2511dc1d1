"""Input records: what is taken, what is rejected, and what a person is told about it."""

import json
import re
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.codec import decode_change
from daemon.codec.change import Course
from daemon.codec.content_digest import content_digest
from daemon.codec.nesting import NESTING_MAX
from daemon.codec.repeated_keys import all_keys_differ, repeated_keys
from daemon.core.deactivate import DEACTIVATE
from daemon.core.model import Change, Rejection, RejectReason
from daemon.core.upsert import UPSERT
from tests.tools.schema_files import schemas

INTEGRATION = "workday:HWUTwvyx2wLoSUHphiWVrp28"
COURSE = {
    "type": "EXTERNAL",
    "title": "Cybersecurity",
    "course_url": "https://example.com/c/1",
    "duration": 45,
}
CHANGE = {
    "id": "chg-1",
    "type": "course.upserted",
    "integration_id": INTEGRATION,
    "origin_id": "cybersecurity-101",
    "course": COURSE,
}
DATA = {name: CHANGE[name] for name in ("integration_id", "origin_id", "course")}
EVENT = {"specversion": "1.0", "id": "chg-1", "type": "course.upserted", "source": "/catalogue", "data": DATA}
ATTRIBUTES = {"datacontenttype": "application/json", "dataschema": "https://x:1/a:b", "subject": "a"}
"""Other attributes that CloudEvents defines."""
BINARY = (
    ("ce_specversion", b"1.0"),
    ("ce_id", b"chg-1"),
    ("ce_type", b"course.upserted"),
    ("ce_source", b"/x"),
)
Headers = tuple[tuple[str, bytes | None], ...]
STRUCTURED = (("content-type", b"application/cloudevents+json"),)


def decode(value: Any, headers: Headers = (), item_bytes_max: int = 512 * 1024) -> Change | Rejection:
    if not isinstance(value, bytes | None):
        value = json.dumps(value).encode()
    return decode_change(7, b"key", value, headers, consumed_at=1, item_bytes_max=item_bytes_max)


def change(**other: Any) -> dict[str, Any]:
    return CHANGE | other


def course(**other: Any) -> dict[str, Any]:
    return CHANGE | {"course": COURSE | other}


DEACTIVATION = {
    "id": "chg-1",
    "type": "course.deactivated",
    "integration_id": INTEGRATION,
    "origin_id": "cybersecurity-101",
    "course_id": "remote:32",
}


def deactivation(**fields: Any) -> dict[str, Any]:
    return DEACTIVATION | fields


def without(document: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key != name}


def body(decoded: Change | Rejection) -> dict[str, Any]:
    assert isinstance(decoded, Change), decoded
    item: dict[str, Any] = json.loads(decoded.body)
    return item


def rejected(value: Any, headers: Headers = (), item_bytes_max: int = 512 * 1024) -> Rejection:
    decoded = decode(value, headers, item_bytes_max)
    assert isinstance(decoded, Rejection), decoded
    return decoded


# --- what is taken --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "headers"),
    [
        (CHANGE, ()),
        (CHANGE, (("content-type", b"application/json"), ("traceparent", b"00-1-2-01"))),
        (EVENT, ()),
        (EVENT, STRUCTURED),
        (EVENT, (("Content-Type", b"Application/CloudEvents+JSON; charset=utf-8"),)),
        (DATA, BINARY),
    ],
    ids=["plain", "plain with headers", "structured by member", "structured", "any case", "binary"],
)
def test_every_form_gives_the_same_change(value: Any, headers: Headers) -> None:
    assert decode(value, headers) == Change(
        UPSERT,
        offset=7,
        change_id="chg-1",
        integration_id=INTEGRATION,
        origin_id="cybersecurity-101",
        body=json.dumps({"origin_id": "cybersecurity-101", "course": COURSE}, separators=(",", ":")).encode(),
        consumed_at=1,
        key=b"key",
        value=json.dumps(value).encode(),  # as it came, should it become a dead letter yet
        headers=headers,
        content=content_digest(msgspec.convert(COURSE, Course)),
    )


@pytest.mark.parametrize("course_id", [None, "remote:32"])
@pytest.mark.parametrize("form", ["plain", "structured", "binary"])
def test_every_form_gives_the_same_deactivation(form: str, course_id: str | None) -> None:
    data = {"integration_id": INTEGRATION, "origin_id": "cybersecurity-101"}
    if course_id is not None:
        data["course_id"] = course_id
    headers: Headers = ()
    value: dict[str, Any] = {"id": "chg-1", "type": "course.deactivated", "course": "ignored"} | data
    if form == "structured":
        value = {
            "specversion": "1.0",
            "id": "chg-1",
            "source": "/c",
            "type": "course.deactivated",
            "data": data,
        }
    elif form == "binary":
        value, headers = data, (*BINARY[:2], ("ce_type", b"course.deactivated"))
    found = decode(value, headers)
    assert isinstance(found, Change)
    assert (found.operation, found.change_id, found.origin_id) == (DEACTIVATE, "chg-1", "cybersecurity-101")
    assert body(found) == ({} if course_id is None else {"course_id": course_id})


def test_a_course_id_that_is_null_is_none() -> None:
    assert body(decode(deactivation(course_id=None))) == {}


def test_unknown_fields_stay_out_of_the_call() -> None:
    assert body(decode(change(course=COURSE | {"level": 3}, note={"deep": [1]}))) == body(decode(CHANGE))


def test_null_stays_null_and_absent_stays_absent() -> None:
    item = body(decode(course(description=None, languages=None)))["course"]
    assert item["description"] is None
    assert item["languages"] is None
    assert "thumbnail_url" not in item


def test_a_title_that_says_specversion_is_no_cloud_event() -> None:
    assert body(decode(course(title="specversion")))["course"]["title"] == "specversion"


def test_text_of_any_script_survives() -> None:
    item = body(decode(change(origin_id="课程-1 é", course=COURSE | {"title": "„Ünï“ 🎓 \u2028"})))
    assert item["origin_id"] == "课程-1 é"
    assert item["course"]["title"] == "„Ünï“ 🎓 \u2028"


@pytest.mark.parametrize("duration", [1, 2**63 - 1])
def test_durations_at_the_bounds(duration: int) -> None:
    assert body(decode(course(duration=duration)))["course"]["duration"] == duration


def test_an_item_of_exactly_the_limit_is_taken() -> None:
    taken = decode(CHANGE)
    assert isinstance(taken, Change)
    size = len(taken.body)
    assert isinstance(decode(CHANGE, item_bytes_max=size), Change)
    assert rejected(CHANGE, item_bytes_max=size - 1).reason is RejectReason.OVERSIZED


def test_a_large_record_with_a_small_course_is_taken() -> None:
    assert isinstance(decode(change(attachment="x" * 5_000_000)), Change)


def nested(levels: int) -> bytes:
    """A change with an unknown field so that the whole record has so many levels."""
    inside = levels - 1
    return VALID.replace(b'"id"', b'"x": ' + b"[" * inside + b"]" * inside + b', "id"')


def test_nesting_up_to_the_limit_is_taken_by_every_python() -> None:
    assert isinstance(decode(nested(NESTING_MAX)), Change)
    too_deep = rejected(nested(NESTING_MAX + 1))
    assert too_deep.error.message.startswith(
        f"the record is nested too deep: its objects and arrays have more than {NESTING_MAX} l"
    )
    assert (too_deep.change_id, too_deep.integration_id) == (None, None), "nothing of it is read"


def test_many_brackets_are_not_deep() -> None:
    wide = change(attachment=[{"a": []}] * NESTING_MAX, text="[{" * NESTING_MAX, quote='"[' * NESTING_MAX)
    assert isinstance(decode(wide), Change)


def test_bytes_that_are_no_object_are_not_called_deep() -> None:
    assert "is a JSON array" in rejected(b"[" * NESTING_MAX + b"]" * (NESTING_MAX + 1)).error.message
    assert "nested" not in rejected(b"title={[" * NESTING_MAX).error.message


def test_a_text_may_have_lines_tabs_and_a_backslash_before_u0000() -> None:
    text = "one\r\n\ttwo\n"
    assert body(decode(course(description=text, title="\\u0000")))["course"]["description"] == text


# --- what is rejected, and why --------------------------------------------------------------------

VALID = json.dumps(CHANGE).encode()
BAD = {
    "tombstone": (None, "tombstone", "no value"),
    "empty": (b"", "malformed", "value is empty"),
    "no JSON": (b"title=Cybersecurity", "malformed", "not JSON: .*starts with: title=Cyber"),
    "cut short": (VALID[:-9], "malformed", "not JSON: Input data was truncated"),
    "Confluent": (b"\x00\x00\x00\x00\x2a" + VALID, "malformed", "Confluent's wire format .*schema id 42"),
    "byte order mark": (b"\xef\xbb\xbf" + VALID, "malformed", "byte order mark"),
    "UTF-16": (VALID.decode().encode("utf-16"), "malformed", "is UTF-16 .*byte order mark"),
    **{
        f"{encoding} without a mark": (
            (" \n" + VALID.decode()).encode(encoding),
            "malformed",
            f"is {encoding[:6].upper()} .it has NUL bytes",
        )
        for encoding in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
    },
    "Latin-1": (VALID.replace(b"Cyber", b"\xfcber"), "malformed", r"course\.title: is not valid UTF-8"),
    "Latin-1 in a field that is not used": (
        VALID.replace(b"{", b'{"x":"\xff",', 1),
        "malformed",
        "not valid UTF-8",
    ),
    "Latin-1 key": (VALID.replace(b'"id"', b'"\xfc"'), "malformed", "not valid UTF-8"),
    "deep": (b'{"a":' * 100_000, "malformed", "nested too deep"),
    "title a number": (course(title=1), "course", r"course\.title: found 1"),
    "deep in an unknown field": (
        VALID.replace(b'"id"', b'"x": ' + b"[" * 9000 + b"]" * 9000 + b', "id"'),
        "malformed",
        "nested too deep",
    ),
    "deep in strings that end in an escaped quote": (
        VALID.replace(b'"id"', b'"\\"]": ' + b'[{"\\\\":' * 300 + b"0" + b"}]" * 300 + b', "id"'),
        "malformed",
        "nested too deep",
    ),
    **{
        f"NUL in {name}": (
            course(**{name: "Cyber\0security"}),
            "course",
            rf"^course\.{name}: found \"Cyber\\u0000security\" with the character NUL \(\\u0000\) as character 6, ex",
        )
        for name in ("title", "description", "course_url", "thumbnail_url")
    },
    "NUL at the end": (course(title="Cyber\0"), "course", "as character 6, expected .* without NUL"),
    "NUL before a newline": (course(description="a\0\n"), "course", "as character 2"),
    "half a surrogate pair": (VALID.replace(b"Cyber", b"\\ud800"), "malformed", "surrogate"),
    "NaN": (VALID.replace(b"45", b"NaN"), "malformed", "NaN"),
    "array": ([CHANGE], "schema", "is a JSON array, expected a JSON object"),
    "number": (b"12", "schema", "not an object: 12"),
    "JSON in JSON": (json.dumps(VALID.decode()).encode(), "schema", "serialised twice"),
    "empty object": ({}, "schema", "id: missing, .*type: missing, .*integration_id: missing"),
    "no course": (without(CHANGE, "course"), "schema", "course: missing, expected a JSON object"),
    "course null": (change(course=None), "schema", "course: found null, expected a JSON object"),
    "course a list": (change(course=[1]), "schema", r"course: found \[1\], expected a JSON object"),
    "no type": (without(CHANGE, "type"), "schema", 'type: missing, expected "course.upserted"'),
    "type a number": (change(type=5), "schema", "type: found 5"),
    "deactivated alone": ({"type": "course.deactivated"}, "schema", "^id: missing, .*; origin_id: missing"),
    "course_id empty": (deactivation(course_id=""), "schema", '^course_id: found "", expected 1 to 512 char'),
    "course_id a number": (deactivation(course_id=5), "schema", "^course_id: found 5, .* or null"),
    "course_id too long": (
        deactivation(course_id="x" * 513),
        "identifier",
        r"^course_id: .*\(513 characters",
    ),
    "course_id of dots": (deactivation(course_id=".."), "identifier", r"^course_id: .*not \. or \.\."),
    "course_id with a newline": (deactivation(course_id="a\n"), "identifier", "^course_id: .*no control"),
    "another type": (change(type="user.created"), "unsupported", "type: found user.created, expected course"),
    "no id": (without(CHANGE, "id"), "schema", "^id: missing"),
    "id a number": (change(id=5), "schema", "^id: found 5, expected 1 to 256 characters"),
    "id empty": (change(id=""), "schema", '^id: found "", expected 1 to 256 characters'),
    "id too long": (
        change(id="x" * 257),
        "identifier",
        r"^id: found .*\(257 characters\), expected 1 to 256",
    ),
    "newline": (
        change(integration_id="a\nb"),
        "identifier",
        r"^integration_id: found \"a\\nb\", expected .*ASCII",
    ),
    "newline at the end": (change(integration_id="a\n"), "identifier", "^integration_id: .*printable ASCII"),
    "blank inside": (change(integration_id="a b"), "identifier", "^integration_id: .*no spaces"),
    "umlaut in the integration": (
        change(integration_id="ü"),
        "identifier",
        "^integration_id: .*printable ASCII",
    ),
    "integration too long": (
        change(integration_id="x" * 257),
        "identifier",
        r"^integration_id: .*\(257 char",
    ),
    "origin empty": (change(origin_id=""), "schema", '^origin_id: found ""'),
    "origin null": (change(origin_id=None), "schema", "^origin_id: found null"),
    "origin with NUL": (change(origin_id="a\0"), "identifier", "^origin_id: .*control character"),
    "origin with a newline at the end": (
        change(origin_id="a\n"),
        "identifier",
        "^origin_id: .*control character",
    ),
    "origin too long": (change(origin_id="x" * 513), "identifier", r"^origin_id: .*\(513 characters\)"),
    "title missing": (
        change(course=without(COURSE, "title")),
        "course",
        r"course\.title: missing, expected text",
    ),
    "title empty": (
        course(title=""),
        "course",
        r'course\.title: found "", expected text that is not empty',
    ),
    "title null": (course(title=None), "course", r"course\.title: found null"),
    "no URL": (course(course_url=""), "course", r"course\.course_url: found"),
    "internal": (course(type="INTERNAL"), "course", r'course\.type: found "INTERNAL", expected "EXTERNAL"'),
    "zero minutes": (course(duration=0), "course", r"course\.duration: found 0, expected .* or null"),
    "negative": (course(duration=-5), "course", r"course\.duration: found -5"),
    "fraction": (course(duration=60.0), "course", r"course\.duration: found 60\.0"),
    "true": (course(duration=True), "course", r"course\.duration: found true"),
    "beyond 64 bits": (course(duration=2**63), "course", r"course\.duration: found 9223372036854775808"),
    "far beyond": (course(duration=10**40), "course", r"course\.duration: found 1000"),
    "infinite": (VALID.replace(b"45", b"1e999"), "course", r"course\.duration: found 1e999"),
    "text for a number": (course(duration="45"), "course", r'course\.duration: found "45"'),
    "language": (
        course(languages=["EN"]),
        "course",
        r'^course\.languages\[0\]: found "EN", expected .*"de-CH"',
    ),
    "language with a newline": (course(languages=["en\n"]), "course", r"^course\.languages\[0\]"),
    "39th of 40 languages": (
        course(languages=["en"] * 38 + ["pt_BR", "de"]),
        "course",
        r'^course\.languages\[38\]: found "pt_BR", expected a language tag[^;]*$',
    ),
    "several languages": (
        course(languages=["en", "xxxx", "de", None, 5]),
        "course",
        r'languages\[1\]: found "xxxx", expected .*; course\.languages\[3\]: found null; .*\[4\]: found 5$',
    ),
    "more languages than are quoted": (
        course(languages=["X"] * 1000),
        "course",
        r'languages\[4\]: found "X"; and more$',
    ),
    "numeric region": (course(languages=["es-419"]), "course", r'"es-419", expected .*rule of the API'),
    "script": (
        course(languages=["de", "zh-Hans"]),
        "course",
        r'\[1\]: found "zh-Hans", expected .*of the API',
    ),
    "language a text": (course(languages="en"), "course", r'course\.languages: found "en", expected a list'),
    "time a number": (change(time=5), "schema", "^time: found 5"),
    "5 MB": (
        course(description="x" * 5_000_000),
        "oversized",
        r"5,000,\d{3} bytes .*524,288 bytes \(batch.bytes_max\)",
    ),
    "10 MB": (
        change(attachment="x" * 10_000_000),
        "oversized",
        r"value has 10,000,\d{3} bytes, but at most 8,388,608 bytes",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_record(name: str) -> None:
    value, reason, message = BAD[name]
    rejection = rejected(value)
    assert rejection.reason == reason
    assert rejection.error.code is not None
    assert rejection.error.code.startswith("COURSESYNC.")
    assert_message(rejection, message)


def assert_message(rejection: Rejection, pattern: str) -> None:
    __tracebackhide__ = True
    message = rejection.error.message
    assert re.search(pattern, message), message
    assert len(message) < 900
    assert message.isprintable(), "a message must not break a log line or a header"


@pytest.mark.parametrize(
    ("value", "headers", "reason", "message"),
    [
        (DATA, BINARY[:1] + BINARY[2:], "schema", "^header ce_id: missing"),
        (DATA, (("ce_specversion", b"0.3"), *BINARY[1:]), "schema", '^header ce_specversion: found "0.3"'),
        (
            DATA,
            (*BINARY[:2], ("ce_type", b"course.retired")),
            "unsupported",
            "^header ce_type: found course.retired, expected course.upserted or course.deactivated",
        ),
        (DATA, (BINARY[0], ("ce_id", b"\xff"), *BINARY[2:]), "malformed", "ce_id is not valid UTF-8"),
        (DATA, (BINARY[0], ("ce_id", b"a\nb"), *BINARY[2:]), "identifier", "^header ce_id: "),
        (b"nope", BINARY, "malformed", "not JSON"),
        (without(DATA, "course"), BINARY, "schema", "^course: missing"),
        (CHANGE, STRUCTURED, "schema", "^specversion: missing, .*data: missing"),
        (EVENT | {"specversion": "2.0"}, (), "schema", '^specversion: found "2.0", expected "1.0"'),
        (EVENT | {"data": DATA | {"integration_id": "a b"}}, (), "identifier", r"^data\.integration_id: "),
        (
            EVENT | {"data": DATA | {"course": COURSE | {"title": ""}}},
            (),
            "course",
            r"^data\.course\.title: ",
        ),
        (without(EVENT, "data") | {"data_base64": "e30="}, (), "unsupported", "^data_base64: "),
        ([EVENT], (("content-type", b"application/cloudevents-batch+json"),), "unsupported", "batched mode"),
    ],
)
def test_bad_cloud_event(value: Any, headers: Headers, reason: str, message: str) -> None:
    rejection = rejected(value, headers)
    assert rejection.reason == reason
    assert_message(rejection, message)


@pytest.mark.parametrize(
    ("value", "headers", "ids"),
    [
        (course(title=""), (), ("chg-1", INTEGRATION, "cybersecurity-101")),
        (change(integration_id="a\nb"), (), ("chg-1", None, "cybersecurity-101")),
        (change(id=5), (), (None, INTEGRATION, "cybersecurity-101")),
        (BAD["5 MB"][0], (), ("chg-1", INTEGRATION, "cybersecurity-101")),
        (BAD["Latin-1"][0], (), ("chg-1", INTEGRATION, "cybersecurity-101")),
        (BAD["10 MB"][0], (), ("chg-1", INTEGRATION, "cybersecurity-101")),
        (EVENT | {"data": DATA | {"course": 1}}, (), ("chg-1", INTEGRATION, "cybersecurity-101")),
        (DATA | {"course": 1}, BINARY, ("chg-1", INTEGRATION, "cybersecurity-101")),
        (b"nope", BINARY, ("chg-1", None, None)),
        (None, (), (None, None, None)),
    ],
)
def test_ids_that_can_be_read_are_kept_for_the_result(
    value: Any, headers: Headers, ids: tuple[str | None, str | None, str | None]
) -> None:
    rejection = rejected(value, headers)
    assert (rejection.change_id, rejection.integration_id, rejection.origin_id) == ids


def test_the_record_itself_is_kept_for_the_dead_letter() -> None:
    rejection = rejected(b"nope", (("traceparent", b"00"),))
    assert (rejection.offset, rejection.key, rejection.value) == (7, b"key", b"nope")
    assert rejection.headers == (("traceparent", b"00"),)


def test_every_mistake_is_told_at_once() -> None:
    rejection = rejected(change(origin_id="", course={"type": "EXTERNAL", "title": 5, "duration": 0}))
    for field in ("origin_id", "course.title", "course.course_url", "course.duration"):
        assert f"{field}: " in rejection.error.message


# --- repeated keys --------------------------------------------------------------------------------


def repeat(name: str, again: str, value: bytes = VALID) -> bytes:
    """The record with a second member of that name before its first one."""
    return value.replace(f'"{name}":'.encode(), f'"{name}": {again}, "{name}":'.encode(), 1)


@pytest.mark.parametrize(
    ("value", "headers", "path"),
    [
        *(
            (repeat(name, json.dumps(CHANGE[name])), (), name)
            for name in ("id", "integration_id", "origin_id", "course")
        ),
        *((repeat(name, json.dumps(COURSE[name])), (), f"course.{name}") for name in ("title", "duration")),
        (repeat("id", "5"), (), "id"),
        (repeat("title", "null"), (), "course.title"),
        (repeat("title", '"a:b"'), (), "course.title"),
        (VALID.replace(b'"title":', b'"ti\\u0074le": "x", "title":'), (), "course.title"),
        (VALID.replace(b'"title": "C', b'"title": "x", "title": "\\u003a'), (), "course.title"),
        (VALID.replace(b'"id":', b'"note": 1, "note": {"a": 2}, "id":'), (), "note"),
        (
            VALID.replace(b'"title":', b'"level": 1, "level": "' + b"x" * 5000 + b'", "title":'),
            (),
            "course.level",
        ),
        (repeat("data", "{}", json.dumps(EVENT).encode()), (), "data"),
        (repeat("specversion", '"1.0"', json.dumps(EVENT).encode()), STRUCTURED, "specversion"),
        (repeat("origin_id", '"x"', json.dumps(EVENT).encode()), (), "data.origin_id"),
        (repeat("title", '"x"', json.dumps(EVENT).encode()), (), "data.course.title"),
        *((repeat(name, '"x:y"', json.dumps(EVENT | ATTRIBUTES).encode()), (), name) for name in ATTRIBUTES),
        (repeat("title", '"x"', json.dumps(EVENT | ATTRIBUTES).encode()), (), "data.course.title"),
        (
            repeat("title", '"x"', json.dumps(EVENT | ATTRIBUTES).replace('"a"', '"\\u003a"').encode()),
            (),
            "data.course.title",
        ),
        (repeat("title", '"x"', json.dumps(DATA).encode()), BINARY, "course.title"),
        (DATA, (*BINARY, ("CE_id", b"chg-1")), "the header ce_id"),
        (DATA, (("ce_type", b"course.deactivated"), *BINARY), "the header ce_type"),
        (repeat("course_id", '"x"', json.dumps(DEACTIVATION).encode()), (), "course_id"),
        (repeat("id", '"x"', json.dumps(DEACTIVATION).encode()), (), "id"),
    ],
)
def test_a_repeated_key_is_rejected_and_named(value: Any, headers: Headers, path: str) -> None:
    rejection = rejected(value, headers)
    assert isinstance(rejection, Rejection)
    assert rejection.error.code in ("COURSESYNC.RECORD_INVALID", "COURSESYNC.COURSE_INVALID")
    assert_message(rejection, f"^{re.escape(path)}:? occurs more than once")


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("id", (None, INTEGRATION, "cybersecurity-101")),
        ("origin_id", ("chg-1", INTEGRATION, None)),
        ("course", ("chg-1", INTEGRATION, "cybersecurity-101")),
    ],
)
def test_an_id_that_is_given_twice_is_none(name: str, ids: tuple[str | None, str | None, str | None]) -> None:
    rejection = rejected(repeat(name, json.dumps(CHANGE[name])))
    assert (rejection.change_id, rejection.integration_id, rejection.origin_id) == ids


def test_equal_keys_of_different_objects_are_no_repetition() -> None:
    other = {"id": 1, "course": {"title": "a:b"}, "list": [{"id": 1}, {"id": 1}], ":": '":"', '"id"': 1}
    assert isinstance(decode(change(course=COURSE | other, extra=other, title="x", **{"a:b": "c"})), Change)
    assert isinstance(decode(VALID.replace(b'"id"', b'"unknown": {"a": 1, "a": 2}, "id"')), Change)


@pytest.mark.parametrize("ignored", ["text", "a:b", 5, None, {"a": {"b": 1}}, ["x"]])
@pytest.mark.parametrize("name", ATTRIBUTES)
def test_attributes_that_are_not_read_may_be_anything(name: str, ignored: Any) -> None:
    assert isinstance(decode(EVENT | ATTRIBUTES | {name: ignored}, STRUCTURED), Change)


KEYS = st.sampled_from(["id", "title", "course", "a:b", '"', "\\", "é"])
MEMBERS = st.recursive(
    st.integers() | st.text(max_size=3) | st.sampled_from(["{", '"id":']),
    lambda inner: st.lists(inner, max_size=3) | st.lists(st.tuples(KEYS, inner), max_size=4).map(tuple),
    max_leaves=8,
)


def written(value: Any, ascii_only: bool) -> str:
    """JSON; an object is a tuple of pairs."""
    if isinstance(value, tuple):
        pairs = (f"{json.dumps(key, ensure_ascii=ascii_only)} :{written(v, ascii_only)}" for key, v in value)
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list):
        return f"[{','.join(written(element, ascii_only) for element in value)}]"
    return json.dumps(value, ensure_ascii=ascii_only)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(KEYS, MEMBERS), max_size=5), st.booleans())
def test_repeated_keys_are_those_of_the_pairs(pairs: list[tuple[str, Any]], ascii_only: bool) -> None:
    names = [name for name, _ in pairs]
    text = written(tuple(pairs), ascii_only).encode()
    members = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    found = list(repeated_keys(text, members, Course))
    assert sorted(found) == sorted({name for name in names if names.count(name) > 1})


def differ(value: Any) -> bool:
    """Whether no object in it has a key twice."""
    if isinstance(value, tuple):
        names = [name for name, _ in value]
        return len(set(names)) == len(names) and all(differ(inner) for _, inner in value)
    return not isinstance(value, list) or all(map(differ, value))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(KEYS, MEMBERS), max_size=5), st.booleans())
def test_the_quick_look_sees_every_level(pairs: list[tuple[str, Any]], ascii_only: bool) -> None:
    text = written(tuple(pairs), ascii_only).encode()
    assert all_keys_differ(text) is differ(tuple(pairs))


@pytest.mark.parametrize("text", [b"{", b'{"a": "\xff"}', b"[" * 9000, b'{"a": "' + b"x" * 20_000 + b'"}'])
def test_the_quick_look_promises_nothing_of_other_texts(text: bytes) -> None:
    assert not all_keys_differ(text)


# --- properties -----------------------------------------------------------------------------------

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 2**70)
    | st.text(max_size=5)
    | st.sampled_from(["EXTERNAL", "en"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)


@st.composite
def almost_changes(draw: st.DrawFn) -> dict[str, Any]:
    """A valid change with up to three fields replaced, removed or added."""
    document: dict[str, Any] = json.loads(VALID)
    for _ in range(draw(st.integers(0, 3))):
        target = draw(st.sampled_from([document, document.get("course")]))
        if not isinstance(target, dict):
            continue
        name = draw(st.sampled_from([*CHANGE, *COURSE, "languages", "description", "time", "extra"]))
        if draw(st.booleans()):
            target[name] = draw(JSON_VALUES)
        else:
            target.pop(name, None)
    return document


VALIDATOR = jsonschema.Draft202012Validator(json.loads(schemas()["course-change.schema.json"]))


@settings(max_examples=300, deadline=None)
@given(almost_changes())
def test_the_published_schema_and_the_daemon_agree(document: dict[str, Any]) -> None:
    assert VALIDATOR.is_valid(document) == isinstance(decode(document), Change)


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=60)
    | st.builds(
        lambda at, junk: VALID[:at] + junk + VALID[at:], st.integers(0, len(VALID)), st.binary(max_size=4)
    ),
    st.sampled_from([(), STRUCTURED, BINARY, (("ce_id", b"\xff"), ("content-type", b""))]),
)
def test_no_bytes_at_all_raise(value: bytes, headers: Headers) -> None:
    decoded = decode(value, headers)
    if isinstance(decoded, Rejection):
        assert_message(decoded, ".")
    else:
        json.loads(decoded.body)
