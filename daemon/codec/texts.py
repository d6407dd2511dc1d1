"""Texts for records, messages and logs: truncated to a length, excerpts of content, and descriptions of errors."""

from __future__ import annotations

ERROR_CHARS_MAX = 500
"""The length of an error in a message of the runtime."""
EXCERPT_MAX = 100
"""Characters of an excerpt."""


def truncated(text: str, chars_max: int) -> str:
    """At most `chars_max` characters. The last one is an ellipsis if the text was truncated."""
    return text if len(text) <= chars_max else text[: chars_max - 1] + "…"


def excerpt(raw: bytes) -> str:
    """The content for a message: bounded, on one line."""
    text = raw[: EXCERPT_MAX * 4].decode("utf-8", "backslashreplace")
    shown = "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
    return truncated(shown, EXCERPT_MAX)


def describe(error: BaseException, chars_max: int | None = None) -> str:
    """Type and text of the error, at most `chars_max` characters of them."""
    return f"{type(error).__name__}: {error}"[:chars_max]


def escaped(text: str) -> str:
    r"""The text on one line, with an escape such as ``\x9b`` or ``\u202e`` for each character that is not printable: control
    characters, which a terminal obeys, and those that change the direction of the text.
    """
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _escape(ord(character)) for character in text)


def _escape(code: int) -> str:
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
