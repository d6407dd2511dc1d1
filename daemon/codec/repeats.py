"""The headers of a change that repeats an older one (R20). `coursesyncd republish` writes them."""

from __future__ import annotations

import re

import msgspec

from daemon.codec.rejection_codes import CODE_OF_REASON
from daemon.codec.texts import excerpt
from daemon.core.model import Change, Error, Rejection, RejectReason, Repeats

REPEATS = "coursesync-repeats"
CHECKED = "coursesync-checked"

HEADERS = {
    REPEATS: "`<topic>/<partition>/<offset>` of the change that this record repeats. It must be in the same partition.",
    CHECKED: "An offset of the same partition: before it, the publisher has found no valid change of the course that is newer "
    "than the repeated one. Greater than the offset of the repeated change, and at most that of this record.",
}
"""With their meaning. The schema of the headers is generated from it. A record has both or none."""

_OFFSET = re.compile(rb"0|[1-9][0-9]{0,18}")
_PLACE = re.compile(rb"(.{1,249})/(0|[1-9][0-9]{0,9})/(" + _OFFSET.pattern + rb")")


class RepeatsError(Exception):
    """The headers are not valid. The text says why."""


def encode_repeats(topic: str, partition: int, repeats: Repeats) -> tuple[tuple[str, bytes], ...]:
    """The headers of a record that repeats this change of the same topic and partition."""
    return (
        (REPEATS, f"{topic}/{partition}/{repeats.offset}".encode()),
        (CHECKED, str(repeats.checked).encode()),
    )


def with_repeats(entry: Change | Rejection, topic: str, partition: int) -> Change | Rejection:
    """The decoded record with what its headers say of an older change, or its rejection if they are not valid. The record comes
    from this partition of this topic.
    """
    if not entry.headers or isinstance(entry, Rejection):
        return entry
    try:
        repeats = repeats_of(entry.headers, topic, partition, entry.offset)
    except RepeatsError as error:
        reason = RejectReason.SCHEMA
        return Rejection(
            offset=entry.offset,
            reason=reason,
            error=Error(CODE_OF_REASON[reason], str(error)),
            change_id=entry.change_id,
            integration_id=entry.integration_id,
            origin_id=entry.origin_id,
            consumed_at=entry.consumed_at,
            key=entry.key,
            value=entry.value,
            headers=entry.headers,
        )
    return entry if repeats is None else msgspec.structs.replace(entry, repeats=repeats)


def repeats_of(
    headers: tuple[tuple[str, bytes | None], ...], topic: str, partition: int, offset: int
) -> Repeats | None:
    """What the headers of the record at this place say of an older change; None if they name none.

    Raises:
        RepeatsError: they are not valid.
    """
    named, checked = _values(headers, REPEATS), _values(headers, CHECKED)
    if not named and not checked:
        return None
    if len(named) != 1 or len(checked) != 1:
        raise RepeatsError(
            f"a record that repeats a change has the headers {REPEATS} and {CHECKED}, once each; this one has {len(named)} and "
            f"{len(checked)} of them"
        )
    place = _PLACE.fullmatch(named[0])
    if place is None:
        raise RepeatsError(f"the header {REPEATS} is not <topic>/<partition>/<offset>: {excerpt(named[0])}")
    if _OFFSET.fullmatch(checked[0]) is None:
        raise RepeatsError(f"the header {CHECKED} is not an offset: {excerpt(checked[0])}")
    if (place[1], int(place[2])) != (topic.encode(), partition):
        raise RepeatsError(
            f"the header {REPEATS} names {excerpt(named[0])}, which is in another partition than this record ({topic}/"
            f"{partition}): between partitions, nobody can tell which of two changes is newer"
        )
    repeats = Repeats(int(place[3]), int(checked[0]))
    if not repeats.offset < repeats.checked <= offset:
        raise RepeatsError(
            f"the header {REPEATS} names offset {repeats.offset}, and {CHECKED} is {repeats.checked}, in the record at offset "
            f"{offset}: these three must ascend, and the last two may be equal"
        )
    return repeats


def without_repeats(
    headers: tuple[tuple[str, bytes | None], ...],
) -> tuple[tuple[str, bytes | None], ...]:
    """The other headers."""
    return tuple(header for header in headers if header[0] not in HEADERS)


def _values(headers: tuple[tuple[str, bytes | None], ...], wanted: str) -> list[bytes]:
    return [content or b"" for name, content in headers if name == wanted]
