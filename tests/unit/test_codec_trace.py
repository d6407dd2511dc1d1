"""The trace context of input records: what is taken, what is ignored, and that it never rejects anything."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.codec import decode_change, encode_correction, encode_result
from daemon.codec.trace_context import trace_of
from daemon.core.backlog import rejection_of
from daemon.core.model import Change, Correction, Rejection, Result, Status, Trace

TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE_ID}-{SPAN_ID}-01"
OTHER = f"00-{'a' * 32}-{'b' * 16}-00"
STATE = "vendor=a:b,other=c"
COURSE = {"type": "EXTERNAL", "title": "Cybersecurity", "course_url": "https://example.com/c/1"}
DATA = {"integration_id": "workday:1", "origin_id": "c-1", "course": COURSE}
PLAIN = {"id": "chg-1", "type": "course.upserted", **DATA}
EVENT = {"specversion": "1.0", "id": "chg-1", "type": "course.upserted", "source": "/c", "data": DATA}
BINARY = (("ce_specversion", b"1.0"), ("ce_id", b"chg-1"), ("ce_type", b"course.upserted"))
TRACED = Trace(PARENT)


def decode(value: Any, *headers: tuple[str, bytes | None]) -> Change | Rejection:
    raw = value if isinstance(value, bytes | None) else json.dumps(value).encode()
    return decode_change(7, b"key", raw, headers, consumed_at=1, item_bytes_max=512 * 1024)


def parent(text: str | bytes) -> tuple[str, bytes]:
    return "traceparent", text if isinstance(text, bytes) else text.encode()


# --- where it is ----------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [PLAIN, EVENT], ids=["plain", "structured"])
def test_the_header_counts_in_every_form(value: Any) -> None:
    assert decode(value, parent(PARENT)).trace == TRACED
    assert decode(DATA, *BINARY, parent(PARENT)).trace == TRACED


def test_the_attribute_of_a_cloud_event_counts() -> None:
    structured = decode(EVENT | {"traceparent": PARENT, "tracestate": STATE})
    binary = decode(DATA, *BINARY, ("ce_traceparent", PARENT.encode()), ("ce_tracestate", STATE.encode()))
    assert isinstance(structured, Change)
    assert isinstance(binary, Change)
    assert structured.trace == binary.trace == Trace(PARENT, STATE)


def test_the_header_precedes_the_attribute_unless_it_is_invalid() -> None:
    event = EVENT | {"traceparent": OTHER, "tracestate": STATE}
    assert decode(event, parent(PARENT)).trace == TRACED, "and not with the state of the other"
    assert decode(event, parent("nonsense")).trace == Trace(OTHER, STATE)
    attribute = ("ce_traceparent", OTHER.encode())
    assert decode(DATA, *BINARY, attribute, parent(PARENT)).trace == TRACED
    assert decode(DATA, *BINARY, attribute, parent("")).trace == Trace(OTHER)


def test_the_last_of_several_headers_counts() -> None:
    assert decode(PLAIN, parent(OTHER), parent(PARENT)).trace == TRACED


def test_plain_json_and_the_data_of_an_event_have_no_attributes() -> None:
    assert decode(PLAIN | {"traceparent": PARENT}).trace is None
    assert decode(EVENT | {"data": DATA | {"traceparent": PARENT}}).trace is None
    assert decode(DATA | {"specversion": "1.0", "traceparent": PARENT}, *BINARY).trace is None


def test_a_deactivation_has_one() -> None:
    record = {"id": "chg-1", "type": "course.deactivated", "integration_id": "workday:1", "origin_id": "c"}
    assert decode(record, parent(PARENT)).trace == TRACED


# --- what is valid --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        PARENT[:-1],
        PARENT + "0",
        PARENT + "-more",
        PARENT.upper(),
        PARENT.replace("-", "_"),
        f" {PARENT}",
        f"{PARENT}\n",
        f"00-{'0' * 32}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        f"ff-{TRACE_ID}-{SPAN_ID}-01",
        f"01-{TRACE_ID}-{SPAN_ID}-01more",
        f"00-{TRACE_ID[:-1]}g-{SPAN_ID}-01",
        b"\xff" * 55,
        "\u0660" * 55,
    ],
)
def test_an_invalid_context_is_ignored_and_rejects_nothing(text: str | bytes) -> None:
    for found in (decode(PLAIN, parent(text)), decode(DATA, *BINARY, ("ce_traceparent", parent(text)[1]))):
        assert isinstance(found, Change)
        assert found.trace is None


@pytest.mark.parametrize("member", ["nonsense", 7, None, ["x"], {"a": 1}, True])
def test_an_invalid_attribute_is_ignored_and_rejects_nothing(member: Any) -> None:
    found = decode(EVENT | {"traceparent": member, "tracestate": member})
    assert isinstance(found, Change)
    assert found.trace is None
    assert decode(EVENT | {"traceparent": PARENT, "tracestate": member}).trace in (
        TRACED,
        Trace(PARENT, "nonsense"),
    )


def test_a_null_header_is_ignored() -> None:
    assert decode(PLAIN, ("traceparent", None)).trace is None
    assert decode(PLAIN, parent(PARENT), ("tracestate", None)).trace == TRACED


def test_a_later_version_is_read_as_version_00() -> None:
    for text in (f"cc-{TRACE_ID}-{SPAN_ID}-03", f"cc-{TRACE_ID}-{SPAN_ID}-03-what-ever"):
        assert decode(PLAIN, parent(text)).trace == TRACED, "with the one flag that version 00 knows"


def test_what_is_read_of_it() -> None:
    assert (TRACED.trace_id, TRACED.span_id) == (int(TRACE_ID, 16), int(SPAN_ID, 16))
    assert [Trace(PARENT[:-2] + flags).is_sampled for flags in ("00", "01", "02", "03", "ff")] == [
        False, True, False, True, True,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("state", "kept"),
    [
        (STATE, STATE),
        (f" {STATE}\t", STATE),
        ("x=" + "y" * 510, "x=" + "y" * 510),
        ("x=" + "y" * 511, ""),
        ("x=ü", ""),
        ("x=\n1", ""),
        ("", ""),
    ],
)
def test_the_state_is_carried_up_to_its_bound(state: str, kept: str) -> None:
    assert decode(PLAIN, parent(PARENT), ("tracestate", state.encode())).trace == Trace(PARENT, kept)


@given(
    st.lists(
        st.tuples(st.sampled_from(["traceparent", "tracestate", "CE_Traceparent", "x"]), st.binary()),
        max_size=4,
    )
)
def test_no_header_raises(headers: list[tuple[str, bytes]]) -> None:
    trace_of(headers, b'{"specversion":"1.0","traceparent":')


# --- rejections -----------------------------------------------------------------------------------


def test_a_rejected_record_keeps_its_context() -> None:
    bad = DATA | {"course": {}}
    for found in (
        decode(None, parent(PARENT)),
        decode(b"{", parent(PARENT)),
        decode(EVENT | {"data": bad, "traceparent": PARENT}),
        decode(bad, *BINARY, ("ce_traceparent", PARENT.encode())),
    ):
        assert isinstance(found, Rejection)
        assert found.trace == TRACED


def test_a_change_without_room_keeps_it() -> None:
    change = decode(PLAIN, parent(PARENT))
    assert isinstance(change, Change)
    assert rejection_of(change, "full").trace == TRACED


# --- results --------------------------------------------------------------------------------------


def headers_of(trace: Trace | None, span_id: int | None = None) -> dict[str, bytes | None]:
    result = Result(7, Status.SUCCEEDED, "i", "o", "c", 1, 2, trace=trace)
    names: dict[str, Any] = {"changes_topic": "c", "journal_topic": "j", "span_id": span_id}
    headers = dict(encode_result(result, 3, **names)[2])
    assert dict(encode_correction(Correction(result), 3, **names)[2]) == headers
    assert headers.pop("content-type") == b"application/cloudevents+json"
    return headers


def test_a_result_passes_the_context_on_unchanged() -> None:
    assert headers_of(None) == {}
    assert headers_of(TRACED) == {"traceparent": PARENT.encode()}
    assert headers_of(Trace(OTHER, STATE)) == {"traceparent": OTHER.encode(), "tracestate": STATE.encode()}


def test_a_result_names_the_span_that_is_exported() -> None:
    named = f"00-{TRACE_ID}-00000000000000ff-01".encode()
    assert headers_of(Trace(PARENT, STATE), 255) == {"traceparent": named, "tracestate": STATE.encode()}
