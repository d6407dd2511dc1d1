"""Which errors of the input consumer end the process, and how long the others are tolerated.

Errors that the library calls retriable are transient, however long they last. Errors that no retry can fix are fatal:
invalid settings, missing rights, incompatible versions. In between are errors that a broker in trouble may answer (an
unknown member or broker, an old generation, "unknown server error"). They are usually transient and are tolerated for a
while.
"""

from __future__ import annotations

from kafka import errors as e

FATAL: tuple[type[e.KafkaError], ...] = (
    e.AuthorizationError,
    e.FencedInstanceIdError,
    e.GroupMaxSizeReachedError,
    e.IllegalArgumentError,
    e.IllegalSaslStateError,
    e.IllegalStateError,
    e.InvalidGroupIdError,
    e.InvalidSessionTimeoutError,
    e.InvalidTopicError,
    e.KafkaConfigurationError,
    e.SaslAuthenticationFailedError,
    e.UnrecognizedBrokerVersion,
    e.UnsupportedCodecError,
    e.UnsupportedCompressionTypeError,
    e.UnsupportedSaslMechanismError,
    e.UnsupportedVersionError,
)

UNEXPLAINED_MAX = 60.0
"""Seconds for which an error is tolerated that is neither retriable nor fatal. A broker restart or a leader election
takes less."""
QUIET = 15.0
"""Seconds without an error after which it counts as over. A single poll may return no error because the request that
will fail is still in flight."""


def is_fatal(error: e.KafkaError) -> bool:
    """Whether no retry can help. The library raises a bare KafkaError for an exception in a rebalance listener."""
    return isinstance(error, FATAL) or type(error) is e.KafkaError


class Streak:
    """For how long an error has been recurring."""

    def __init__(self) -> None:
        self._began = self._last = float("-inf")

    def note(self, now: float) -> float:
        """Record one more occurrence. Returns the seconds since the first."""
        if now - self._last > QUIET:
            self._began = now
        self._last = now
        return now - self._began
