"""The digest of a course's content: equal for courses that mean the same, different for all others.

The same meaning is what `docs/kombo-api.md`, "Equivalent bodies", says: an optional field is null or absent, the languages
after the first one are in any order, and the host name of a URL is in upper or lower case. Everything else makes another
course. An empty list of languages is not null, and a repeated language counts.
"""

from __future__ import annotations

import hashlib

import msgspec
from msgspec import UNSET, UnsetType

from daemon.codec.change import Course
from daemon.core.upsert import HOST

CONTENT_BYTES = 16
"""Only the contents of one course are compared with each other, so this is far more than enough."""

_VERSION = 1
"""Part of every digest. Raise it when the same course shall have another digest: each course is then sent once more."""

_encode = msgspec.json.Encoder().encode


def content_digest(course: Course) -> bytes:
    """`CONTENT_BYTES` bytes."""
    thumbnail_url, languages = course.thumbnail_url, course.languages
    meaning = (
        _VERSION,
        course.type,
        course.title,
        _with_lower_host(course.course_url),
        _present(course.description),
        _with_lower_host(thumbnail_url) if isinstance(thumbnail_url, str) else None,
        _present(course.duration),
        [*languages[:1], *sorted(languages[1:])] if isinstance(languages, list) else None,
    )
    return hashlib.blake2b(_encode(meaning), digest_size=CONTENT_BYTES).digest()


def _present(value: str | int | UnsetType | None) -> str | int | None:
    return None if value is UNSET else value


def _with_lower_host(url: str) -> str:
    path = url.find("/", len("https://"))
    if path > 0 and url[:path].islower():  # as nearly always; the expression takes longer
        return url
    match = HOST.match(url)
    if match is None:
        return url
    host = match[1]
    if not host.isascii():  # only ASCII letters have an upper case that means the same
        lower = "".join([char.lower() if char.isascii() else char for char in host])
    else:
        lower = host.lower()
    return url[: match.start(1)] + lower + url[match.end(1) :]
