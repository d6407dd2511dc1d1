"""Keeps secrets out of the texts of answers, which reach logs, results and the journal.

The error page of a proxy may quote our header. It is not enough to look for the secret in the bytes of an answer:
JSON, URLs and HTML have several ways to write each character. So the *decoded* texts are searched, for all of these
ways and for Base64, before they are truncated: half a secret would not be found.
"""

from __future__ import annotations

import html
import re
from base64 import b64encode, urlsafe_b64encode
from functools import lru_cache
from urllib.parse import unquote

from daemon.codec.texts import truncated

SECRET_CHARS_MIN = 6
"""Shorter secrets occur only in tests. Replacing it would also replace ordinary words."""
SHOWN_AS = "[secret]"
_JSON_ESCAPE = re.compile(r"\\{1,8}u00([0-9a-fA-F]{2})")
_BACKSLASHES_MAX = 8
"""JSON in JSON in JSON."""


class Redactor:
    """Replaces these secrets in texts. Create it with `redactor`, which keeps the latest."""

    def __init__(self, *secrets: str) -> None:
        forms = [form for secret in secrets if len(secret) >= SECRET_CHARS_MIN for form in _forms(secret)]
        self._forms = tuple(dict.fromkeys(forms))
        self._pattern = re.compile("|".join(map(_spelled, self._forms)))
        self._chars_max = max(map(len, self._forms), default=0) * len("u0000" + "\\" * _BACKSLASHES_MAX)
        """Of one secret in a text."""
        self._chars_min = min(map(len, self._forms), default=0)
        """A shorter text contains no secret: no way to write a character takes less than one."""

    def __call__(self, text: str, chars_max: int) -> str:
        """The text without secrets, truncated to `chars_max`. Does not read much more of it than that."""
        if not self._forms:
            return truncated(text, chars_max)
        found: list[str] = []
        size = start = 0
        while size <= chars_max and start < len(text):
            end = start + chars_max - size + 1
            match = self._search(text, start, end + self._chars_max)
            if match is None:
                found.append(text[start:end])
                break
            found += text[start : match[0]], SHOWN_AS
            size += match[0] - start + len(SHOWN_AS)
            start = match[1]
        return truncated("".join(found), chars_max)

    def quotes(self, text: str) -> bool:
        """Whether the text contains a secret."""
        return bool(self._forms) and self._search(text, 0, len(text)) is not None

    def _search(self, text: str, start: int, end: int) -> tuple[int, int] | None:
        window = text[start:end]
        if len(window) < self._chars_min:
            return None
        if not self._occurs_in(window):
            unescaped = _unescaped(window)
            if unescaped == window or not self._occurs_in(unescaped):
                return None  # almost always; the pattern is slow
        match = self._pattern.search(text, start, end)
        return None if match is None else match.span()

    def _occurs_in(self, text: str) -> bool:
        for form in self._forms:  # noqa: SIM110 - a generator takes twice as long, for each id in an answer
            if form in text:
                return True
        return False


@lru_cache(maxsize=2)
def redactor(*secrets: str) -> Redactor:
    return Redactor(*secrets)


def _forms(secret: str) -> list[str]:
    """The secret itself, and what Base64 makes of it in the middle of another text."""
    encoded = [secret]
    for before in range(3):  # Base64 encodes three bytes at a time
        data = b"\0" * before + secret.encode()
        first, end = (
            (0, 2, 3)[before],
            len(data) * 8 // 6,
        )  # without characters that depend on the text around
        encoded += b64encode(data).decode()[first:end], urlsafe_b64encode(data).decode()[first:end]
    return encoded


def _unescaped(text: str) -> str:
    if "\\" in text:
        text = _JSON_ESCAPE.sub(lambda match: chr(int(match[1], 16)), text).replace("\\", "")
    return html.unescape(unquote(text))


def _spelled(form: str) -> str:
    """A pattern for the text in any mixture of plain, JSON-escaped, percent-encoded and HTML-escaped characters."""
    return "".join(_character(char) for char in form)


def _character(char: str) -> str:
    code = ord(char)
    plain = re.escape(char)
    named = re.escape(html.escape(char))  # the character itself, unless HTML has a name for it
    percent = "".join(f"%{byte:02x}" for byte in char.encode())
    return (
        rf"(?:\\{{0,{_BACKSLASHES_MAX}}}(?:{plain}|u{_hex(f'{code:04x}')})"
        rf"|{_hex(percent)}|{named}|&#(?:{code}|[xX]0{{0,4}}{_hex(f'{code:x}')});)"
    )


def _hex(digits: str) -> str:
    """A pattern for hexadecimal digits of both cases."""
    return "".join(f"[{char}{char.upper()}]" if char.isalpha() else char for char in digits)


NO_SECRETS = Redactor()
