"""The wire format of the dead letters: the rejected record unchanged, with the reason in headers.

Key, value and headers keep the publisher's bytes, so that a repaired record can be published again from here. The
daemon's headers come first and start with ``coursesync-``. A record that is too large for the topic is truncated
(R7). Headers then give the size and the SHA-256 of the complete key or value, beside the position of the original,
which can be fetched while the input topic retains it.
"""

from __future__ import annotations

import hashlib

from daemon.codec.result import Encoded
from daemon.codec.texts import truncated
from daemon.core.model import ERROR_CODE_CHARS_MAX, Rejection

DEAD_LETTER_BYTES_MAX = 900_000
"""Key, value and headers together. It fits a topic with Kafka's default ``max.message.bytes`` of 1 MiB."""

PREFIX = "coursesync-"
_REASON_MAX = 1000
_PER_HEADER = 16
"""Upper bound of the framing bytes of one header."""

HEADERS = {
    "coursesync-source": "`<topic>/<partition>/<offset>` of the rejected record; also the id of its result.",
    "coursesync-reason": "The kind of mistake: one of a closed list of words.",
    "coursesync-error-code": "The `COURSESYNC.*` code of the result.",
    "coursesync-error-message": "What is wrong, as text for people.",
    "coursesync-value-size": "Present only if the value was truncated: its full size in bytes.",
    "coursesync-value-sha256": "Present only if the value was truncated: SHA-256 of the full value, in hex.",
    "coursesync-key-size": "Present only if the key was truncated: its full size in bytes.",
    "coursesync-key-sha256": "Present only if the key was truncated: SHA-256 of the full key, in hex.",
    "coursesync-headers-dropped": "Present only if headers of the record did not fit: the number of dropped "
    "headers.",
}
"""Every header that the daemon adds, with its meaning. The schema of the headers is generated from it."""

HEADERS_ALWAYS = (
    "coursesync-source",
    "coursesync-reason",
    "coursesync-error-code",
    "coursesync-error-message",
)


def encode_dead_letter(
    rejection: Rejection, partition: int, *, changes_topic: str, max_bytes: int = DEAD_LETTER_BYTES_MAX
) -> Encoded:
    """The record for the dead letters, at most ``max_bytes`` in total (at least 16 KiB).

    At most a quarter goes to the key and a quarter to the publisher's headers; the rest goes to the value.
    """
    assert max_bytes >= 16 * 1024, "no room for the headers that describe what was truncated"
    headers = [
        ("coursesync-source", f"{changes_topic}/{partition}/{rejection.offset}".encode()),
        ("coursesync-reason", rejection.reason.value.encode()),
        ("coursesync-error-code", truncated(rejection.error.code or "", ERROR_CODE_CHARS_MAX).encode()),
        (
            "coursesync-error-message",
            truncated(rejection.error.message, _REASON_MAX).encode("utf-8", "replace"),
        ),
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
    """Full size and digest of a truncated part, so that the original can be identified."""
    return [
        (f"{PREFIX}{part}-size", str(len(content)).encode()),
        (f"{PREFIX}{part}-sha256", hashlib.sha256(content).hexdigest().encode()),
    ]


def _fitting(
    headers: tuple[tuple[str, bytes | None], ...], bytes_max: int
) -> tuple[tuple[tuple[str, bytes | None], ...], int]:
    """The publisher's headers in order, as many as fit, and the number of those that do not fit.

    A dead letter that was published again by hand still has the daemon's headers of the first time. They are removed,
    because otherwise both the old and the new reason would be present. Those of a repeat (R20) stay: a change that is published again
    from here by hand remains guarded.
    """
    own = [header for header in headers if header[0] not in HEADERS]
    size = 0
    for count, header in enumerate(own):
        size += _size((header,))
        if size > bytes_max:
            return tuple(own[:count]), len(own) - count
    return tuple(own), 0


def _size(headers: tuple[tuple[str, bytes | None], ...]) -> int:
    return sum(len(name.encode()) + len(content or b"") + _PER_HEADER for name, content in headers)
