"""Whatever comes in, what goes into a record is bounded (R7): one record too many bytes stops a partition forever."""

import hashlib
import json
import tracemalloc
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.codec import DEAD_LETTER_BYTES_MAX, decode_change, encode_dead_letter, encode_result
from daemon.codec.decode import VALUE_BYTES_MAX
from daemon.codec.rejection_codes import CODE_OF_REASON
from daemon.codec.result import Encoded
from daemon.core.model import Error, Rejection, RejectReason, Result, Status

MIB = 1024 * 1024
TOPICS: dict[str, Any] = {"changes_topic": "course-changes", "journal_topic": "course-sync-journal"}


def rejection(
    key: bytes | None = b"key",
    value: bytes | None = b"value",
    headers: tuple[tuple[str, bytes | None], ...] = (),
    message: str = "because",
) -> Rejection:
    return Rejection(
        offset=5,
        reason=RejectReason.SCHEMA,
        error=Error("COURSESYNC.RECORD_INVALID", message),
        change_id=None,
        integration_id=None,
        origin_id=None,
        consumed_at=1,
        key=key,
        value=value,
        headers=headers,
    )


def size(record: Encoded) -> int:
    key, value, headers = record
    return (
        len(key or b"")
        + len(value or b"")
        + sum(len(name) + len(content or b"") for name, content in headers)
    )


def contents(record: Encoded) -> dict[str, bytes]:
    """Those of the headers that are not null."""
    return {name: content for name, content in record[2] if content is not None}


def dead_letter(*args: Any, **kwargs: Any) -> Encoded:
    return encode_dead_letter(rejection(*args, **kwargs), 3, changes_topic="course-changes")


def test_a_dead_letter_is_the_original_and_the_reason() -> None:
    key, value, headers = dead_letter(b"\x00key", b"\xff\x00", (("a", None), ("a", b"")))
    assert (key, value) == (b"\x00key", b"\xff\x00")
    assert headers[-2:] == (("a", None), ("a", b"")), "null is not empty"
    assert dict(headers[:4]) == {
        "coursesync-source": b"course-changes/3/5",
        "coursesync-reason": b"schema",
        "coursesync-error-code": b"COURSESYNC.RECORD_INVALID",
        "coursesync-error-message": b"because",
    }


def test_an_oversized_value_is_cut_and_the_whole_described() -> None:
    value = b"x" * 5_000_000
    record = dead_letter(value=value)
    headers = contents(record)
    assert record[1] is not None
    assert DEAD_LETTER_BYTES_MAX - 1000 < size(record) <= DEAD_LETTER_BYTES_MAX
    assert value.startswith(record[1])
    assert headers["coursesync-value-size"] == b"5000000"
    assert headers["coursesync-value-sha256"] == hashlib.sha256(value).hexdigest().encode()
    assert headers["coursesync-source"] == b"course-changes/3/5"


def test_an_oversized_key_and_headers_leave_room_for_the_value() -> None:
    flood = tuple((f"h{number}", b"x" * 1000) for number in range(2000))
    record = dead_letter(key=b"k" * 2_000_000, value=b"v" * 2_000_000, headers=flood)
    headers = contents(record)
    assert record[1] is not None
    assert size(record) <= DEAD_LETTER_BYTES_MAX
    assert len(record[1]) > DEAD_LETTER_BYTES_MAX // 3
    assert headers["coursesync-key-size"] == b"2000000"
    kept = sum(name.startswith("h") for name in headers)
    assert int(headers["coursesync-headers-dropped"]) == 2000 - kept


def test_a_dead_letter_that_comes_back_has_the_new_reason_only() -> None:
    _, _, headers = dead_letter(message="first")
    _, _, again = dead_letter(message="second", headers=headers)
    assert [content for name, content in again if name == "coursesync-error-message"] == [b"second"]


