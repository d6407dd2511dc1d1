"""Describes what is wrong with a record that could not be decoded, for the person who published it.

This code is deliberately slow: it runs only on records that are rejected. Each field is checked with the same
annotation that the fast decoder used, so the two cannot disagree. Excerpts of the record are limited to about a
hundred characters.
"""

from __future__ import annotations

import json
import typing
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from daemon.codec.change import (
    DEACTIVATED,
    UPSERTED,
    ChangeId,
    CourseChange,
    CourseChangeData,
    CourseChangeEvent,
    EventAttributes,
    IntegrationId,
    OriginId,
)
from daemon.core.model import RejectReason

EXCERPT_MAX = 100
MISTAKES_MAX = 5
PARSED_BYTES_MAX = 1024 * 1024
"""Maximum size of a record that is parsed a second time, with all its objects, to describe better why it is not JSON."""

DECODE_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_ID_FIELDS = ("id", "integration_id", "origin_id", "data.integration_id", "data.origin_id", "ce_id")
_CONFLUENT_PREFIX = 5
"""Magic byte 0 and a schema id of four bytes, as written by Confluent's serialisers."""

_ABSENT = msgspec.Raw()

_RawObject = dict[str, msgspec.Raw]
_decode_object = msgspec.json.Decoder(_RawObject).decode


class Diagnosis(NamedTuple):
    reason: RejectReason
    message: str


class Ids(NamedTuple):
    """The ids that could be read from a rejected record."""

    change_id: str | None = None
    integration_id: str | None = None
    origin_id: str | None = None


class _Mistake(NamedTuple):
    path: str
    message: str
    reason: RejectReason


def examine_plain(value: bytes, error: Exception) -> Diagnosis:
    """Why ``value`` is not a `CourseChange`. ``error`` is the decoder's error, used if no mistake is found."""
    fields = _object(value)
    if isinstance(fields, Diagnosis):
        return fields
    return _unsupported_type(fields.get("type"), "type") or _diagnosis(_mistakes(fields, CourseChange), error)


def examine_event(value: bytes, error: Exception) -> Diagnosis:
    """Why ``value`` is not a CloudEvent in structured mode with a course change."""
    fields = _object(value)
    if isinstance(fields, Diagnosis):
        return fields
    unsupported = _unsupported_type(fields.get("type"), "type")
    if unsupported is not None:
        return unsupported
    if "data_base64" in fields and "data" not in fields:
        return Diagnosis(
            RejectReason.UNSUPPORTED, "data_base64: not supported; send the change as JSON in data"
        )
    return _diagnosis(_mistakes(fields, CourseChangeEvent), error)


def examine_data(value: bytes, envelope: bytes, error: Exception) -> Diagnosis:
    """Why ``value`` is not the data of a CloudEvent in binary mode. ``envelope`` holds its attributes."""
    attributes = _decode_object(envelope)
    unsupported = _unsupported_type(attributes.get("type"), "header ce_type")
    if unsupported is not None:
        return unsupported
    fields = _object(value)
    if isinstance(fields, Diagnosis):
        return fields
    of_headers = (
        mistake._replace(path=f"header ce_{mistake.path}")
        for mistake in _mistakes(attributes, EventAttributes)
    )
    return _diagnosis((*of_headers, *_mistakes(fields, CourseChangeData)), error)


class _Members(msgspec.Struct):
    """The members that may contain ids, undecoded. Other members are skipped without creating an object for each,
    because there may be millions.
    """

    id: msgspec.Raw = _ABSENT
    integration_id: msgspec.Raw = _ABSENT
    origin_id: msgspec.Raw = _ABSENT
    data: msgspec.Raw = _ABSENT


_decode_members = msgspec.json.Decoder(_Members).decode


def salvaged_ids(value: bytes) -> Ids:
    """The ids that can be read and are valid. All other parts of the record may be broken."""
    try:
        members = inner = _decode_members(value)
    except DECODE_ERRORS:
        return Ids()
    if members.data != _ABSENT and members.integration_id == members.origin_id == _ABSENT:
        try:
            inner = _decode_members(members.data)
        except DECODE_ERRORS:
            inner = _Members()
    return Ids(
        _read(members.id, ChangeId),
        _read(inner.integration_id, IntegrationId),
        _read(inner.origin_id, OriginId),
    )


def excerpt(raw: bytes) -> str:
    """The content for a message: bounded, on one line."""
    text = raw[: EXCERPT_MAX * 4].decode("utf-8", "backslashreplace")
    shown = "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
    return shown if len(shown) <= EXCERPT_MAX else shown[: EXCERPT_MAX - 1] + "…"


# --- the record as a whole ------------------------------------------------------------------------


def _object(value: bytes) -> _RawObject | Diagnosis:
    """The undecoded members of the JSON object that a record must be, or why it is not one."""
    try:
        return _decode_object(value)
    except msgspec.ValidationError:
        return Diagnosis(RejectReason.SCHEMA, f"the record is {_kind(value)}, expected a JSON object")
    except RecursionError:
        return Diagnosis(RejectReason.MALFORMED, "the record is nested too deeply to be read as JSON")
    except UnicodeDecodeError:
        return Diagnosis(RejectReason.MALFORMED, f"the record is not valid UTF-8: {excerpt(value)}")
    except msgspec.MsgspecError as error:
        return Diagnosis(RejectReason.MALFORMED, _not_json(value, error))


def _kind(value: bytes) -> str:
    content = value.lstrip()
    if content.startswith(b'"'):
        twice = content[1:2] == b"{"
        return "a JSON string" + (" that contains JSON (serialised twice)" if twice else "")
    if content.startswith(b"["):
        return "a JSON array"
    return f"JSON, but not an object: {excerpt(content)}"


