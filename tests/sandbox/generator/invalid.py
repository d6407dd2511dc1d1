"""Records that are not valid changes: one function for each kind of publisher error.

Each of them clearly violates the public description of the input topic, so each must end with exactly one `REJECTED`
result.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

OVERSIZED_BYTES = 5_000_000
"""Ten times the limit of a batch. It compresses to a few KiB, so a topic with the usual 1 MiB limit for (compressed) batches
accepts it."""

NESTING_DEPTH = 100_000
"""Deeper than any JSON parser's recursion limit."""


class InvalidKind(StrEnum):
    TRUNCATED_JSON = "truncated-json"
    NOT_JSON = "not-json"
    CONFLUENT_FRAMED = "confluent-framed"
    INVALID_UTF8 = "invalid-utf8"
    DEEP_NESTING = "deep-nesting"
    NOT_AN_OBJECT = "not-an-object"
    TOMBSTONE = "tombstone"
    EMPTY_VALUE = "empty-value"
    OVERSIZED = "oversized"
    MISSING_ID = "missing-id"
    EMPTY_ID = "empty-id"
    MISSING_TYPE = "missing-type"
    MISSING_INTEGRATION = "missing-integration"
    INTEGRATION_NEWLINE = "integration-newline"
    INTEGRATION_NUMBER = "integration-number"
    EMPTY_ORIGIN = "empty-origin"
    COURSE_NULL = "course-null"
    COURSE_LIST = "course-list"
    TITLE_MISSING = "title-missing"
    TITLE_NUMBER = "title-number"
    TITLE_EMPTY = "title-empty"
    TITLE_NUL = "title-nul"
    TITLE_TWICE = "title-twice"
    URL_MISSING = "url-missing"
    COURSE_TYPE = "course-type"
    DURATION_ZERO = "duration-zero"
    DURATION_TEXT = "duration-text"
    LANGUAGE_NAME = "language-name"
    LANGUAGE_NEWLINE = "language-newline"
    COURSE_ID_EMPTY = "course-id-empty"
    UNKNOWN_TYPE = "unknown-type"
    STRUCTURED_WITHOUT_DATA = "structured-without-data"
    BINARY_WITHOUT_TYPE = "binary-without-type"


class Spoiled(NamedTuple):
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


def spoil(kind: InvalidKind, change: dict[str, Any]) -> Spoiled:
    """A valid change (plain form) with this error applied."""
    key = change["integration_id"].encode()
    if kind in _BYTES:
        value, headers = _BYTES[kind](change)
        return Spoiled(key, value, headers)
    wrong = _FIELDS[kind](change)
    return Spoiled(key, msgspec.json.encode(wrong))


_CE_STRUCTURED = (("content-type", b"application/cloudevents+json"),)


def _structured_without_data(change: dict[str, Any]) -> bytes:
    return msgspec.json.encode(
        {"specversion": "1.0", "id": change["id"], "source": "/catalogue", "type": change["type"]}
    )


def _data(change: dict[str, Any]) -> bytes:
    return msgspec.json.encode({k: change[k] for k in ("integration_id", "origin_id", "course")})


def _deep(change: dict[str, Any]) -> bytes:
    nest = b"[" * NESTING_DEPTH + b"]" * NESTING_DEPTH
    return msgspec.json.encode(_course(change, languages="NEST")).replace(b'"NEST"', nest)


