"""The digest of a course: equal for what means the same, and for nothing else."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.codec import decode_change
from daemon.codec.content_digest import _with_lower_host
from daemon.core.model import Change, Rejection
from daemon.core.upsert import HOST, UPSERT
from tests.sandbox.checker import content_digest as digest_of_the_checker

COURSE: dict[str, Any] = {
    "type": "EXTERNAL",
    "title": "Title",
    "course_url": "https://Example.com/C/1?q=A",
    "languages": ["en", "de", "fr"],
}


def decoded(**more: Any) -> Change | Rejection:
    event = {"id": "1", "type": "course.upserted", "integration_id": "i", "origin_id": "c", **more}
    return decode_change(0, None, json.dumps(event).encode(), (), consumed_at=0, item_bytes_max=100_000)


def digest(course: dict[str, Any]) -> bytes | None:
    change = decoded(course=course)
    assert isinstance(change, Change)
    return change.content


@pytest.mark.parametrize(
    "other",
    [
        {"description": None, "duration": None, "thumbnail_url": None},
        {"languages": ["en", "fr", "de"]},
        {"course_url": "https://example.COM/C/1?q=A"},
        {"unknown": 1},
    ],
)
def test_what_means_the_same_has_the_same_digest(other: dict[str, Any]) -> None:
    assert digest(COURSE | other) == digest(COURSE)
    assert digest_of_the_checker(COURSE | other) == digest_of_the_checker(COURSE)


@pytest.mark.parametrize(
    "other",
    [
        {"title": "title"},
        {"title": "Title "},
        {"description": ""},
        {"duration": 1},
        {"languages": ["de", "en", "fr"]},
        {"languages": ["en", "de", "fr", "fr"]},
        {"languages": []},
        {"languages": None},
        {"course_url": "https://example.com/c/1?q=A"},
        {"course_url": "HTTPS://example.com/C/1?q=A"},
        {"course_url": "app://Example.com/C/1?q=A"},
        {"course_url": "https://user@example.com/C/1?q=A"},
        {"thumbnail_url": "https://Example.com/C/1?q=A"},
        {"thumbnail_url": ""},
    ],
)
def test_what_means_something_else_has_another(other: dict[str, Any]) -> None:
    assert digest(COURSE | other) != digest(COURSE)


def test_every_equivalent_body_has_the_digest_of_the_first() -> None:
    """R14 and R16 have one idea of what means the same."""
    full = COURSE | {"thumbnail_url": "https://u@Ü.example.com:8/p.png", "duration": 5}
    rng, expected = random.Random(1), digest(full)
    change = decoded(course=full)
    assert isinstance(change, Change)
    for replays in range(1, 8):
        reencoded = UPSERT.reencode([change.body], replays, 10**6, rng)
        assert reencoded is not None
        assert digest(json.loads(reencoded[0][1])["course"]) == expected


@pytest.mark.parametrize(("resend", "expected"), [(True, True), (False, False), (None, False)])
def test_a_change_may_ask_to_be_sent(resend: bool | None, expected: bool) -> None:
    change = decoded(course=COURSE, resend=resend)
    assert isinstance(change, Change)
    assert change.resend is expected
    assert b"resend" not in change.body


def test_a_request_that_is_no_boolean_is_rejected() -> None:
    rejection = decoded(course=COURSE, resend="yes")
    assert isinstance(rejection, Rejection)
    assert "resend" in rejection.error.message
    assert "expected true or false" in rejection.error.message


_urls = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["https://", "http://", "HTTP://", "https:/", "https:///", "myapp://", ""]),
        st.sampled_from(["", "user@", "User@"]),
        st.text("aAéÉ.:1-", max_size=6),
        st.sampled_from(["", "/", "/Path", "?Query/x", "#Part/x", "\\Odd/x"]),
    ),
)


@given(_urls)
def test_the_host_is_lowered_and_nothing_else(url: str) -> None:
    """Also where a look at the first characters is enough."""
    match = HOST.match(url)
    expected = url
    if match is not None:
        host = "".join([char.lower() if char.isascii() else char for char in match[1]])
        expected = url[: match.start(1)] + host + url[match.end(1) :]
    assert _with_lower_host(url) == expected
