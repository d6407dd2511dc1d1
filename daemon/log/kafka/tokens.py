"""Tokens for the login OAUTHBEARER, which `AWS_MSK_IAM` uses as well.

The client asks for a token on its I/O thread, which also sends the heartbeats. So a token is fetched in a thread of its
own, and renewed when four fifths of its lifetime are over. A client that asks then waits for the new one for at most
`RENEWAL_WAIT_MAX`, and gets the old one otherwise. A client without a valid token waits for at most `WAIT_MAX`. All clients of a
process share the token.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import structlog
from kafka.errors import KafkaConnectionError
from kafka.net.sasl.oauth import AbstractTokenProvider

_log = structlog.get_logger(__name__)

WAIT_MAX = 10.0
"""Seconds for which a client without a token waits for one."""
RENEWAL_WAIT_MAX = 1.0
"""Seconds for which a client with a token waits for its renewal."""
RENEW_AT = 0.8
"""Share of the lifetime after which a token is renewed, as in Java's client."""
RETRY_PAUSE = 2.0
"""Seconds between a failed attempt and the next one. Clients that cannot connect ask again every second."""

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*", re.ASCII)
"""RFC 6750. Anything else could end the message in which it is sent."""


@dataclass(frozen=True, slots=True)
class Token:
    value: str = field(repr=False)
    lifetime: float
    """Seconds from now."""


class TokenError(KafkaConnectionError):  # type: ignore[misc]
    """There is no token. The message says why, and what to do."""

    def __str__(self) -> str:
        return str(self.args[0])


class TokenProvider(AbstractTokenProvider):  # type: ignore[misc]
    """`fetch` blocks and may raise TokenError. Thread-safe."""

    def __init__(self, fetch: Callable[[], Token], extensions: Mapping[str, str]) -> None:
        self._fetch = fetch
        self._extensions = dict(extensions)
        self._lock = threading.Lock()
        self._fetching: threading.Event | None = None
        self._problem: str | None = None
        self._token = ""
        self._renew_at = self._expires_at = self._retry_at = float("-inf")

    def token(self) -> str:
        """A token that has not expired.

        Raises:
            TokenError: there is none.
        """
        with self._lock:
            now = time.monotonic()
            if self._fetching is None and now >= max(self._renew_at, self._retry_at):
                self._fetching = threading.Event()
                threading.Thread(target=self._renew, name="kafka-token", daemon=True).start()
            fetching, valid = self._fetching, now < self._expires_at
        in_time = fetching is None or fetching.wait(RENEWAL_WAIT_MAX if valid else WAIT_MAX)
        with self._lock:
            if time.monotonic() < self._expires_at:
                return self._token
            if not in_time:
                raise TokenError(f"no token has arrived within {WAIT_MAX:.0f} s")
            if self._problem is not None:
                raise TokenError(self._problem)
            return self._token  # of unknown lifetime

    def extensions(self) -> Mapping[str, str]:
        return self._extensions

    def _renew(self) -> None:
        began = time.monotonic()
        token: Token | None = None
        problem: str | None = None
        try:
            token = self._fetch()
            if not _TOKEN.fullmatch(token.value):
                problem = "the token that arrived has characters that no token may have"
        except TokenError as error:
            problem = str(error)
        except Exception as error:  # of a library; its text may contain anything
            problem = f"fetching a token failed: {type(error).__name__}"
        with self._lock:
            self._problem = problem
            if token is not None and problem is None:
                self._token = token.value
                self._renew_at = began + RENEW_AT * token.lifetime
                self._expires_at = began + token.lifetime
            else:
                self._retry_at = time.monotonic() + RETRY_PAUSE
            fetching, self._fetching = self._fetching, None
        if problem is not None:
            _log.warning("kafka.token_failed", error=problem)
        if fetching is not None:
            fetching.set()
