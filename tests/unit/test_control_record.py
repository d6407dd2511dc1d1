"""Records of the control topic: what is written is read again, and anything else is a ValueError."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from daemon.codec import decode_control, encode_control
from daemon.core.control import Decision, GiveUp, Pause

TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
TIMES = st.integers(0, 4_102_444_800_000)
MAYBE = st.none() | TEXTS
PAUSES = st.builds(Pause, TEXTS, st.booleans(), st.none() | TIMES, TEXTS, MAYBE, TIMES)
GIVE_UPS = st.builds(
    GiveUp,
    TEXTS,
    MAYBE,
    st.booleans(),
    TEXTS,
    st.lists(st.integers(0, 2**62), max_size=4).map(tuple),
    TEXTS,
    MAYBE,
    TIMES,
)
WRITTEN = {
    "kind": "pause",
    "integration": "a",
    "paused": True,
    "by": "x",
    "decided_at": "2026-11-29T10:00:00Z",
}


@given(PAUSES | GIVE_UPS)
def test_what_is_written_is_read_again(decision: Decision) -> None:
    assert decode_control(encode_control(decision)[1]) == decision


@given(PAUSES | GIVE_UPS, PAUSES | GIVE_UPS)
def test_decisions_replace_each_other_only_if_they_are_about_the_same(one: Decision, other: Decision) -> None:
    def subject(decision: Decision) -> tuple[str | None, ...]:
        if isinstance(decision, Pause):
            return "pause", decision.integration
        return "give-up", decision.integration_id, decision.origin_id

    assert (encode_control(one)[0] == encode_control(other)[0]) is (subject(one) == subject(other))


@given(st.binary(max_size=60))
@example(b"")
@example(b'{"kind":"pause","x":' + b"[" * 100_000)
def test_other_bytes_are_a_value_error(value: bytes) -> None:
    with pytest.raises(ValueError):
        decode_control(value)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "stop"},
        {"paused": "yes"},
        {"decided_at": "yesterday"},
        {"until": "2026-11-29"},
        {"decided_at": "2026-11-29T10:00:00"},
    ],
)
def test_a_decision_with_a_field_that_cannot_be_read_is_a_value_error(change: dict[str, str]) -> None:
    decode_control(json.dumps(WRITTEN).encode())
    with pytest.raises(ValueError):
        decode_control(json.dumps(WRITTEN | change).encode())


def test_a_later_version_may_add_fields() -> None:
    assert decode_control(json.dumps(WRITTEN | {"colour": [1]}).encode()) == Pause(
        "a", True, None, "x", None, 1_795_946_400_000
    )
