"""The wire format of the dead letters: the rejected record as it came, and why, in headers.

Key, value and headers stay the publisher's own bytes, so that a repaired record can be published
again from here. Ours come first and begin with ``coursesync-``. A record that would be too large for
the topic is cut (R7); size and SHA-256 of the whole then stand in the headers beside its source, from
where the original can be fetched while the input topic still has it.
"""

from __future__ import annotations

import hashlib

from daemon.codec.result import Encoded, cut
from daemon.core.model import ERROR_CODE_CHARS_MAX, Rejection

DEAD_LETTER_BYTES_MAX = 900_000
"""Key, value and headers together; a topic with Kafka's default ``max.message.bytes`` of 1 MiB takes it."""

PREFIX = "coursesync-"
_REASON_MAX = 1000
_PER_HEADER = 16
"""Bytes of framing that a header costs, generously."""

HEADERS = {
    "coursesync-source": "`<topic>/<partition>/<offset>` of the rejected record; also the id of its result.",
    "coursesync-reason": "The kind of mistake, one word of a closed list.",
    "coursesync-error-code": "The `COURSESYNC.*` code of the result.",
    "coursesync-error-message": "What is wrong, for people.",
    "coursesync-value-size": "Only when the value was cut: its size in bytes.",
    "coursesync-value-sha256": "Only when the value was cut: SHA-256 of the whole value, in hex.",
    "coursesync-key-size": "Only when the key was cut: its size in bytes.",
    "coursesync-key-sha256": "Only when the key was cut: SHA-256 of the whole key, in hex.",
    "coursesync-headers-dropped": "Only when headers of the record did not fit: how many.",
}
"""Every header of ours, with its meaning; the schema of the headers is made from this."""

HEADERS_ALWAYS = (
    "coursesync-source",
    "coursesync-reason",
    "coursesync-error-code",
    "coursesync-error-message",
)


def encode_dead_letter(
    rejection: Rejection, partition: int, *, changes_topic: str, max_bytes: int = DEAD_LETTER_BYTES_MAX
) -> Encoded:
    """The record for the dead letters, at most ``max_bytes`` (at least 16 KiB) with all that is in it.

    A quarter at most goes to the key and a quarter to the publisher's headers, the rest to the value.
    """
    assert max_bytes >= 16 * 1024, "no room for the headers that tell what was cut"
    headers = [
        ("coursesync-source", f"{changes_topic}/{partition}/{rejection.offset}".encode()),
        ("coursesync-reason", rejection.reason.value.encode()),
        ("coursesync-error-code", cut(rejection.error.code or "", ERROR_CODE_CHARS_MAX).encode()),
        ("coursesync-error-message", cut(rejection.error.message, _REASON_MAX).encode("utf-8", "replace")),
    ]
    original, dropped = _fitting(rejection.headers, max_bytes // 4)
    if dropped:
        headers.append(("coursesync-headers-dropped", str(dropped).encode()))

    key = rejection.key
    if key is not None and len(key) > max_bytes // 4:
        headers += _size_and_digest("key", key)
        key = key[: max_bytes // 4]

    value = rejection.value
    if value is not None:
        room = max_bytes - _size((*headers, *original)) - len(key or b"")
        if len(value) > room:
            headers += _size_and_digest("value", value)
            room = max_bytes - _size((*headers, *original)) - len(key or b"")
            value = value[:room]
    return key, value, (*headers, *original)


def _size_and_digest(part: str, content: bytes) -> list[tuple[str, bytes]]:
    """What a cut part was, for the one who looks for the original."""
    return [
        (f"{PREFIX}{part}-size", str(len(content)).encode()),
        (f"{PREFIX}{part}-sha256", hashlib.sha256(content).hexdigest().encode()),
    ]


def _fitting(
    headers: tuple[tuple[str, bytes], ...], bytes_max: int
) -> tuple[tuple[tuple[str, bytes], ...], int]:
    """The publisher's headers in order as long as they fit, and how many do not.

    A dead letter that was published again by hand carries our headers of the first time: those go,
    or the new reason would stand beside the old one.
    """
    own = [header for header in headers if not header[0].startswith(PREFIX)]
    size = 0
    for count, header in enumerate(own):
        size += _size((header,))
        if size > bytes_max:
            return tuple(own[:count]), len(own) - count
    return tuple(own), 0


def _size(headers: tuple[tuple[str, bytes], ...]) -> int:
    return sum(len(name.encode()) + len(content or b"") + _PER_HEADER for name, content in headers)
