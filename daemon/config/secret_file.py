"""Reading a secret from its file, for every setting that names one. The secret is never part of an error."""

from __future__ import annotations

import codecs
from pathlib import Path

from daemon.config.units import shown_path

BYTES_MAX = 4096
"""Passwords, keys and client secrets are shorter; a larger file is the wrong file."""

_MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class SecretError(ValueError):
    """The file contains no usable secret. The message names the file and the remedy."""


def read_secret(path: Path) -> str:
    """The one line of the file. A line ending after it does not belong to the secret; everything else does.

    Raises:
        SecretError: the file cannot be read, or contains something else than one line of text.
    """
    try:
        with path.open("rb") as file:
            content = file.read(BYTES_MAX + 1)
    except OSError as error:
        raise SecretError(
            f"the file{shown_path(str(path))} cannot be read: {error.strerror}; set the path of a file, not its content, and "
            "mount the secret there, readable by this user"
        ) from None
    if mistake := _mistake(content):
        raise SecretError(
            f"the file{shown_path(str(path))} {mistake}; write the secret into it as one line of UTF-8 text, and nothing else"
        )
    return _line(content)


def _mistake(content: bytes) -> str | None:
    if not content.strip():
        return "is empty"
    if content.startswith(_MARKS):
        return (
            "begins with a byte order mark, which some editors add and which would become part of the secret"
        )
    if len(content) > BYTES_MAX:
        return f"has more than {BYTES_MAX} bytes, so it is not a secret"
    try:
        line = _line(content)
    except UnicodeDecodeError:
        return "is not UTF-8 text"
    if "\n" in line or "\r" in line:
        return "has more than one line, or an empty line at its end"
    if not line.isprintable():
        return "contains control characters"
    return None


def _line(content: bytes) -> str:
    return content.decode("utf-8").removesuffix("\n").removesuffix("\r")