def _not_json(value: bytes, error: Exception) -> str:
    """Names the common ways of not being JSON. For others it quotes the decoder and an excerpt."""
    if not value.strip():
        return "the record's value is empty, expected a JSON object"
    if value[0] == 0 and len(value) >= _CONFLUENT_PREFIX:
        schema_id = int.from_bytes(value[1:_CONFLUENT_PREFIX], "big")
        return (
            f"the record is in Confluent's wire format (magic byte 0, schema id {schema_id}), as written by the "
            "serialiser of a schema registry; publish plain JSON instead"
        )
    if value.startswith(b"\xef\xbb\xbf"):
        return "the record starts with a byte order mark; publish UTF-8 without one"
    if value.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "the record looks like UTF-16; publish UTF-8"
    try:
        if len(value) > PARSED_BYTES_MAX:
            raise ValueError
        json.loads(value)
    except UnicodeDecodeError:
        return f"the record is not valid UTF-8: {excerpt(value)}"
    except (ValueError, RecursionError):
        return f"the record is not JSON: {_decoder_message(error)}; it starts with: {excerpt(value)}"
    return (
        "the record contains something that not every JSON parser accepts, such as NaN or half of a surrogate "
        f"pair (\\ud800): {_decoder_message(error)}"
    )


def _decoder_message(error: Exception) -> str:
    return str(error).removeprefix("JSON is malformed: ")[:EXCERPT_MAX]


def _unsupported_type(raw: msgspec.Raw | None, path: str) -> Diagnosis | None:
    """A well-formed type that is not supported. The other fields of such a record are not examined."""
    found = _read(raw, str)
    if found is None or found == UPSERTED or not found:
        return None
    if found == DEACTIVATED:
        message = (
            f"{path}: {DEACTIVATED} is not supported by this version, which only creates and updates courses; "
            "nothing was changed in the learning system"
        )
    else:
        message = f"{path}: found {excerpt(found.encode())}, expected {UPSERTED}"
    return Diagnosis(RejectReason.UNSUPPORTED, message)


# --- field by field -------------------------------------------------------------------------------


def _diagnosis(mistakes: Iterator[_Mistake] | tuple[_Mistake, ...], error: Exception) -> Diagnosis:
    found = list(mistakes)
    if not found:
        # The fast decoder rejected a record although the check of each field accepts it.
        malformed = (
            isinstance(error, UnicodeDecodeError | RecursionError) or type(error) is msgspec.DecodeError
        )
        reason = RejectReason.MALFORMED if malformed else RejectReason.SCHEMA
        return Diagnosis(reason, f"the record cannot be read: {str(error)[: 2 * EXCERPT_MAX]}")
    messages = [f"{mistake.path}: {mistake.message}" for mistake in found[:MISTAKES_MAX]]
    if len(found) > MISTAKES_MAX:
        messages.append(f"and {len(found) - MISTAKES_MAX} more")
    return Diagnosis(found[0].reason, "; ".join(messages))


def _mistakes(fields: Mapping[str, msgspec.Raw], struct: type, prefix: str = "") -> Iterator[_Mistake]:
    """Every field of ``struct`` that is missing or wrong in ``fields``, in the order of the struct."""
    for field in msgspec.structs.fields(struct):
        path = prefix + field.encode_name
        nested = isinstance(field.type, type) and issubclass(field.type, msgspec.Struct)
        expected = "a JSON object" if nested else _expected(field.type)
        raw = fields.get(field.encode_name)
        if raw is None:
            if field.required:
                yield _Mistake(path, f"missing, expected {expected}", _reason(path, b""))
        elif nested:
            try:
                inner = _decode_object(raw)
            except DECODE_ERRORS as error:
                yield _mistake(path, raw, error, expected)
            else:
                yield from _mistakes(inner, field.type, f"{path}.")
        else:
            try:
                msgspec.json.decode(raw, type=field.type)
            except DECODE_ERRORS as error:
                yield _mistake(path, raw, error, expected)


def _mistake(path: str, raw: msgspec.Raw, error: Exception, expected: str) -> _Mistake:
    content = bytes(memoryview(raw))
    if isinstance(error, UnicodeDecodeError):
        return _Mistake(path, f"is not valid UTF-8: {excerpt(content)}", RejectReason.MALFORMED)
    if isinstance(error, RecursionError):
        return _Mistake(path, "is nested too deeply", RejectReason.MALFORMED)
    length = ""
    if content.startswith(b'"') and len(content) > EXCERPT_MAX:
        text = _read(raw, str)
        length = f" ({len(text):,} characters)" if text is not None else ""
    return _Mistake(path, f"found {excerpt(content)}{length}, expected {expected}", _reason(path, content))


def _reason(path: str, content: bytes) -> RejectReason:
    if path.startswith(("course.", "data.course.")):
        return RejectReason.COURSE
    if path in _ID_FIELDS and content.startswith(b'"') and content != b'""':
        return RejectReason.IDENTIFIER
    return RejectReason.SCHEMA


def _expected(annotation: Any) -> str:
    """The ``expected`` text of the annotation's ``Meta``, at any level of the annotation."""
    for part in (annotation, *typing.get_args(annotation)):
        for meta in getattr(part, "__metadata__", ()):
            if meta.extra and "expected" in meta.extra:
                optional = type(None) in typing.get_args(annotation)
                return str(meta.extra["expected"]) + (" or null" if optional else "")
    raise LookupError(f"{annotation} does not say what is expected")


def _read(raw: msgspec.Raw | None, annotation: Any) -> Any:
    """The value of a member, or None if it is absent or not valid."""
    if raw is None or raw == _ABSENT:
        return None
    try:
        return msgspec.json.decode(raw, type=annotation)
    except DECODE_ERRORS:
        return None
