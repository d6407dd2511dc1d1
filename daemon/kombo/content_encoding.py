"""Content encodings of answers. We ask for none, but a proxy may compress an answer all the same.

A POST whose answer is never understood is retried indefinitely, so everything that the standard library can
decode is decoded: gzip and deflate, in both of the forms that servers use. The result is bounded while it is made: a
few kilobytes can decompress to gigabytes.
"""

from __future__ import annotations

import zlib

_LAYERS_MAX = 3
"""Encodings on top of each other. Two are a mistake of a proxy; more are an attack."""
_MEMBERS_MAX = 16
"""A gzip file may consist of several. Servers send one."""
_GZIP, _ZLIB, _RAW = 31, 15, -15
"""What zlib is to expect around the compressed data."""


class AnswerTooLargeError(Exception):
    """The body is longer than the call allows."""

    def __init__(self, status: int, bytes_max: int) -> None:
        super().__init__(f"HTTP {status} with a body of more than {bytes_max} bytes")


class ContentEncodingError(Exception):
    """The body cannot be decoded. The message names the encoding."""


def decoded(status: int, encodings: str, body: bytes, bytes_max: int) -> bytes:
    """The content of an answer.

    Args:
        status: for the messages.
        encodings: the field ``Content-Encoding``, empty if there is none.
        body: as received.
        bytes_max: maximum size of the content, and of what is between two encodings.

    Raises:
        AnswerTooLargeError: the content is larger.
        ContentEncodingError: an encoding is unknown, or the body is damaged.
    """
    names = [name for each in encodings.split(",") if (name := each.strip().lower()) not in ("", "identity")]
    if len(names) > _LAYERS_MAX:
        raise ContentEncodingError(f"HTTP {status} in {len(names)} content encodings")
    for name in reversed(names):
        try:
            if name in ("gzip", "x-gzip"):
                body = _inflated(body, _GZIP, bytes_max)
            elif name == "deflate":
                body = _inflated(body, _ZLIB if _has_zlib_header(body) else _RAW, bytes_max)
            else:
                raise ContentEncodingError(
                    f"HTTP {status} in content encoding {name!r}, which cannot be decoded"
                )
        except (zlib.error, EOFError) as error:
            raise ContentEncodingError(
                f"HTTP {status} in content encoding {name!r}, but the body is damaged: {error}"
            ) from None
        except OverflowError:
            raise AnswerTooLargeError(status, bytes_max) from None
    return body


def _inflated(data: bytes, form: int, bytes_max: int) -> bytes:
    """Raises zlib.error, EOFError if the data is truncated, OverflowError if the result is too large."""
    parts: list[bytes] = []
    size = 0
    for _ in range(_MEMBERS_MAX):
        stream = zlib.decompressobj(form)
        part = stream.decompress(data, bytes_max - size + 1)
        size += len(part)
        if size > bytes_max:
            raise OverflowError
        if not stream.eof:
            raise EOFError("it is truncated")
        parts.append(part)
        data = stream.unused_data.lstrip(b"\0")  # gzip allows padding
        if not data:
            return b"".join(parts)
        if form != _GZIP:
            break
    raise EOFError("it goes on after its end")


def _has_zlib_header(data: bytes) -> bool:
    """RFC 1950. Some servers send the bare data of RFC 1951 as ``deflate``."""
    return len(data) >= 2 and data[0] & 0x0F == 8 and int.from_bytes(data[:2], "big") % 31 == 0
