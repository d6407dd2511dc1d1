"""Decodes input records to changes, or to rejections with a reason for people.

How it works: the fast path is one pass of a msgspec decoder over the bytes, which validates, and one encoding of the
known fields (about 12 µs). Only if that fails does `diagnose` read the same bytes again, slowly and field by field, to
describe the mistake and to recover the ids for the result. Deactivations are rare, so they are tried when a record is no
upsert.

Three forms are recognised without parsing twice:

* CloudEvents in binary mode: a header ``ce_specversion``; the value is the data alone.
* CloudEvents in structured mode: content type ``application/cloudevents+json``, or a member
  ``specversion`` if the publisher sent no content type.
* Plain JSON: everything else.

msgspec also raises `UnicodeDecodeError` and `RecursionError`, which are not subclasses of `MsgspecError`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from daemon.codec.change import (
    BULK,
    CourseChange,
    CourseChangeData,
    CourseChangeEvent,
    CourseDeactivation,
    CourseDeactivationData,
    CourseDeactivationEvent,
    EventAttributes,
    SubmissionItem,
)
from daemon.codec.content_digest import content_digest
from daemon.codec.diagnose import (
    DECODE_ERRORS,
    Diagnosis,
    Findings,
    Ids,
    examine_data,
    examine_event,
    examine_plain,
    has_repeated_keys,
    salvaged_ids,
)
from daemon.codec.nesting import NESTING_MAX, nested_too_deep
from daemon.codec.rejection_codes import CODE_OF_REASON
from daemon.codec.texts import excerpt
from daemon.codec.trace_context import trace_of
from daemon.core import deactivate
from daemon.core.deactivate import DEACTIVATE
from daemon.core.model import Change, Error, Rejection, RejectReason
from daemon.core.operation import Operation
from daemon.core.upsert import UPSERT

VALUE_BYTES_MAX = 8 * 1024 * 1024
"""Eight times the largest item. This leaves space for parts that are not submitted: other fields, and escapes of six
bytes each. Brokers accept larger records in compressed form only. As objects in memory, JSON may take 25 times its
size.
"""

_STRUCTURED = b"application/cloudevents+json"
_STRUCTURED_BATCH = b"application/cloudevents-batch+json"


class _Event(CourseChangeEvent, frozen=True, gc=False, kw_only=True):
    """With the other attributes that CloudEvents defines. They are ignored, whatever they are, but a record that has no other
    members need not be searched for repeated keys, which takes longer than everything else.
    """

    datacontenttype: Any = UNSET
    dataschema: Any = UNSET
    subject: Any = UNSET


_decode_plain = msgspec.json.Decoder(CourseChange).decode
_decode_event = msgspec.json.Decoder(_Event).decode
_decode_data = msgspec.json.Decoder(CourseChangeData).decode
_decode_plain_deactivation = msgspec.json.Decoder(CourseDeactivation).decode
_decode_deactivation_event = msgspec.json.Decoder(CourseDeactivationEvent).decode
_decode_deactivation_data = msgspec.json.Decoder(CourseDeactivationData).decode
_encode = msgspec.json.Encoder().encode

Headers = Sequence[tuple[str, bytes | None]]


_ABSENT = msgspec.Raw()


class _SpecVersion(msgspec.Struct):
    specversion: msgspec.Raw = _ABSENT


_decode_spec_version = msgspec.json.Decoder(_SpecVersion).decode


def decode_change(
    offset: int,
    key: bytes | None,
    value: bytes | None,
    headers: Headers,
    *,
    consumed_at: int,
    item_bytes_max: int,
) -> Change | Rejection:
    """Decode one input record. Never raises, whatever the record contains.

    ``consumed_at`` is the wall clock in ms. ``item_bytes_max`` is the size of the largest item (`Change.body`) that
    can be submitted, ``batch.bytes_max``.
    """
    try:
        if value is None:
            raise _RejectedError(Diagnosis(RejectReason.TOMBSTONE, _TOMBSTONE), Ids())
        if len(value) > VALUE_BYTES_MAX:
            diagnosis = Diagnosis(
                RejectReason.OVERSIZED,
                f"the record's value has {len(value):,} bytes, but at most {VALUE_BYTES_MAX:,} bytes are read",
            )
            raise _RejectedError(diagnosis, salvaged_ids(value))
        if headers or b'"specversion"' in value:
            form, change_id, data, attributes = _decode_marked(value, headers)
        else:
            form, change_id, data, attributes = _decode_unmarked(value)
        if not value.isascii():
            _assert_utf8(value, Ids(change_id, data.integration_id, data.origin_id))
        operation, body = _requested(data)
        # Only unknown fields can be nested too deeply, and they are not in the body. If they are short, no check is needed.
        if len(value) - len(body) > NESTING_MAX and nested_too_deep(value):
            raise _RejectedError(_TOO_DEEP, Ids())
        if isinstance(data, _UPSERTS):
            has_escapes = b"\\" in value
            if (
                has_escapes
                and _NUL in value
                and any(
                    isinstance(text, str) and "\0" in text for text in msgspec.structs.astuple(data.course)
                )
            ):
                raise _RejectedError(*form.examine(value, None))
            # A repeated key adds a colon to those of the fields that were decoded. Other reasons for more colons are harmless.
            colons = body.count(b":") + _colons(data.integration_id, data.priority, *attributes)
            colons += data.resend is not UNSET
            may_repeat = value.count(b":") != colons or (has_escapes and _ESCAPED_COLON in value)
        else:
            may_repeat = True
        if may_repeat and has_repeated_keys(value, form.struct):
            raise _RejectedError(*form.examine(value, None))
        if len(body) > item_bytes_max:
            diagnosis = Diagnosis(
                RejectReason.OVERSIZED,
                f"the course has {len(body):,} bytes as JSON, but one submission may have at most "
                f"{item_bytes_max:,} bytes (batch.bytes_max)",
            )
            raise _RejectedError(diagnosis, Ids(change_id, data.integration_id, data.origin_id))
    except _RejectedError as rejected:
        diagnosis, ids = rejected.diagnosis, rejected.ids
        # The interpreter may have stopped early. A value that is too large is not read to find out.
        if value is not None and len(value) <= VALUE_BYTES_MAX and nested_too_deep(value):
            diagnosis, ids = _TOO_DEEP, Ids()
        return Rejection(
            offset=offset,
            reason=diagnosis.reason,
            error=Error(code=CODE_OF_REASON[diagnosis.reason], message=diagnosis.message),
            change_id=ids.change_id,
            integration_id=ids.integration_id,
            origin_id=ids.origin_id,
            consumed_at=consumed_at,
            key=key,
            value=value,
            headers=tuple(headers),
            trace=trace_of(headers, None if diagnosis.reason is RejectReason.OVERSIZED else value),
        )
    content, resend = None, False
    if isinstance(data, _UPSERTS):
        content, resend = content_digest(data.course), data.resend is True
    return Change(
        operation,
        offset,
        change_id,
        data.integration_id,
        data.origin_id,
        body,
        consumed_at,
        key,
        value,
        tuple(headers),
        content,
        resend,
        data.priority == BULK,
        trace_of(headers, value) if headers or form in _EVENTS else None,
    )


_TOMBSTONE = (
    "the record has no value (a tombstone), so it contains no course; publish a change with type "
    "course.upserted or course.deactivated"
)

_TOO_DEEP = Diagnosis(
    RejectReason.MALFORMED,
    "the record is nested too deep: its objects and arrays have more than "
    f"{NESTING_MAX} levels; a course change needs four",
)


class _RejectedError(Exception):
    """Ends the decoding of one record. It never leaves this module."""

    def __init__(self, diagnosis: Diagnosis, ids: Ids) -> None:
        super().__init__(diagnosis.message)
        self.diagnosis = diagnosis
        self.ids = ids


class _Form(NamedTuple):
    """One of the forms of a record."""

    struct: type
    examine: Callable[[bytes, Exception | None], Findings]


_PLAIN = _Form(CourseChange, examine_plain)
_PLAIN_DEACTIVATION = _Form(CourseDeactivation, examine_plain)
_EVENT = _Form(CourseChangeEvent, examine_event)
_DEACTIVATION_EVENT = _Form(CourseDeactivationEvent, examine_event)

_EVENTS = (_EVENT, _DEACTIVATION_EVENT)
_UPSERTS = (CourseChange, CourseChangeData)
_Data = CourseChange | CourseChangeData | CourseDeactivation | CourseDeactivationData

_Decoded = tuple[_Form, str, _Data, tuple[str | UnsetType | None, ...]]
"""Form, change id, data, and the other known members of the JSON text around the data, or their values."""

_NUL = b"\\u0000"
"""JSON has no other way to write this character."""

_ESCAPED_COLON = b"\\u003"
"""The beginning of one."""


def _requested(data: _Data) -> tuple[Operation, bytes]:
    """What the change asks for, and the item of its request."""
    if isinstance(data, _UPSERTS):
        return UPSERT, _encode(SubmissionItem(data.origin_id, data.course))
    return DEACTIVATE, deactivate.item(data.course_id or None)


def _colons(*values: str | UnsetType | None) -> int:
    """The colons in the JSON text of members with these values."""
    present = [value or "" for value in values if value is not UNSET]
    return len(present) + "".join(present).count(":")


def _assert_utf8(value: bytes, ids: Ids) -> None:
    """The JSON decoder does not check the text of fields that it skips."""
    try:
        value.decode()
    except UnicodeDecodeError as error:
        message = f"the record is not valid UTF-8: {excerpt(value[max(0, error.start - 20) :])}"
        raise _RejectedError(Diagnosis(RejectReason.MALFORMED, message), ids) from None


def _decode_unmarked(value: bytes) -> _Decoded:
    try:
        plain = _decode_plain(value)
    except DECODE_ERRORS as error:
        try:
            deactivation = _decode_plain_deactivation(value)
        except DECODE_ERRORS:
            raise _RejectedError(*examine_plain(value, error)) from None
        return _PLAIN_DEACTIVATION, deactivation.id, deactivation, ()
    return _PLAIN, plain.id, plain, (plain.id, plain.type, plain.time)


def _decode_marked(value: bytes, headers: Headers) -> _Decoded:
    """A record that has headers, or contains the text ``specversion``."""
    content_type = b""
    attributes: dict[str, bytes] = {}
    repeated_attributes: list[str] = []
    for name, content in headers:
        folded = name.casefold()
        if folded == "content-type":
            content_type = (content or b"").partition(b";")[0].strip().lower()
        elif folded.startswith("ce_"):
            if folded[3:] in attributes:
                repeated_attributes.append(folded[3:])
            attributes[folded[3:]] = content or b""
    if content_type == _STRUCTURED_BATCH:
        message = "CloudEvents in batched mode are not supported; publish one event per record"
        raise _RejectedError(Diagnosis(RejectReason.UNSUPPORTED, message), Ids())
    if content_type == _STRUCTURED or ("specversion" not in attributes and _names_spec_version(value)):
        try:
            event = _decode_event(value)
        except DECODE_ERRORS as error:
            try:
                deactivation = _decode_deactivation_event(value)
            except DECODE_ERRORS:
                raise _RejectedError(*examine_event(value, error)) from None
            return _DEACTIVATION_EVENT, deactivation.id, deactivation.data, ()
        return (
            _EVENT,
            event.id,
            event.data,
            (event.specversion, event.id, event.type, event.source, event.time, "", *_ignored_members(event)),
        )
    if "specversion" in attributes:
        return _decode_binary(value, attributes, repeated_attributes)
    return _decode_unmarked(value)


def _ignored_members(event: _Event) -> list[str]:
    """Those that are present; anything but a text is worth the search for repeated keys."""
    members = event.traceparent, event.tracestate, event.datacontenttype, event.dataschema, event.subject
    return [each for each in members if isinstance(each, str)]


def _names_spec_version(value: bytes) -> bool:
    if b'"specversion"' not in value:
        return False
    try:
        return _decode_spec_version(value).specversion != _ABSENT
    except DECODE_ERRORS:
        return False


def _decode_binary(value: bytes, attributes: dict[str, bytes], repeated_attributes: list[str]) -> _Decoded:
    """CloudEvents in binary mode. The same struct validates the attributes as in a complete event."""
    known = ("specversion", "id", "type", "source", "time")
    for name in known:
        if name in repeated_attributes:
            diagnosis = Diagnosis(RejectReason.SCHEMA, f"the header ce_{name} occurs more than once")
            raise _RejectedError(diagnosis, salvaged_ids(value)._replace(change_id=None))
        try:
            attributes.get(name, b"").decode()
        except UnicodeDecodeError:
            message = f"the header ce_{name} is not valid UTF-8: {excerpt(attributes[name])}"
            raise _RejectedError(Diagnosis(RejectReason.MALFORMED, message), salvaged_ids(value)) from None
    envelope: dict[str, Any] = {name: attributes[name].decode() for name in known if name in attributes}
    is_deactivation = envelope.get("type") == DEACTIVATE.event_type
    form = _Form(
        CourseDeactivationData if is_deactivation else CourseChangeData,
        lambda text, error: examine_data(text, _encode(envelope), error),
    )
    try:
        data = _decode_deactivation_data(value) if is_deactivation else _decode_data(value)
        msgspec.convert(envelope, EventAttributes)
    except DECODE_ERRORS as error:
        raise _RejectedError(*form.examine(value, error)) from None
    return form, envelope["id"], data, ()
