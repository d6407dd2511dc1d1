"""Describes what is wrong with a record that could not be decoded, for the person who published it.

This code is deliberately slow: it runs only on records that are rejected. Each field is checked with the same
annotation that the fast decoder used, so the two cannot disagree. Excerpts of the record are limited to about a
hundred characters.
"""

from __future__ import annotations

import typing
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import Any, NamedTuple

import msgspec

from daemon.codec.change import (
    DEACTIVATED,
    UPSERTED,
    ChangeId,
    Course,
    CourseChange,
    CourseChangeData,
    CourseChangeEvent,
    CourseDeactivation,
    CourseDeactivationData,
    CourseDeactivationEvent,
    EventAttributes,
    IntegrationId,
    OriginId,
)
from daemon.codec.not_json import PARSED_BYTES_MAX, kind_of_json, why_not_json
from daemon.codec.repeated_keys import UNNAMED, all_keys_differ, repeated_keys
from daemon.codec.texts import EXCERPT_MAX, excerpt
from daemon.core.model import RejectReason

MISTAKES_MAX = 5

DECODE_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_ID_FIELDS = (
    "id",
    "integration_id",
    "origin_id",
    "course_id",
    "data.integration_id",
    "data.origin_id",
    "data.course_id",
    "ce_id",
)

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


class Findings(NamedTuple):
    """What is wrong with a record, and what can be read all the same."""

    diagnosis: Diagnosis
    ids: Ids


def examine_plain(value: bytes, error: Exception | None) -> Findings:
    """Why ``value`` is neither a `CourseChange` nor a `CourseDeactivation`. ``error`` is the decoder's error, used if no mistake is found."""
    fields = _object(value)
    if isinstance(fields, Diagnosis):
        return Findings(fields, salvaged_ids(value))
    struct = CourseDeactivation if _is_deactivation(fields) else CourseChange
    twice = _repeated(value, fields, struct)
    diagnosis = _unsupported_type(fields.get("type"), "type") or _diagnosis(
        chain(_ambiguous(twice), _mistakes(fields, struct)), error
    )
    return Findings(diagnosis, salvaged_ids(value, twice))


def examine_event(value: bytes, error: Exception | None) -> Findings:
    """Why ``value`` is not a CloudEvent in structured mode with a course change."""
    fields = _object(value)
    if isinstance(fields, Diagnosis):
        return Findings(fields, salvaged_ids(value))
    struct = CourseDeactivationEvent if _is_deactivation(fields) else CourseChangeEvent
    twice = _repeated(value, fields, struct)
    diagnosis = _unsupported_type(fields.get("type"), "type")
    if diagnosis is None and "data_base64" in fields and "data" not in fields:
        diagnosis = Diagnosis(
            RejectReason.UNSUPPORTED, "data_base64: not supported; send the change as JSON in data"
        )
    if diagnosis is None:
        diagnosis = _diagnosis(chain(_ambiguous(twice), _mistakes(fields, struct)), error)
    return Findings(diagnosis, salvaged_ids(value, twice))


def examine_data(value: bytes, envelope: bytes, error: Exception | None) -> Findings:
    """Why ``value`` is not the data of a CloudEvent in binary mode. ``envelope`` holds its attributes."""
    attributes = _decode_object(envelope)
    change_id = salvaged_ids(envelope).change_id
    fields = _object(value)
    unsupported = _unsupported_type(attributes.get("type"), "header ce_type")
    if unsupported is not None or isinstance(fields, Diagnosis):
        diagnosis = unsupported or fields
        assert isinstance(diagnosis, Diagnosis)
        return Findings(diagnosis, salvaged_ids(value)._replace(change_id=change_id))
    struct = CourseDeactivationData if _is_deactivation(attributes) else CourseChangeData
    twice = _repeated(value, fields, struct)
    of_headers = (
        mistake._replace(path=f"header ce_{mistake.path}")
        for mistake in _mistakes(attributes, EventAttributes)
    )
    mistakes = chain(of_headers, _ambiguous(twice), _mistakes(fields, struct))
    return Findings(_diagnosis(mistakes, error), salvaged_ids(value, twice)._replace(change_id=change_id))


class _Members(msgspec.Struct):
    """The members that may contain ids, undecoded. Other members are skipped without creating an object for each,
    because there may be millions.
    """

    id: msgspec.Raw = _ABSENT
    integration_id: msgspec.Raw = _ABSENT
    origin_id: msgspec.Raw = _ABSENT
    data: msgspec.Raw = _ABSENT


_decode_members = msgspec.json.Decoder(_Members).decode


def salvaged_ids(value: bytes, repeated: Iterable[str] = ()) -> Ids:
    """The ids that can be read and are valid. All other parts of the record may be broken. An id that is given twice is
    none; `repeated` has the paths of all repeated keys.
    """
    try:
        members = inner = _decode_members(value)
    except DECODE_ERRORS:
        return Ids()
    if members.data != _ABSENT and members.integration_id == members.origin_id == _ABSENT:
        try:
            inner = _decode_members(members.data)
        except DECODE_ERRORS:
            inner = _Members()
    lost = {path.rpartition(".")[2] for path in repeated}
    lost_with_data = lost & {"data", UNNAMED}
    return Ids(
        None if lost & {"id", UNNAMED} else _read(members.id, ChangeId),
        None if lost_with_data or "integration_id" in lost else _read(inner.integration_id, IntegrationId),
        None if lost_with_data or "origin_id" in lost else _read(inner.origin_id, OriginId),
    )