def _oversized(change: dict[str, Any]) -> bytes:
    sentence = "So much to say about this course. "
    text = sentence * (OVERSIZED_BYTES // len(sentence) + 1)
    return msgspec.json.encode(_course(change, description=text))


_Raw = tuple[bytes | None, tuple[tuple[str, bytes], ...]]

_BYTES: dict[InvalidKind, Callable[[dict[str, Any]], _Raw]] = {
    InvalidKind.TRUNCATED_JSON: lambda c: (msgspec.json.encode(c)[:-20], ()),
    InvalidKind.NOT_JSON: lambda c: (f"<course id='{c['origin_id']}'/>".encode(), ()),
    # Confluent's wire format: a zero byte and the schema id (four bytes) before the payload.
    InvalidKind.CONFLUENT_FRAMED: lambda c: (b"\x00\x00\x00\x00\x2a" + msgspec.json.encode(c), ()),
    InvalidKind.INVALID_UTF8: lambda c: (
        msgspec.json.encode(_course(c, title="Fran?ais")).replace(b"Fran?ais", b"Fran\xe7ais"),  # Latin-1
        (),
    ),
    InvalidKind.DEEP_NESTING: lambda c: (_deep(c), ()),
    InvalidKind.NOT_AN_OBJECT: lambda c: (msgspec.json.encode([c]), ()),
    InvalidKind.TOMBSTONE: lambda _: (None, ()),
    InvalidKind.EMPTY_VALUE: lambda _: (b"", ()),
    InvalidKind.OVERSIZED: lambda c: (_oversized(c), ()),
    InvalidKind.TITLE_TWICE: lambda c: (
        msgspec.json.encode(c).replace(b'"title":', b'"title":"Another title","title":', 1),
        (),
    ),
    InvalidKind.STRUCTURED_WITHOUT_DATA: lambda c: (_structured_without_data(c), _CE_STRUCTURED),
    InvalidKind.BINARY_WITHOUT_TYPE: lambda c: (
        _data(c),
        (
            ("content-type", b"application/json"),
            ("ce_specversion", b"1.0"),
            ("ce_id", c["id"].encode()),
            ("ce_source", b"/catalogue"),
        ),
    ),
}


def _without(record: dict[str, Any], name: str) -> dict[str, Any]:
    return {k: v for k, v in record.items() if k != name}


def _course(change: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {**change, "course": {**change["course"], **fields}}


_FIELDS: dict[InvalidKind, Callable[[dict[str, Any]], dict[str, Any]]] = {
    InvalidKind.MISSING_ID: lambda c: _without(c, "id"),
    InvalidKind.EMPTY_ID: lambda c: {**c, "id": ""},
    InvalidKind.MISSING_TYPE: lambda c: _without(c, "type"),
    InvalidKind.MISSING_INTEGRATION: lambda c: _without(c, "integration_id"),
    InvalidKind.INTEGRATION_NEWLINE: lambda c: {**c, "integration_id": c["integration_id"] + "\nX-Evil: 1"},
    InvalidKind.INTEGRATION_NUMBER: lambda c: {**c, "integration_id": 42},
    InvalidKind.EMPTY_ORIGIN: lambda c: {**c, "origin_id": ""},
    InvalidKind.COURSE_NULL: lambda c: {**c, "course": None},
    InvalidKind.COURSE_LIST: lambda c: {**c, "course": [c["course"]]},
    InvalidKind.TITLE_MISSING: lambda c: {**c, "course": _without(c["course"], "title")},
    InvalidKind.TITLE_NUMBER: lambda c: _course(c, title=7),
    InvalidKind.TITLE_EMPTY: lambda c: _course(c, title=""),
    InvalidKind.TITLE_NUL: lambda c: _course(c, title="Cyber\0security"),
    InvalidKind.URL_MISSING: lambda c: {**c, "course": _without(c["course"], "course_url")},
    InvalidKind.COURSE_TYPE: lambda c: _course(c, type="SCORM"),
    InvalidKind.DURATION_ZERO: lambda c: _course(c, duration=0),
    InvalidKind.DURATION_TEXT: lambda c: _course(c, duration="45 minutes"),
    InvalidKind.LANGUAGE_NAME: lambda c: _course(c, languages=["en", "English"]),
    InvalidKind.LANGUAGE_NEWLINE: lambda c: _course(c, languages=["en\n"]),
    InvalidKind.COURSE_ID_EMPTY: lambda c: {**c, "type": "course.deactivated", "course_id": ""},
    InvalidKind.UNKNOWN_TYPE: lambda c: {**c, "type": "course.archived"},
}
