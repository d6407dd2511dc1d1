"""Who may do something: sign-in with a token, sessions, and tokens against forged forms (CSRF).

How it works. Reading needs nothing. The token is one line in a file; whoever signs in with it says who they are, and that name is
written into every decision, as that of `coursesyncd pause --by`. A session is a signed cookie, so nothing is kept here. The key
of the signature is made of a random number of this process and of the token: another token in the file, and a restart, end all
sessions. A form carries a token that is derived from the cookie of the visitor who loaded it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections import deque
from collections.abc import Callable
from pathlib import Path

import msgspec

from daemon.config.secret_file import SecretError, read_secret

TOKEN_CHARS_MIN = 16
"""A shorter token could be guessed."""
SESSION_SECONDS = 8 * 3600
WHO_MAX = 100
"""Characters of a name."""
FAILURES_MAX = 10
FAILURES_SECONDS = 60.0
"""So many wrong tokens are looked at in this time; a token that fits is then refused, too."""


class AccessError(Exception):
    """Why somebody is not let in, for them."""


class Session(msgspec.Struct, frozen=True):
    who: str
    ends_at: int
    """Wall clock, seconds."""
    visit: str


class Access:
    """`clock`: wall clock in seconds."""

    def __init__(self, token_file: Path | None, clock: Callable[[], float]) -> None:
        self._token_file = token_file
        self._clock = clock
        self._random = secrets.token_bytes(32)
        self._failures: deque[float] = deque(maxlen=FAILURES_MAX)

    @property
    def is_possible(self) -> bool:
        """Whether anybody can do anything."""
        return self._token_file is not None

    def token(self) -> str:
        """The token in the file, as it is now.

        Raises:
            AccessError: there is none that can be used.
        """
        if self._token_file is None:
            raise AccessError("Actions are switched off: this console was started without --token-file.")
        try:
            token = read_secret(self._token_file)
        except SecretError as error:
            raise AccessError(f"--token-file: {error}") from None
        if len(token) < TOKEN_CHARS_MIN:
            raise AccessError(
                f"--token-file: the token has {len(token)} characters, and must have at least {TOKEN_CHARS_MIN}; "
                "for example, write the output of `openssl rand -hex 32` into the file"
            )
        return token

    def sign_in(self, who: str, token: str, visit: str) -> str:
        """The cookie of the session.

        Raises:
            AccessError: the token or the name is not accepted.
        """
        name, now, expected = who.strip(), self._clock(), self.token()
        if len(self._failures) == FAILURES_MAX and now - self._failures[0] < FAILURES_SECONDS:
            raise AccessError("Too many wrong tokens. Try again in a minute.")
        if not hmac.compare_digest(token.strip().encode(errors="replace"), expected.encode()):
            self._failures.append(now)
            raise AccessError("This is not the token of this console.")
        if not 1 <= len(name) <= WHO_MAX or not name.isprintable():
            raise AccessError(
                f"Say who you are, in 1 to {WHO_MAX} characters: your name is written into each decision."
            )
        session = Session(name, int(now) + SESSION_SECONDS, visit)
        text = base64.urlsafe_b64encode(msgspec.json.encode(session)).decode()
        return f"{text}.{self._signature('session', text)}"

    def session(self, cookie: str | None, visit: str | None) -> Session | None:
        """The session of this cookie; None if there is none, or it has ended."""
        text, _, signature = (cookie or "").partition(".")
        try:
            if not hmac.compare_digest(
                self._signature("session", text).encode(), signature.encode(errors="replace")
            ):
                return None
            session = msgspec.json.decode(base64.urlsafe_b64decode(text), type=Session)
        except (AccessError, ValueError):
            return None
        if session.ends_at <= self._clock() or session.visit != visit:
            return None
        return session

    def form_token(self, visit: str) -> str:
        """What the forms of this visitor carry."""
        digest = hmac.new(self._random, f"form:{visit}".encode(), hashlib.sha256)
        return digest.hexdigest()

    def is_own_form(self, visit: str | None, form_token: str) -> bool:
        """Whether the form was made by this console for this visitor."""
        return visit is not None and hmac.compare_digest(
            self.form_token(visit).encode(), form_token.encode(errors="replace")
        )

    def _signature(self, what: str, text: str) -> str:
        key = self._random + self.token().encode()
        return hmac.new(key, f"{what}:{text}".encode(), hashlib.sha256).hexdigest()


def new_visit() -> str:
    return secrets.token_urlsafe(18)
