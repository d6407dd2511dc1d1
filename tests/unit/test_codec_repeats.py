"""The headers of a change that repeats an older one (R20)."""

import json

import pytest

from daemon.codec import decode_change
from daemon.codec.repeats import CHECKED, HEADERS, REPEATS, encode_repeats, with_repeats, without_repeats
from daemon.core.model import Change, Rejection, Repeats

Headers = tuple[tuple[str, bytes | None], ...]
CHANGE = {
    "id": "chg-1",
    "type": "course.upserted",
    "integration_id": "hr:1",
    "origin_id": "c",
    "course": {"type": "EXTERNAL", "title": "T", "course_url": "https://example.com"},
}


def decoded(headers: Headers, value: bytes | None = None) -> Change | Rejection:
    """The record at offset 10 of partition 3."""
    value = json.dumps(CHANGE).encode() if value is None else value
    change = decode_change(10, b"hr:1", value, headers, consumed_at=1, item_bytes_max=100_000)
    return with_repeats(change, "changes", 3)


def test_the_headers_are_read_back_as_written_among_others() -> None:
    for repeats in (Repeats(0, 1), Repeats(4, 10)):
        headers = (("n", b"1"), *encode_repeats("changes", 3, repeats), ("n", None))
        change = decoded(headers)
        assert isinstance(change, Change)
        assert change.repeats == repeats
        assert without_repeats(headers) == (("n", b"1"), ("n", None))


def test_other_records_repeat_nothing() -> None:
    for headers in ((), (("traceparent", b"00-1"),), (("coursesync-source", b"changes/3/1"),)):
        change = decoded(headers)
        assert isinstance(change, Change)
        assert change.repeats is None


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        (((REPEATS, b"changes/3/1"),), "1 and 0 of them"),
        (((CHECKED, b"5"),), "0 and 1 of them"),
        (((REPEATS, b"changes/3/1"), (REPEATS, b"changes/3/2"), (CHECKED, b"5")), "2 and 1 of them"),
        (((REPEATS, b"3/1"), (CHECKED, b"5")), "not <topic>/<partition>/<offset>: 3/1"),
        (((REPEATS, None), (CHECKED, b"5")), "not <topic>/<partition>/<offset>"),
        (((REPEATS, b"changes/3/-1"), (CHECKED, b"5")), "not <topic>/<partition>/<offset>"),
        (((REPEATS, b"changes/3/01"), (CHECKED, b"5")), "not <topic>/<partition>/<offset>"),
        (((REPEATS, b"changes/3/1"), (CHECKED, b"five")), "not an offset: five"),
        (((REPEATS, b"changes/3/1"), (CHECKED, b"9" * 5000)), "not an offset: 999"),
        (((REPEATS, b"changes/2/1"), (CHECKED, b"5")), "in another partition than this record (changes/3)"),
        (((REPEATS, b"other/3/1"), (CHECKED, b"5")), "in another partition than this record (changes/3)"),
        (((REPEATS, b"\xff/3/1"), (CHECKED, b"5")), "in another partition than this record (changes/3)"),
        (((REPEATS, b"changes/3/5"), (CHECKED, b"5")), "must ascend"),
        (((REPEATS, b"changes/3/1"), (CHECKED, b"11")), "must ascend"),
    ],
)
def test_what_is_not_valid_is_rejected_with_a_reason(headers: Headers, message: str) -> None:
    rejection = decoded(headers)
    assert isinstance(rejection, Rejection)
    assert rejection.error.code == "COURSESYNC.RECORD_INVALID"
    assert message in rejection.error.message
    assert len(rejection.error.message) < 1000
    assert (rejection.change_id, rejection.integration_id, rejection.origin_id) == ("chg-1", "hr:1", "c")
    assert (rejection.offset, rejection.key, rejection.headers) == (10, b"hr:1", headers)


def test_a_record_that_is_no_change_is_rejected_for_that() -> None:
    rejection = decoded(((REPEATS, b"nonsense"),), b"{")
    assert isinstance(rejection, Rejection)
    assert rejection.error.code == "COURSESYNC.RECORD_MALFORMED"


def test_each_header_is_described() -> None:
    assert set(HEADERS) == {REPEATS, CHECKED}
