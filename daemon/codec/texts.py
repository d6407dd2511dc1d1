"""Texts for records, messages and logs: truncated to a length, and descriptions of errors."""

from __future__ import annotations

ERROR_CHARS_MAX = 500
"""The length of an error in a message of the runtime."""


def truncated(text: str, chars_max: int) -> str:
    """At most `chars_max` characters. The last one is an ellipsis if the text was truncated."""
    return text if len(text) <= chars_max else text[: chars_max - 1] + "…"


def describe(error: BaseException, chars_max: int | None = None) -> str:
    """Type and text of the error, at most `chars_max` characters of them."""
    return f"{type(error).__name__}: {error}"[:chars_max]