# --- the record as a whole ------------------------------------------------------------------------


def has_repeated_keys(value: bytes, struct: type) -> bool:
    """Whether a key occurs twice in a record that the decoder accepts."""
    if all_keys_differ(value):
        return False
    fields = _object(value)
    return not isinstance(fields, Diagnosis) and bool(_repeated(value, fields, struct))


def _object(value: bytes) -> _RawObject | Diagnosis:
    """The undecoded members of the JSON object that a record must be, or why it is not one."""
    try:
        return _decode_object(value)
    except msgspec.ValidationError:
        return Diagnosis(RejectReason.SCHEMA, f"the record is {kind_of_json(value)}, expected a JSON object")
    except RecursionError:
        return Diagnosis(RejectReason.MALFORMED, "the record is nested too deeply to be read as JSON")
    except UnicodeDecodeError:
        return Diagnosis(RejectReason.MALFORMED, f"the record is not valid UTF-8: {excerpt(value)}")
    except msgspec.MsgspecError as error:
        return Diagnosis(RejectReason.MALFORMED, why_not_json(value, error))


def _unsupported_type(raw: msgspec.Raw | None, path: str) -> Diagnosis | None:
    """A well-formed type that is not supported. The other fields of such a record are not examined."""
    found = _read(raw, str)
    if not found or found in (UPSERTED, DEACTIVATED):
        return None
    message = f"{path}: found {excerpt(found.encode())}, expected {UPSERTED} or {DEACTIVATED}"
    return Diagnosis(RejectReason.UNSUPPORTED, message)


def _is_deactivation(fields: Mapping[str, msgspec.Raw]) -> bool:
    return bool(_read(fields.get("type"), str) == DEACTIVATED)


# --- field by field -------------------------------------------------------------------------------


def _diagnosis(mistakes: Iterator[_Mistake], error: Exception | None) -> Diagnosis:
    found = list(islice(mistakes, MISTAKES_MAX + 1))
    if not found:
        # The fast decoder rejected a record although the check of each field accepts it.
        malformed = (
            isinstance(error, UnicodeDecodeError | RecursionError) or type(error) is msgspec.DecodeError
        )
        reason = RejectReason.MALFORMED if malformed else RejectReason.SCHEMA
        return Diagnosis(reason, f"the record cannot be read: {str(error)[: 2 * EXCERPT_MAX]}")
    messages = [f"{mistake.path}: {mistake.message}" for mistake in found[:MISTAKES_MAX]]
    if len(found) > MISTAKES_MAX:
        messages.append("and more")
    return Diagnosis(found[0].reason, "; ".join(messages))


def _repeated(value: bytes, fields: Mapping[str, msgspec.Raw], struct: type) -> list[str]:
    """The paths of repeated keys, none if the record cannot be examined."""
    try:
        return list(repeated_keys(value, fields, struct))
    except DECODE_ERRORS:
        return []


def _ambiguous(repeated: list[str]) -> Iterator[_Mistake]:
    for path in repeated:
        yield _Mistake(excerpt(path.encode()), "occurs more than once in its object", _reason(path, b""))


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
                found = msgspec.json.decode(raw, type=field.type)
            except DECODE_ERRORS as error:
                yield from _in_list(path, raw, field.type) or [_mistake(path, raw, error, expected)]
            else:
                if struct is Course and isinstance(found, str) and "\0" in found:
                    yield _mistake(path, raw, None, expected)


def _in_list(path: str, raw: msgspec.Raw, annotation: Any) -> list[_Mistake]:
    """The wrong elements of a list, with their places. Empty if the field is no list, or the value is not one."""
    element = _element_type(annotation)
    content = bytes(memoryview(raw))
    if element is None or len(content) > PARSED_BYTES_MAX or not content.startswith(b"["):
        return []
    found: list[_Mistake] = []
    for number, part in enumerate(msgspec.json.decode(raw, type=list[msgspec.Raw])):
        try:
            msgspec.json.decode(part, type=element)
        except DECODE_ERRORS as error:
            expected = None if found else _expected(element)
            found.append(_mistake(f"{path}[{number}]", part, error, expected))
            if len(found) > MISTAKES_MAX:
                break
    return found


def _element_type(annotation: Any) -> Any:
    """The annotation of the elements if a field is a list, at any level of its annotation."""
    for part in (annotation, *typing.get_args(annotation)):
        if typing.get_origin(part) is list:
            return typing.get_args(part)[0]
        if typing.get_origin(part) is typing.Annotated and (found := _element_type(part.__origin__)):
            return found
    return None


def _mistake(path: str, raw: msgspec.Raw, error: Exception | None, expected: str | None) -> _Mistake:
    """``expected`` is None if the message of an earlier mistake has it."""
    content = bytes(memoryview(raw))
    if isinstance(error, UnicodeDecodeError):
        return _Mistake(path, f"is not valid UTF-8: {excerpt(content)}", RejectReason.MALFORMED)
    if isinstance(error, RecursionError):
        return _Mistake(path, "is nested too deeply", RejectReason.MALFORMED)
    about = ""
    if content.startswith(b'"'):
        text = _read(raw, str) or ""
        if len(content) > EXCERPT_MAX:
            about = f" ({len(text):,} characters)"
        if "\0" in text:
            about += f" with the character NUL (\\u0000) as character {text.index(chr(0)) + 1:,}"
            expected = f"{expected} without NUL" if expected else None
    message = f"found {excerpt(content)}{about}" + (f", expected {expected}" if expected else "")
    return _Mistake(path, message, _reason(path, content))


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