@settings(max_examples=60, deadline=None)
@given(
    st.none() | st.integers(0, 40_000),
    st.none() | st.integers(0, 40_000),
    st.lists(st.tuples(st.text(max_size=20), st.integers(0, 9_000)), max_size=8),
)
def test_no_dead_letter_exceeds_its_limit(
    key_size: int | None, value_size: int | None, headers: list[tuple[str, int]]
) -> None:
    record = encode_dead_letter(
        rejection(
            None if key_size is None else b"k" * key_size,
            None if value_size is None else b"v" * value_size,
            tuple((name, b"h" * length) for name, length in headers),
        ),
        3,
        changes_topic="t" * 249,
        max_bytes=16 * 1024,
    )
    assert size(record) <= 16 * 1024
    assert (record[0] is None, record[1] is None) == (key_size is None, value_size is None)


def test_texts_of_the_api_are_cut() -> None:
    result = Result(
        offset=1,
        status=Status.FAILED,
        integration_id="i",
        origin_id="o",
        change_id="c",
        consumed_at=1,
        resolved_at=2,
        course_id="c" * 10_000,
        task_id="t" * 10_000,
        error=Error("C" * 10_000, "m" * 10_000_000, "t" * 10_000, "https://" + "l" * 10_000),
    )
    _, value, _ = encode_result(result, 0, **TOPICS)
    assert value is not None
    data = json.loads(value)["data"]
    assert len(value) < 10_000
    assert data["error"]["message"].endswith("m…")
    assert data["error"]["log_url"] is None, "half a link leads nowhere"
    assert data["course_id"].endswith("c…")


def test_ids_of_any_script_and_length_make_a_key_that_reads_back() -> None:
    result = Result(1, Status.REJECTED, 'a"],[\\', "课程", None, 1, 2)
    key, value, _ = encode_result(result, 0, **TOPICS)
    assert key is not None
    assert value is not None
    assert json.loads(key) == ['a"],[\\', "课程"]
    assert json.loads(value)["subject"] == "课程"


@pytest.mark.parametrize("ms", [0, 999, 1_000, 1_795_427_999_875])
def test_times_are_utc_with_milliseconds(ms: int) -> None:
    result = Result(1, Status.REJECTED, None, None, None, ms, ms)
    _, value, _ = encode_result(result, 0, **TOPICS)
    assert value is not None
    data = json.loads(value)["data"]
    from_text = datetime.fromisoformat(data["resolved_at"])
    assert round(from_text.timestamp() * 1000) == ms
    assert data["resolved_at"].endswith("Z")
    assert len(data["resolved_at"]) == 24


def test_every_reason_has_a_code_of_its_own() -> None:
    assert set(CODE_OF_REASON) == set(RejectReason)
    assert len(set(CODE_OF_REASON.values())) == len(RejectReason)


def test_the_message_of_a_rejection_fits_into_its_dead_letter() -> None:
    rejected = decode_change(1, None, b"\xff" * 3_000_000, (), consumed_at=1, item_bytes_max=1)
    assert isinstance(rejected, Rejection)
    _, value, headers = encode_dead_letter(rejected, 0, changes_topic="t")
    assert dict(headers)["coursesync-error-message"] == rejected.error.message.encode()
    assert value is not None
    assert len(value) < DEAD_LETTER_BYTES_MAX


def many(piece: bytes, size: int) -> bytes:
    return b",".join([piece] * (size // (len(piece) + 1)))


_LANGUAGES = (  # slow to be traced
    lambda size: b'{"course":{"languages":[' + many(b'"aa"', size) + b"]}}",
)
_OTHERS = (
    lambda size: b'{"specversion":[' + many(b"{}", size) + b"]}",
    lambda size: b'{"x":[' + many(b"{}", size) + b",NaN]}",
    lambda size: b"{" + b",".join(b'"%x":1' % key for key in range(size // 9)) + b"}",
    lambda size: b'{"id":' + b"[" * size,
)


@pytest.mark.parametrize(
    ("made", "size"),
    [
        *((made, VALUE_BYTES_MAX - MIB) for made in _OTHERS),
        *((made, 4 * VALUE_BYTES_MAX) for made in (*_LANGUAGES, *_OTHERS)),
    ],
)
def test_a_value_that_was_made_to_fill_memory_does_not(made: Callable[[int], bytes], size: int) -> None:
    """It comes in a few kB of compressed data, and as objects took 25 times its size."""
    value = made(size)
    tracemalloc.start()
    try:
        decoded = decode_change(0, None, value, (), consumed_at=0, item_bytes_max=524_288)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(decoded, Rejection)
    assert peak < 160 * MIB
