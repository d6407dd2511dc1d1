"""Finds keys that occur more than once in an object of a record.

JSON does not define which of the values counts (RFC 8259, section 4): one parser takes the first, another one the last.
So such a record has no single meaning, and it is rejected, whichever key it is. Only the objects that the daemon reads are
examined: the record itself, `data` and `course`, but not the values of unknown fields.

How it works: outside its strings, an object has one colon for each member, at every level. The decoder keeps one
member of each key. So a key is repeated if the object has more colons than the members that were kept. This needs no
objects for the values, of which a record may have millions.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import msgspec

from daemon.codec.nesting import STRING

_STRING_AND_COLON = re.compile(STRING.pattern + rb"\s*+(:)?", re.DOTALL)
"""A string, with the colon after it if it is a key."""

NAMED_BYTES_MAX = 1024 * 1024
"""Maximum size of an object, without its long values, whose repeated keys are named."""

UNNAMED = "a key"
"""Takes the place of the name if the object is too large."""

_SHORT = 16 * 1024
"""Bytes. Most records are shorter."""

_LONG = 64
"""Bytes. Longer values are left out when the keys are read."""

_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def all_keys_differ(text: bytes) -> bool:
    """Whether no object of a short JSON text has a key twice, at any level. False also if the text is too long for this quick
    look, which makes objects of it.
    """
    if len(text) > _SHORT:
        return False
    differ = True

    def look(pairs: list[tuple[str, Any]]) -> None:
        nonlocal differ
        differ = differ and len(dict(pairs)) == len(pairs)

    try:
        json.loads(text.decode(), object_pairs_hook=look, parse_int=float)
    except (ValueError, RecursionError):
        return False
    return differ


def repeated_keys(text: bytes, members: Mapping[str, msgspec.Raw], struct: type) -> Iterator[str]:
    """The paths of the repeated keys in a JSON object with these members, and in the objects in it that `struct` reads."""
    inner_colons = sum(_colons(value) for value in map(_content, members.values()) if value[0] in b"{[")
    if _colons(text) - inner_colons > len(members):
        yield from _names(text, members) or (UNNAMED,)
    for name, inner in _structs_in(struct):
        if name in members and (value := _content(members[name])).startswith(b"{"):
            paths = repeated_keys(value, _decode_object(value), inner)
            yield from (f"{name}.{path}" for path in paths)


def _content(raw: msgspec.Raw) -> bytes:
    return bytes(memoryview(raw))


def _colons(text: bytes) -> int:
    """The number of members of all objects in the text."""
    return sum(string.lastindex is not None for string in _STRING_AND_COLON.finditer(text))


def _names(text: bytes, members: Mapping[str, msgspec.Raw]) -> list[str]:
    for value in map(_content, members.values()):
        if len(value) > _LONG:
            text = text.replace(value, b"0")
    if len(text) > NAMED_BYTES_MAX:
        return []
    try:
        # The decoder calls the hook for the outermost object last, so its members are the result.
        pairs = json.loads(text.decode("utf-8", "replace"), object_pairs_hook=list, parse_int=float)
    except (ValueError, RecursionError):
        return []
    return [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]


@cache
def _structs_in(struct: type) -> tuple[tuple[str, type], ...]:
    return tuple(
        (field.encode_name, field.type)
        for field in msgspec.structs.fields(struct)
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct)
    )
