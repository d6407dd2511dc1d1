"""Which errors of the input consumer end the process, and for how long the others are borne.

What the library calls retriable passes by itself, however long it takes. What no further attempt can cure is
fatal: the settings, the rights and the versions of both sides. Between the two lies what a broker in trouble
may answer (an unknown member or broker, an old generation, "unknown server error"): it passes as a rule, and is
borne for a while.
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
"""Seconds for which an error is borne that is neither retriable nor fatal. A broker's restart takes less, and
so does its being elected anew."""
QUIET = 15.0
"""Seconds without an error after which it has passed. Single polls bring nothing and no error while the request
that will fail is under way."""


def is_fatal(error: e.KafkaError) -> bool:
    """A bare KafkaError is what the library makes of an exception in a rebalance listener."""
    return isinstance(error, FATAL) or type(error) is e.KafkaError


class Streak:
    """For how long an error has been coming again and again."""

    def __init__(self) -> None:
        self._began = self._last = float("-inf")

    def note(self, now: float) -> float:
        """It has come once more; seconds since the first time."""
        if now - self._last > QUIET:
            self._began = now
        self._last = now
        return now - self._began
