"""Says in which way the value of a record is not a JSON object: another encoding, another format, another kind of JSON."""

from __future__ import annotations

import json

from daemon.codec.texts import EXCERPT_MAX, excerpt

PARSED_BYTES_MAX = 1024 * 1024
"""Maximum size of a record that is parsed a second time, with all its objects, to describe better why it is not JSON."""

_START_BYTES = 64
"""Enough to recognise an encoding."""
_CONFLUENT_PREFIX = 5
"""Magic byte 0 and a schema id of four bytes, as written by Confluent's serialisers."""


def kind_of_json(value: bytes) -> str:
    """What JSON that is not an object is."""
    content = value.lstrip()
    if content.startswith(b'"'):
        twice = content[1:2] == b"{"
        return "a JSON string" + (" that contains JSON (serialised twice)" if twice else "")
    if content.startswith(b"["):
        return "a JSON array"
    return f"JSON, but not an object: {excerpt(content)}"


def why_not_json(value: bytes, error: Exception) -> str:
    """Names the common ways of not being JSON. For others it quotes the decoder and an excerpt."""
    if not value.strip():
        return "the record's value is empty, expected a JSON object"
    if (encoding := _utf_16_or_32(value)) is not None:
        return f"the record is {encoding}; publish UTF-8"
    if value[0] == 0 and len(value) >= _CONFLUENT_PREFIX:
        schema_id = int.from_bytes(value[1:_CONFLUENT_PREFIX], "big")
        return (
            f"the record is in Confluent's wire format (magic byte 0, schema id {schema_id}), as written by the "
            "serialiser of a schema registry; publish plain JSON instead"
        )
    if value.startswith(b"\xef\xbb\xbf"):
        return "the record starts with a byte order mark; publish UTF-8 without one"
    try:
        if len(value) > PARSED_BYTES_MAX:
            raise ValueError
        json.loads(value.decode())
    except UnicodeDecodeError:
        return f"the record is not valid UTF-8: {excerpt(value)}"
    except (ValueError, RecursionError):
        return f"the record is not JSON: {_decoder_message(error)}; it starts with: {excerpt(value)}"
    return (
        "the record contains something that not every JSON parser accepts, such as NaN or half of a surrogate "
        f"pair (\\ud800): {_decoder_message(error)}"
    )


def _utf_16_or_32(value: bytes) -> str | None:
    """The encoding of a JSON text that has two or four bytes for each character, with or without a byte order mark."""
    if value.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "UTF-16 (it starts with a byte order mark)"
    start = value[:_START_BYTES]
    for encoding in ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be"):
        if start.decode(encoding, "ignore").lstrip("\ufeff \t\r\n").startswith(("{", "[")):
            return f"{encoding[:6].upper()} (it has NUL bytes between its characters)"
    return None


def _decoder_message(error: Exception) -> str:
    return str(error).removeprefix("JSON is malformed: ")[:EXCERPT_MAX]
