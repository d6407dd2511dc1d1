"""The priority of a change, in each form that a record may have."""

from __future__ import annotations

import json
from typing import Any

import pytest

from daemon.codec import decode_change
from daemon.core.model import Change, Rejection

COURSE: dict[str, Any] = {"type": "EXTERNAL", "title": "Title", "course_url": "https://example.com/c"}
UPSERT: dict[str, Any] = {"integration_id": "i", "origin_id": "c", "course": COURSE}
DEACTIVATION: dict[str, Any] = {"integration_id": "i", "origin_id": "c", "course_id": "remote:c"}
TYPES = {"course.upserted": UPSERT, "course.deactivated": DEACTIVATION}


def decoded(value: str | dict[str, Any], headers: dict[str, str] | None = None) -> Change | Rejection:
    text = value if isinstance(value, str) else json.dumps(value)
    made = tuple((name, content.encode()) for name, content in (headers or {}).items())
    return decode_change(0, None, text.encode(), made, consumed_at=0, item_bytes_max=100_000)


def in_each_form(event_type: str, **more: Any) -> list[Change | Rejection]:
    data = TYPES[event_type] | more
    attributes = {"specversion": "1.0", "id": "1", "type": event_type, "source": "/s"}
    return [
        decoded({"id": "1", "type": event_type} | data),
        decoded(attributes | {"data": data}),
        decoded(data, {f"ce_{name}": content for name, content in attributes.items()}),
    ]


@pytest.mark.parametrize("event_type", list(TYPES))
@pytest.mark.parametrize(
    ("more", "bulk"),
    [({}, False), ({"priority": "bulk"}, True), ({"priority": "normal"}, False), ({"priority": None}, False)],
)
def test_a_change_says_that_nobody_waits_for_it(event_type: str, more: dict[str, Any], *, bulk: bool) -> None:
    for change in in_each_form(event_type, **more):
        assert isinstance(change, Change)
        assert change.bulk is bulk
        assert b"priority" not in change.body


@pytest.mark.parametrize("event_type", list(TYPES))
@pytest.mark.parametrize("priority", ["high", "", "BULK", 1, True, ["bulk"]])
def test_any_other_priority_is_rejected(event_type: str, priority: object) -> None:
    for rejection in in_each_form(event_type, priority=priority):
        assert isinstance(rejection, Rejection)
        assert "priority: found" in rejection.error.message
        assert 'expected "normal" or "bulk" or null' in rejection.error.message


def test_a_priority_that_is_given_twice_is_rejected() -> None:
    text = json.dumps({"id": "1", "type": "course.upserted", "priority": "bulk"} | UPSERT)
    rejection = decoded(text.replace('"priority"', '"priority": "normal", "priority"'))
    assert isinstance(rejection, Rejection)
    assert "priority: occurs more than once" in rejection.error.message
